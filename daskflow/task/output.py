"""What tasks write: to whoever watches, and to their logs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from daskflow.store.logs import Lines, LogWriter
from daskflow.store.records import timestamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskflow.store.chunks import Chunk
    from daskflow.store.records import Log, TaskRecord
    from daskflow.store.runs import RunStore
    from daskflow.task.spec import TaskSpec


class Sink(Protocol):
    """Where a worker tells what goes on, while it goes on."""

    def started(self, spec: TaskSpec, pid: int, count: int = 1) -> None:
        """A task's process runs; in it ``count`` tasks are to run, of which this is the first."""
        ...

    def lines(self, spec: TaskSpec, pid: int, stream: str, lines: Sequence[str]) -> None:
        """It has written lines."""
        ...

    def notice(self, text: str) -> None:
        """Something the user should know about the run."""
        ...

    def progress(self, spec: TaskSpec, done: int) -> None:
        """Of the tasks that were told to have started with this one so many are done; they are committed later."""
        ...

    def committed(self, found: TaskRecord | Chunk, process: str = "") -> None:
        """A task is in the store, or the items of a chunk that are done.

        ``process`` is the id of the first of the tasks that shared their process.
        """
        ...


class Output:
    """What a task writes: to the sink at once, and to its log."""

    def __init__(self, spec: TaskSpec, store: RunStore, sink: Sink | None) -> None:
        self._spec = spec
        self._sink = sink
        self._pid = 0
        self._lines = {"stdout": Lines(), "stderr": Lines()}
        self._logs = {
            name: LogWriter(
                store.storage, store.layout.log(spec.name, spec.execution, name), spec.run.max_log_bytes
            )
            for name in self._lines
        }

    def started(self, pid: int) -> None:
        """The process runs."""
        self._pid = pid
        if self._sink is not None:
            self._sink.started(self._spec, pid)

    def shown_as(self, pid: int) -> None:
        """What the task writes was written by this process."""
        self._pid = pid

    def feed(self, descriptor: int, data: bytes) -> None:
        """Bytes of descriptor 1 or 2; 0 when there was nothing for a while."""
        if descriptor == 0:
            for log in self._logs.values():
                log.tick()
            return
        name = "stdout" if descriptor == 1 else "stderr"
        self._add(name, self._lines[name].feed(data))

    def say(self, name: str, line: str) -> None:
        """A line of ours in the task's log."""
        self._add(name, [*self._lines[name].end(), line])

    def tell(self, line: str) -> None:
        """A line of ours that no log can take."""
        if self._sink is not None:
            self._sink.lines(self._spec, self._pid, "stderr", [line])

    def close(self) -> dict[str, Log]:
        """End both logs; what goes into the record."""
        for name, lines in self._lines.items():
            self._add(name, lines.end())
        return {name: log.close() for name, log in self._logs.items()}

    def _add(self, name: str, lines: list[str]) -> None:
        if lines:
            self._logs[name].add(timestamp(), lines)
            if self._sink is not None:
                self._sink.lines(self._spec, self._pid, name, lines)
