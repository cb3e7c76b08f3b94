"""What a person sees of a run while it runs.

Everything is printed by one thread of its own: whoever reads the output may stop reading or go away, and neither the run
nor a step waits for him. What can't be shown then is in the logs.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TextIO

from daskflow.engine.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from daskflow.engine.frontier import Planned
    from daskflow.pathspec import TaskName
    from daskflow.store.chunks import Chunk
    from daskflow.store.records import TaskRecord
    from daskflow.task.spec import TaskResult, TaskSpec

BACKLOG = 20_000
"""Lines that wait for a slow reader before any of a task's are left out; the run's own words never are."""
_OF_TASKS = ("stdout", "stderr", "system")
PATIENCE_SECONDS = 2.0
"""How long the end of a run waits for its reader."""
REFRESH_SECONDS = 0.1


@dataclass
class StepState:
    """How far a step is.

    Attributes
    ----------
    waiting, running, done, failed, stopped, not_run
        Numbers of tasks. One that was stopped was ended with the run; what waits when the run ends is not run.
    began, ended
        Monotonic seconds of its first start and its last end; None before.
    """

    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    stopped: int = 0
    not_run: int = 0
    began: float | None = None
    ended: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since its first task started, until its last one ended."""
        if self.began is None:
            return 0.0
        still = self.running or self.waiting
        return (time.monotonic() if still or self.ended is None else self.ended) - self.began


class Display(Protocol):
    """Puts lines and states before a person's eyes; called by one thread only."""

    def line(self, label: str, stream: str, text: str) -> None:
        """One line; ``label`` says whose."""
        ...

    def refresh(self, steps: dict[str, StepState]) -> None:
        """The states have changed, or time has passed."""
        ...

    def close(self, steps: dict[str, StepState]) -> None:
        """The states are final; what lines follow stand below them."""
        ...


class Plain:
    """Time-stamped lines ``<time> [run/step/task (pid N)] text``."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def line(self, label: str, stream: str, text: str) -> None:
        """Print one line."""
        now = datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        self._out.write(f"{now} [{label}] {text}\n" if label else f"{now} {text}\n")

    def refresh(self, steps: dict[str, StepState]) -> None:
        """Let what was printed be seen."""
        self._out.flush()

    def close(self, steps: dict[str, StepState]) -> None:
        """Let what was printed be seen."""
        self._out.flush()


@dataclass(frozen=True)
class _Line:
    label: str
    stream: str
    text: str


_STATES_ARE_FINAL = _Line("", "", "")
_END = {"committed": "done", "failed": "failed"}


@dataclass
class _Steps:
    """The states of all steps; changed by worker threads, read by the printing one."""

    states: dict[str, StepState] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def change(self, step: str, **by: int) -> None:
        now = time.monotonic()
        with self.lock:
            state = self.states.setdefault(step, StepState())
            for name, amount in by.items():
                setattr(state, name, max(0, getattr(state, name) + amount))
            if by.get("running", 0) > 0:
                state.began = state.began if state.began is not None else now
            else:
                state.ended = now

    def end(self) -> None:
        """Nothing that waits will run."""
        with self.lock:
            for state in self.states.values():
                state.not_run += state.waiting
                state.waiting = 0


class Console(Listener):
    """A run's display."""

    def __init__(self, run: str, display: Display) -> None:
        self._run = run
        self._display = display
        self._steps = _Steps()
        self._queue: queue.SimpleQueue[_Line | threading.Event | None] = queue.SimpleQueue()
        self._left_out = 0
        self._shown = 0
        self._running: set[TaskName] = set()
        self._gone = False
        self._closed = False
        self._thread = threading.Thread(target=self._print_all, name="daskflow-console", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """A line of the run's own."""
        for line in text.splitlines() or [""]:
            self._put(_Line("", "", line))

    def notice(self, text: str) -> None:
        """Something the user should know about the run, after it also: of how its cluster ends."""
        if self._closed:
            with contextlib.suppress(OSError, ValueError):
                print(text, file=sys.stderr, flush=True)  # noqa: T201 - nobody else shows it
        else:
            self._put(_Line(self._run, "notice", text))

    def started(self, spec: TaskSpec, pid: int, count: int = 1, host: str = "") -> None:
        """A task's process runs; in it so many run, one after the other."""
        if spec.name not in self._running:  # else its fork server or worker has died, and it starts once more
            self._running.add(spec.name)
            self._steps.change(spec.name.step, waiting=-1, running=1)
        what = "Task is starting." if count == 1 else f"{count} tasks are starting, one after the other."
        label = f"{self._run}/{spec.tasks} (pid {pid})"
        self._put(_Line(label, "system", what))

    def lines(self, spec: TaskSpec, pid: int, stream: str, lines: Sequence[str]) -> None:
        """A task has written lines."""
        label = self._label(spec, pid)
        for line in lines:
            self._put(_Line(label, stream, line))

    def progress(self, spec: TaskSpec, done: int) -> None:
        """Not shown."""

    def lost(self, spec: TaskSpec) -> None:
        """A notice says it."""

    def committed(self, found: TaskRecord | Chunk, process: str = "") -> None:
        """What is over is counted when the driver knows it."""

    def planned(self, region: Iterable[Planned]) -> None:
        """These tasks wait for their turn; some have waited before."""
        counts: Counter[str] = Counter()
        for task in region:
            counts[task.spec.name.step] += 0 if task.again else task.spec.count
        for step, count in counts.items():
            self._steps.change(step, waiting=count)

    def finished(self, results: Sequence[TaskResult], again: Container[TaskName] = ()) -> None:
        """Tasks are over, or wait for their next turn; of those that share a process one is counted as running."""
        changes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for result in results:
            change = changes[result.name.step]
            running = result.name in self._running
            self._running.discard(result.name)
            change["running"] -= running
            change["waiting"] -= result.count - running
            now = "waiting" if result.name in again else _END.get(result.status, "waiting")
            change["stopped" if result.stopped else now] += result.count
        for step, change in changes.items():
            if any(change.values()):
                self._steps.change(step, **change)

    def lines_only(self) -> None:
        """Leave the steps' states as they are: what is said from here on stands below them."""
        self._put(_STATES_ARE_FINAL)

    def settle(self) -> None:
        """Wait until all lines so far are shown: something else is about to write to the same place."""
        shown = threading.Event()
        self._queue.put(shown)
        shown.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        """Show the rest, if its reader is still there."""
        self._closed = True
        self._queue.put(None)
        shown = -1
        while (
            self._thread.is_alive() and shown != self._shown
        ):  # else its reader has stopped reading; the logs have it all
            shown = self._shown
            self._thread.join(PATIENCE_SECONDS)

    def _label(self, spec: TaskSpec, pid: int) -> str:
        return f"{self._run}/{spec.name} (pid {pid})" if pid else f"{self._run}/{spec.name}"

    def _put(self, line: _Line) -> None:
        if self._gone:
            return
        if line.stream in _OF_TASKS and self._queue.qsize() >= BACKLOG:
            self._left_out += 1
        else:
            self._queue.put(line)

    def _print_all(self) -> None:
        try:
            self._print_until_the_end()
        except (OSError, ValueError):  # the reader has gone, as with `| head`
            self._gone = True

    def _print_until_the_end(self) -> None:
        over = False
        while not over:
            for line in self._batch():
                if line is None:
                    over = True
                    break
                if isinstance(line, threading.Event):
                    self._display.refresh(self._steps.states)
                    line.set()
                    continue
                if line is _STATES_ARE_FINAL:
                    self._end_states()
                    continue
                self._display.line(line.label, line.stream, line.text)
                self._shown += 1
            if self._left_out and self._queue.empty():
                count, self._left_out = self._left_out, 0
                self._display.line(
                    self._run, "notice", f"{count} lines were not shown here; they are in the logs."
                )
            self._display.refresh(self._steps.states)
        self._end_states()

    def _end_states(self) -> None:
        self._steps.end()
        self._display.close(self._steps.states)

    def _batch(self) -> list[_Line | threading.Event | None]:
        """What has come: at least one line, or nothing after a short while."""
        try:
            found = [self._queue.get(timeout=REFRESH_SECONDS)]
        except queue.Empty:
            return []
        for _ in range(1000):
            try:
                found.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return found


def display_for(out: TextIO | None = None) -> Display:
    """Live lines on a terminal, plain lines elsewhere."""
    out = out or sys.stdout
    if out.isatty():
        from daskflow.engine.live import Live

        return Live(out)
    return Plain(out)
