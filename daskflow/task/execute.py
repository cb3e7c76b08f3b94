"""One attempt as the worker runs it: look whether it is done, start its process, keep its output, commit."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections import defaultdict
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from daskflow.errors import EXIT_DISALLOW_RETRY, DaskflowException, StoreError
from daskflow.store.layout import new_execution
from daskflow.store.logs import Lines, LogWriter
from daskflow.store.records import TaskRecord, timestamp
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.task import hazards, memory
from daskflow.task.devices import devices
from daskflow.task.launcher import TIMEOUT_GRACE_SECONDS, Launcher, LauncherDied, signal_name
from daskflow.task.spec import RunContext, TaskResult, TaskSpec, record_of
from daskflow.task.trace import trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskflow.flow.spec import FlowSpec
    from daskflow.store.records import Log
    from daskflow.task.code import Code
    from daskflow.task.launcher import Ended

_Environment = tuple[tuple[str, str], ...]

LAUNCHER_DEATHS = 3
"""How often a task may lose the process that started it before it fails."""
LARGE_RESIDENT = 500 << 20
IDLE_SECONDS = 60.0
"""How long a launcher may have nothing to do; the next task gets a new one."""


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
    """The launchers of this process, one for each run and environment, and what was said about them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_run: defaultdict[str, dict[_Environment, Launcher]] = defaultdict(dict)
        self._stopped: set[str] = set()
        self._timers: dict[str, list[threading.Timer]] = {}
        self._described: set[int] = set()
        self._keeper: threading.Thread | None = None
        self._nothing_left = threading.Event()

    def start(self, run: RunContext, environment: _Environment = ()) -> Launcher:
        """The launcher of a run whose tasks have these variables too, started if it is not there.

        Raises :class:`RunStopped`.
        """
        with self._lock:
            if self.stopped(run):
                raise RunStopped(f"Run {run.flow}/{run.run} was stopped; none of its tasks starts any more.")
            launchers = self._by_run[run.token]
            if self._keeper is None:
                self._nothing_left.clear()
                self._keeper = threading.Thread(target=self._end_idle_ones, name="daskflow-idle", daemon=True)
                self._keeper.start()
            if environment not in launchers:
                launchers[environment] = Launcher(run, os.environ | dict(environment))
                launchers[environment].start()
            return launchers[environment]

    def _end_idle_ones(self) -> None:
        """A launcher that has had nothing to do for a while ends: its driver may have been killed, and tells nobody."""
        while not self._nothing_left.wait(IDLE_SECONDS / 4):
            with self._lock:
                ended = [
                    launchers.pop(environment)
                    for launchers in self._by_run.values()
                    for environment, launcher in list(launchers.items())
                    if launcher.idle_seconds() > IDLE_SECONDS
                ]
            for launcher in ended:
                launcher.close()

    def start_by_fork(self, run: RunContext, flow_class: type[FlowSpec], code: Code) -> None:
        """Let the run's tasks be forks of this process, if it can be forked; else start its launcher as ever."""
        why = None if run.launcher == "fork" else hazards.why_not_fork()
        launcher = Launcher(run, why_not_fork=why)
        if why or run.launcher == "fresh":
            launcher.start()
        else:
            launcher.start_by_fork(flow_class, code)
        with self._lock:
            self._by_run[run.token][()] = launcher

    def stopped(self, run: RunContext) -> bool:
        """Whether no task of the run is to start any more: it was stopped, or is over."""
        return run.token in self._stopped

    def stop(self, run: RunContext, grace: float) -> None:
        """Start no more tasks of a run; end those that still run after ``grace`` seconds."""
        with self._lock:
            self._stopped.add(run.token)
            for launcher in self._by_run[run.token].values():
                timer = threading.Timer(grace, launcher.end_tasks)
                timer.daemon = True
                timer.start()
                self._timers.setdefault(run.token, []).append(timer)

    def pause(self, run: RunContext, still: bool) -> None:
        """Let the tasks of a run stand still, or go on."""
        with self._lock:
            launchers = list(self._by_run[run.token].values())
        for launcher in launchers:
            launcher.pause(still)

    def discard(self, run: RunContext, died: Launcher) -> None:
        """The next task gets a new launcher."""
        with self._lock:
            launchers = self._by_run[run.token]
            for environment in [key for key, launcher in launchers.items() if launcher is died]:
                del launchers[environment]
        died.close()

    def close(self, run: RunContext) -> None:
        """End the launchers of a run, for good: a task that comes late starts no other."""
        with self._lock:
            self._stopped.add(run.token)
            launchers = self._by_run.pop(run.token, {})
            timers = self._timers.pop(run.token, [])
            keeper = None
            if not any(self._by_run.values()):
                keeper, self._keeper = self._keeper, None
                self._nothing_left.set()
        for timer in timers:
            timer.cancel()
        for launcher in launchers.values():
            launcher.close()
        if keeper is not None:
            keeper.join()

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


@lru_cache(maxsize=8)
def run_store(store: str, flow: str, run: str, _token: str) -> RunStore:
    """The store of a driver's run, kept because it remembers what it has read."""
    return RunStore(storage_at(store), flow, run)


def _store_of(spec: TaskSpec) -> RunStore:
    return run_store(spec.run.store, spec.run.flow, spec.run.run, spec.run.token)


def execute(spec: TaskSpec, sink: Sink, launchers: Launchers = LAUNCHERS) -> TaskResult:
    """Run one attempt of a task unless the task is committed already; never raises for a user's failure."""
    store = _store_of(spec)
    looked = time.time_ns()
    try:
        committed = store.task(spec.name)
        if committed is not None:
            return replace(result_of(committed), reused=True)
        return _run_until_it_ends(spec, store, sink, launchers, looked)
    except RunStopped:
        return TaskResult(spec.name, spec.attempt, "not_run")
    except DaskflowException as error:
        return keep_failure(spec, error, sink)


def keep_failure(spec: TaskSpec, error: DaskflowException, sink: Sink | None = None) -> TaskResult:
    """Record that an attempt failed of which no process can tell: it never began, or its worker was lost."""
    store = _store_of(spec)
    spec = replace(spec, execution=new_execution(spec.attempt))
    output = Output(spec, store, sink)
    for line in f"{error.headline}: {error.message}".splitlines():
        output.say("stderr", line)
    record = record_of(
        spec,
        status="failed",
        error={"type": error.headline, "exception": error.message, "stacktrace": ""},
        logs=_closed(output),
    )
    with contextlib.suppress(StoreError):  # the failure itself is what has to be told
        store.save_attempt(record)
    return result_of(record)


def execute_here(spec: TaskSpec, flow_class: type[FlowSpec]) -> TaskResult:
    """Run one attempt in this very process, unless the task is committed already; its output is not kept."""
    try:
        return _execute_here(spec, flow_class)
    except DaskflowException as error:
        return keep_failure(spec, error)


def _execute_here(spec: TaskSpec, flow_class: type[FlowSpec]) -> TaskResult:
    from daskflow.task import attempt

    store = _store_of(spec)
    committed = store.task(spec.name)
    if committed is not None:
        return replace(result_of(committed), reused=True)
    spec = replace(spec, execution=new_execution(spec.attempt))
    before = dict(os.environ)
    os.environ.update(spec.node.policy.environment)
    try:
        outcome, _ = attempt.run(spec, flow_class)
    finally:
        os.environ.clear()
        os.environ.update(before)
    record = TaskRecord.of_json(outcome)
    if record.ok:
        return result_of(store.commit(record))
    with contextlib.suppress(StoreError):  # the failure itself is what has to be told
        store.save_attempt(record)
    return result_of(record)


def _run_until_it_ends(
    spec: TaskSpec, store: RunStore, sink: Sink, launchers: Launchers, looked: int
) -> TaskResult:
    for deaths in range(LAUNCHER_DEATHS):
        execution = replace(spec, execution=new_execution(spec.attempt))
        launcher = launchers.start(spec.run, spec.node.policy.environment)
        try:
            launchers.describe(launcher, sink)
            trace("starts", execution, looked=looked)
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
    kills = memory.kills()
    with devices().lent(spec.node.policy.gpu) as lent:
        spec = replace(spec, devices=lent)
        ended = launcher.run(spec, output.started, output.feed)
    out_of_memory = ended.signal == signal.SIGKILL and memory.kills() > kills
    record = _record(spec, ended, started, out_of_memory)
    if not record.ok:
        output.say("stderr", _how_it_failed(ended, record))
    for pid, what in ended.left.items():
        output.say("stderr", f"[daskflow] ended process {pid} ({what}), which the step left running.")
    facts = {
        "pid": ended.pid,
        "host": socket.gethostname(),
        "exit_code": ended.exit_code,
        "signal": ended.signal,
        "max_rss": ended.max_rss,
        "cpu_user": ended.cpu_user,
        "cpu_system": ended.cpu_system,
        "launcher": launcher.ready()["mode"],
        "snapshot": spec.run.snapshot or None,
    }
    record = replace(record, process={k: v for k, v in facts.items() if v is not None}, logs=_closed(output))
    seconds = time.monotonic() - begun
    if record.ok:
        counts = store.commit(record)
        if counts.execution == spec.execution:
            trace("committed", spec)
        return replace(result_of(counts), seconds=seconds)
    final = ended.killed or ended.exit_code == EXIT_DISALLOW_RETRY
    with contextlib.suppress(
        StoreError
    ):  # the failure itself is what has to be told; its words are in `error`
        store.save_attempt(record)
    return replace(result_of(record), seconds=seconds, final=final, stopped=ended.killed)


def _record(spec: TaskSpec, ended: Ended, started: str, out_of_memory: bool) -> TaskRecord:
    """The attempt's record: what it sent, unless its process ended otherwise than that says."""
    sent = TaskRecord.of_json(ended.outcome) if ended.outcome is not None else None
    if sent is not None and (not sent.ok or ended.exit_code == 0):
        return sent
    error = {"type": "process", "exception": _cause(ended, spec, out_of_memory), "stacktrace": ""}
    if sent is not None:
        return replace(sent, status="failed", error=error)
    return record_of(spec, status="failed", started=started, finished=timestamp(), error=error)


def _closed(output: Output) -> dict[str, Log]:
    """The logs of an attempt; if the store refuses them the attempt is told so and has none."""
    try:
        return output.close()
    except StoreError as error:
        output.tell(error.message)
        return {}


def _cause(ended: Ended, spec: TaskSpec, out_of_memory: bool) -> str:
    when = "before the step was done" if ended.outcome is None else "after the step was done, while it left"
    if ended.killed:
        return "It was ended because the run had failed or was stopped."
    if ended.overdue:
        return (
            f"Its step went on for {TIMEOUT_GRACE_SECONDS:g} s after its timeout of {spec.node.policy.timeout:g} s, "
            "so its process was killed."
        )
    if ended.signal is None:
        return f"Its process ended with exit status {ended.exit_code} {when}."
    words = f"Its process was ended by {signal_name(ended.signal)} {when}"
    if ended.signal == signal.SIGKILL:
        by = "by the system for want of memory" if out_of_memory else "not for want of memory"
        words += f", {by}; it had used {ended.max_rss >> 20} MB"
    return words + "."


def _how_it_failed(ended: Ended, record: TaskRecord) -> str:
    if ended.killed:
        return "[KILLED BY ORCHESTRATOR]"
    if ended.signal == signal.SIGSEGV:
        return "Task failed with a segmentation fault."
    if record.error is not None and record.error["type"] == "process":
        return f"Task failed. {record.error['exception']}"
    return "Task failed."


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
        caught=record.ok and record.error is not None,
    )


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
