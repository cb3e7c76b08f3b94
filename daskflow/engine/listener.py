"""What the engine tells of a run while it goes: to the person before the terminal, to the page of the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from daskflow.engine.frontier import Planned
    from daskflow.pathspec import TaskName
    from daskflow.store.chunks import Chunk
    from daskflow.store.records import TaskRecord
    from daskflow.task.spec import TaskResult, TaskSpec


class Listener(Protocol):
    """Is told what happens, from several threads, and must neither wait nor raise."""

    def planned(self, region: Iterable[Planned]) -> None:
        """These tasks wait for their turn; some have waited before."""
        ...

    def started(self, spec: TaskSpec, pid: int, count: int = 1, host: str = "") -> None:
        """A task's process runs on a machine; in it so many run, one after the other."""
        ...

    def lines(self, spec: TaskSpec, pid: int, stream: str, lines: Sequence[str]) -> None:
        """A task has written lines."""
        ...

    def progress(self, spec: TaskSpec, done: int) -> None:
        """Of the tasks that share a process with this one so many are done."""
        ...

    def lost(self, spec: TaskSpec) -> None:
        """The worker is lost where a process ran, for these tasks or for them and others: it ends there, and starts elsewhere."""
        ...

    def committed(self, found: TaskRecord | Chunk, process: str = "") -> None:
        """Tasks are in the store. See :meth:`daskflow.task.output.Sink.committed`."""
        ...

    def finished(self, results: Sequence[TaskResult], again: Container[TaskName] = ()) -> None:
        """Tasks are over, or wait for their next turn; what was committed was told before, unless nobody could."""
        ...

    def notice(self, text: str) -> None:
        """Something the user should know about the run."""
        ...


class Listeners(Listener):
    """Several of them, one after the other."""

    def __init__(self, *each: Listener) -> None:
        self._each = each

    def planned(self, region: Iterable[Planned]) -> None:
        """See :class:`Listener`."""
        known = list(region)
        for each in self._each:
            each.planned(known)

    def started(self, spec: TaskSpec, pid: int, count: int = 1, host: str = "") -> None:
        """See :class:`Listener`."""
        for each in self._each:
            each.started(spec, pid, count, host)

    def lines(self, spec: TaskSpec, pid: int, stream: str, lines: Sequence[str]) -> None:
        """See :class:`Listener`."""
        for each in self._each:
            each.lines(spec, pid, stream, lines)

    def progress(self, spec: TaskSpec, done: int) -> None:
        """See :class:`Listener`."""
        for each in self._each:
            each.progress(spec, done)

    def lost(self, spec: TaskSpec) -> None:
        """See :class:`Listener`."""
        for each in self._each:
            each.lost(spec)

    def committed(self, found: TaskRecord | Chunk, process: str = "") -> None:
        """See :class:`Listener`."""
        for each in self._each:
            each.committed(found, process)

    def finished(self, results: Sequence[TaskResult], again: Container[TaskName] = ()) -> None:
        """See :class:`Listener`."""
        for each in self._each:
            each.finished(results, again)

    def notice(self, text: str) -> None:
        """See :class:`Listener`."""
        for each in self._each:
            each.notice(text)
