"""What the loop of a run needs of a place where tasks run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from daskflow.engine.frontier import Planned
    from daskflow.pathspec import TaskName
    from daskflow.task.spec import TaskResult, Together


@dataclass(frozen=True)
class Ran:
    """What was handed over at once has ended: a task, or all that shared a process.

    Attributes
    ----------
    name
        The task, or the first of them.
    results
        How each of them went, neighbours as one.
    """

    name: TaskName
    results: Sequence[TaskResult]


class Executor(Protocol):
    """Runs tasks, each after those that are upstream of it."""

    def hearing(self) -> AbstractContextManager[None]:
        """To be entered for as long as the run goes: the console hears what tasks say."""
        ...

    def submit(self, region: Sequence[Planned]) -> None:
        """Take a region; each of its tasks is in :meth:`results` once."""
        ...

    def submit_together(self, work: Together) -> None:
        """Take tasks that are to share a process."""
        ...

    @property
    def slots(self) -> int:
        """How many tasks can run at once, as far as is known; at least 1."""
        ...

    def results(self, seconds: float) -> list[Ran]:
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
