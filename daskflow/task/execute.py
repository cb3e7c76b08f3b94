"""One attempt as the worker runs it: look whether it is done, start its process, keep its output, commit."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from daskflow.errors import DaskflowException, StoreError
from daskflow.store.layout import new_execution
from daskflow.store.logs import Lines, LogWriter
from daskflow.store.records import TaskRecord, timestamp
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.task import hazards
from daskflow.task.launcher import Launcher, LauncherDied, signal_name
from daskflow.task.spec import RunContext, TaskResult, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskflow.flow.spec import FlowSpec
    from daskflow.store.records import Log
    from daskflow.task.code import Code
    from daskflow.task.launcher import Ended

_Key = tuple[str, str, str, int]

LAUNCHER_DEATHS = 3
"""How often a task may lose the process that started it before it fails."""
LARGE_RESIDENT = 500 << 20


class Sink(Protocol):
    """Where a worker tells what goes on, while it goes on."""

    def started(self, spec: TaskSpec, pid: int) -> None:
        """A task's process runs."""
        ...

    def lines(self, spec: TaskSpec, pid: int, stream: str, lines: Sequence[str]) -> None:
        """It has written lines."""
        ...

    def notice(self, text: str) -> None:
        """Something the user should know about the run."""
        ...


class RunStopped(DaskflowException):
    """No task of the run is to start any more."""

    headline = "The run was stopped"


class Launchers:
    """The launchers of this process, one a run, and what was said about them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_run: dict[_Key, Launcher] = {}
        self._stopped: set[_Key] = set()
        self._timers: dict[_Key, list[threading.Timer]] = {}
        self._described: set[int] = set()

    def start(self, run: RunContext) -> Launcher:
        """The launcher of a run, started if it is not there. Raises :class:`RunStopped`."""
        with self._lock:
            if self.stopped(run):
                raise RunStopped(f"Run {run.flow}/{run.run} was stopped; none of its tasks starts any more.")
            launcher = self._by_run.get(_key(run))
            if launcher is None:
                launcher = self._by_run[_key(run)] = Launcher(run)
                launcher.start()
            return launcher

    def start_by_fork(self, run: RunContext, flow_class: type[FlowSpec], code: Code) -> None:
        """Let the run's tasks be forks of this process, if it can be forked; else start its launcher as ever."""
        why = None if run.launcher == "fork" else hazards.why_not_fork()
        launcher = Launcher(run, why_not_fork=why)
        if why or run.launcher == "fresh":
            launcher.start()
        else:
            launcher.start_by_fork(flow_class, code)
        with self._lock:
            self._by_run[_key(run)] = launcher

    def stopped(self, run: RunContext) -> bool:
        """Whether no task of the run is to start any more: it was stopped, or is over."""
        return _key(run) in self._stopped

    def stop(self, run: RunContext, grace: float) -> None:
        """Start no more tasks of a run; end those that still run after ``grace`` seconds."""
        with self._lock:
            self._stopped.add(_key(run))
            launcher = self._by_run.get(_key(run))
            if launcher is not None:
                timer = threading.Timer(grace, launcher.end_tasks)
                timer.daemon = True
                timer.start()
                self._timers.setdefault(_key(run), []).append(timer)

    def discard(self, run: RunContext, died: Launcher) -> None:
        """The next task gets a new launcher."""
        with self._lock:
            if self._by_run.get(_key(run)) is died:
                del self._by_run[_key(run)]
        died.close()

    def close(self, run: RunContext) -> None:
        """End the launcher of a run, for good: a task that comes late starts no other."""
        with self._lock:
            self._stopped.add(_key(run))
            launcher = self._by_run.pop(_key(run), None)
            timers = self._timers.pop(_key(run), [])
        for timer in timers:
            timer.cancel()
        if launcher is not None:
            launcher.close()

    def describe(self, launcher: Launcher, sink: Sink) -> None:
        """Say once what a user should know about how tasks are started."""
        ready = launcher.ready()
        if ready["pid"] in self._described:
            return
        self._described.add(ready["pid"])
        if ready["mode"] == "fresh":
            sink.notice(
                f"Each task starts an interpreter of its own, which is slower than a fork: {ready['why']}."
            )
        elif ready["rss"] > LARGE_RESIDENT:
            sink.notice(
                f"Loading the flow's file takes {ready['rss'] >> 20} MB, which makes every task slower to start: "
                "load data in a step, not at the top of the file."
            )


LAUNCHERS = Launchers()


def _key(run: RunContext) -> _Key:
    return (run.store, run.flow, run.run, run.session)


@lru_cache(maxsize=8)
def run_store(store: str, flow: str, run: str) -> RunStore:
    """The store of a run, kept because it remembers what it has read."""
    return RunStore(storage_at(store), flow, run)


def execute(spec: TaskSpec, sink: Sink, launchers: Launchers = LAUNCHERS) -> TaskResult:
    """Run one attempt of a task unless the task is committed already; never raises for a user's failure."""
    store = run_store(spec.run.store, spec.run.flow, spec.run.run)
    try:
        committed = store.task(spec.name)
        if committed is not None:
            return replace(result_of(committed), reused=True)
        return _run_until_it_ends(spec, store, sink, launchers)
    except RunStopped:
        return TaskResult(spec.name, spec.attempt, "not_run")
    except DaskflowException as error:
        sink.lines(spec, 0, "stderr", [f"{error.headline}: {error.message}"])
        return TaskResult(spec.name, spec.attempt, "failed", error=(error.headline, error.message))


def _run_until_it_ends(spec: TaskSpec, store: RunStore, sink: Sink, launchers: Launchers) -> TaskResult:
    for deaths in range(LAUNCHER_DEATHS):
        execution = replace(spec, execution=new_execution(spec.attempt))
        launcher = launchers.start(spec.run)
        try:
            launchers.describe(launcher, sink)
            return _run_once(execution, store, launcher, sink)
        except LauncherDied as error:
            launchers.discard(spec.run, launcher)
            if deaths + 1 == LAUNCHER_DEATHS:
                raise
            sink.notice(f"{error.message} It is started again.")
    raise AssertionError("the loop returns or raises")


def _run_once(spec: TaskSpec, store: RunStore, launcher: Launcher, sink: Sink) -> TaskResult:
    output = Output(spec, store, sink)
    started = timestamp()
    begun = time.monotonic()
    ended = launcher.run(spec, output.started, output.feed)
    record = _record(spec, ended, started)
    if not record.ok:
        output.say("stderr", _how_it_failed(ended, record))
    for pid, what in ended.left.items():
        output.say("stderr", f"[daskflow] ended process {pid} ({what}), which the step left running.")
    try:
        logs = output.close()
    except StoreError as error:
        sink.lines(spec, ended.pid, "stderr", [error.message])
        logs = {}
    facts = {
        "pid": ended.pid,
        "host": socket.gethostname(),
        "exit_code": ended.exit_code,
        "signal": ended.signal,
        "max_rss": ended.max_rss,
        "cpu_user": ended.cpu_user,
        "cpu_system": ended.cpu_system,
        "launcher": launcher.ready()["mode"],
    }
    record = replace(record, process={k: v for k, v in facts.items() if v is not None}, logs=logs)
    seconds = time.monotonic() - begun
    if record.ok:
        return replace(result_of(store.commit(record)), seconds=seconds)
    with contextlib.suppress(
        StoreError
    ):  # the failure itself is what has to be told; its words are in `error`
        store.save_attempt(record)
    return replace(result_of(record), seconds=seconds)


def _record(spec: TaskSpec, ended: Ended, started: str) -> TaskRecord:
    """The attempt's record: what it sent, unless its process ended otherwise than that says."""
    sent = TaskRecord.of_json(ended.outcome) if ended.outcome is not None else None
    if sent is not None and (not sent.ok or ended.exit_code == 0):
        return sent
    error = {"type": "process", "exception": _cause(ended), "stacktrace": ""}
    if sent is not None:
        return replace(sent, status="failed", error=error)
    return TaskRecord(
        flow=spec.run.flow,
        run=spec.run.run,
        step=spec.name.step,
        task=spec.name.task_id,
        attempt=spec.attempt,
        execution=spec.execution,
        status="failed",
        started=started,
        finished=timestamp(),
        parents=[str(parent) for parent in spec.parents],
        stack=[frame.to_json() for frame in spec.stack],
        iteration=spec.iteration,
        error=error,
    )


def _cause(ended: Ended) -> str:
    when = "before the step was done" if ended.outcome is None else "after the step was done, while it left"
    if ended.killed:
        return "It was ended because the run had failed or was stopped."
    if ended.signal is None:
        return f"Its process ended with exit status {ended.exit_code} {when}."
    words = f"Its process was ended by {signal_name(ended.signal)} {when}"
    if ended.signal == signal.SIGKILL:
        words += f": by someone, or by the system for want of memory; it had used {ended.max_rss >> 20} MB"
    return words + "."


def _how_it_failed(ended: Ended, record: TaskRecord) -> str:
    if ended.killed:
        return "[KILLED BY ORCHESTRATOR]"
    if ended.signal == signal.SIGSEGV:
        return "Task failed with a segmentation fault."
    by_its_process = record.error is not None and record.error["type"] == "process"
    return f"Task failed. {_cause(ended)}" if by_its_process else "Task failed."


def result_of(record: TaskRecord) -> TaskResult:
    """What the driver needs to know of a record."""
    transition = record.transition or {}
    error = (record.error["type"], record.error["exception"]) if record.error else None
    return TaskResult(
        record.name,
        record.attempt,
        "committed" if record.ok else "failed",
        targets=tuple(transition.get("targets", ())),
        size=record.foreach["size"] if record.foreach else None,
        error=error,
        execution=record.execution,
    )


class Output:
    """What a task writes: to the sink at once, and to its log."""

    def __init__(self, spec: TaskSpec, store: RunStore, sink: Sink) -> None:
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
        self._sink.started(self._spec, pid)

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

    def close(self) -> dict[str, Log]:
        """End both logs; what goes into the record."""
        for name, lines in self._lines.items():
            self._add(name, lines.end())
        return {name: log.close() for name, log in self._logs.items()}

    def _add(self, name: str, lines: list[str]) -> None:
        if lines:
            self._logs[name].add(timestamp(), lines)
            self._sink.lines(self._spec, self._pid, name, lines)
