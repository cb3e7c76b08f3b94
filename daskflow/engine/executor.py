"""What the loop of a run needs of a place where tasks run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from daskflow.engine.frontier import Planned
    from daskflow.task.spec import TaskResult


class Executor(Protocol):
    """Runs tasks, each after those that are upstream of it."""

    def hearing(self) -> AbstractContextManager[None]:
        """To be entered for as long as the run goes: the console hears what tasks say."""
        ...

    def submit(self, region: Sequence[Planned]) -> None:
        """Take a region; each of its tasks is in :meth:`results` once."""
        ...

    def results(self, seconds: float) -> list[TaskResult]:
        """What has ended since the last call.

        Waits until there is something, :meth:`wake` is called, or so many seconds are over.
        Raises :class:`ClusterError` if no more will come.
        """
        ...

    def wake(self) -> None:
        """Let a waiting :meth:`results` return; from any thread."""
        ...

    def stop(self, grace: float) -> None:
        """Start no more tasks, end the running ones after ``grace`` seconds; from any thread."""
        ...

    def stopping(self, grace: float) -> str:
        """What a person who stops the run has to know."""
        ...

    def pause(self) -> None:
        """Let running tasks stand still, from any thread."""
        ...

    def go_on(self) -> None:
        """Let them run again."""
        ...
