"""One attempt as the worker runs it: look whether it is done, start its process, keep its output, commit."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from daskflow.errors import EXIT_DISALLOW_RETRY, DaskflowException, StoreError
from daskflow.store.layout import PARAMETERS, new_execution
from daskflow.store.records import TaskRecord, timestamp
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.task import memory, wire
from daskflow.task.channels import TIMEOUT_GRACE_SECONDS, LauncherDied
from daskflow.task.dask_client import give_back_slot, remove_scratch
from daskflow.task.devices import devices
from daskflow.task.launcher import signal_name
from daskflow.task.launchers import LAUNCHERS, Launchers, RunStopped
from daskflow.task.output import Output
from daskflow.task.spec import ENDED_WITH_ITS_RUN, TaskResult, TaskSpec, record_of
from daskflow.task.trace import trace

if TYPE_CHECKING:
    from daskflow.flow.spec import FlowSpec
    from daskflow.store.records import Log
    from daskflow.task.channels import Ended
    from daskflow.task.launcher import Launcher
    from daskflow.task.output import Sink

LAUNCHER_DEATHS = 3
"""How often a task may lose the process that started it before it fails."""

MOST_HANDED_OVER = 16
"""Inputs of a join whose records are handed over to its process."""


@lru_cache(maxsize=8)
def run_store(store: str, flow: str, run: str, _token: str) -> RunStore:
    """The store of a driver's run, kept because it remembers what it has read."""
    return RunStore(storage_at(store), flow, run)


def store_of(spec: TaskSpec) -> RunStore:
    """The store of a task's run."""
    return run_store(spec.run.store, spec.run.flow, spec.run.run, spec.run.token)


def execute(spec: TaskSpec, sink: Sink, launchers: Launchers = LAUNCHERS) -> TaskResult:
    """Run one attempt of a task unless the task is committed already; never raises for a user's failure."""
    store = store_of(spec)
    looked = time.time_ns()
    try:
        committed = store.committed_alone(spec.name)
        if committed is not None:
            sink.committed(committed)
            return replace(result_of(committed), reused=True)
        return _run_until_it_ends(spec, store, sink, launchers, looked)
    except RunStopped:
        return TaskResult(spec.name, spec.attempt, "not_run")
    except DaskflowException as error:
        return keep_failure(spec, error, sink)


def keep_failure(spec: TaskSpec, error: DaskflowException, sink: Sink | None = None) -> TaskResult:
    """Record that an attempt failed of which no process can tell: it never began, or its worker was lost."""
    store = store_of(spec)
    spec = replace(spec, execution=new_execution(spec.attempt))
    output = Output(spec, store, sink)
    for line in f"{error.headline}: {error.message}".splitlines():
        output.say("stderr", line)
    record = record_of(
        spec,
        status="failed",
        error={"type": error.headline, "exception": error.message, "stacktrace": ""},
        logs=closed(output),
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

    store = store_of(spec)
    committed = store.committed_alone(spec.name)
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
        execution = replace(spec, execution=new_execution(spec.attempt), known=known_to(spec, store))
        launcher = launchers.start(spec.run, spec.node.policy.environment, sink.notice)
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
        messages: list[bytes] = []

        def heard(message: bytes) -> None:
            if message == wire.DASK:
                give_back_slot()
            else:
                messages.append(message)

        ended = launcher.run(spec, output.started, output.feed, heard)
    remove_scratch(ended.pid)
    out_of_memory = ended.signal == signal.SIGKILL and memory.kills() > kills
    record = _record(spec, ended, messages[0] if messages else None, started, out_of_memory)
    if not record.ok:
        output.say("stderr", _how_it_failed(ended, record))
    for line in left_running(ended):
        output.say("stderr", line)
    record = replace(record, process=facts_of(ended, launcher), logs=closed(output))
    if record.ok:
        counts = store.commit(record)
        overhead = max(0.0, time.monotonic() - begun - record.seconds)
        if counts.execution == spec.execution:
            trace("committed", spec)
        sink.committed(counts)
        return replace(result_of(counts), seconds=record.seconds, overhead=overhead)
    final = ended.killed or ended.exit_code == EXIT_DISALLOW_RETRY
    with contextlib.suppress(
        StoreError
    ):  # the failure itself is what has to be told; its words are in `error`
        store.save_attempt(record)
    return replace(result_of(record), final=final, stopped=ended.killed, seconds=record.seconds)


def known_to(spec: TaskSpec, store: RunStore) -> tuple[TaskRecord, ...]:
    """Commits to hand over to a task's process: what it starts from, if to read that takes a round trip each."""
    if not store.storage.remote:
        return ()
    names = [PARAMETERS, *spec.parents[:MOST_HANDED_OVER], *(frame.split for frame in spec.stack)]
    return tuple(record for name in dict.fromkeys(names) if (record := store.task(name)) is not None)


def facts_of(ended: Ended, launcher: Launcher) -> dict[str, Any]:
    """What a record tells of the process."""
    facts = {
        "pid": ended.pid,
        "host": socket.gethostname(),
        "exit_code": ended.exit_code,
        "signal": ended.signal,
        "max_rss": ended.max_rss,
        "cpu_user": ended.cpu_user,
        "cpu_system": ended.cpu_system,
        "launcher": launcher.ready()["mode"],
        "snapshot": launcher.run_context.snapshot or None,
        "stopped": ended.killed or None,
    }
    return {name: fact for name, fact in facts.items() if fact is not None}


def left_running(ended: Ended) -> list[str]:
    """A line for each process that was ended with it."""
    return [
        f"[daskflow] ended process {pid} ({what}), which the step left running."
        for pid, what in ended.left.items()
    ]


def _record(
    spec: TaskSpec, ended: Ended, message: bytes | None, started: str, out_of_memory: bool
) -> TaskRecord:
    """The attempt's record: what it sent, unless its process ended otherwise than that says."""
    sent = TaskRecord.of_json(json.loads(message)) if message is not None else None
    if sent is not None and (not sent.ok or ended.exit_code == 0):
        return sent
    when = "before the step was done" if sent is None else "after the step was done, while it left"
    error = {"type": "process", "exception": cause(ended, spec, when, out_of_memory), "stacktrace": ""}
    if sent is not None:
        return replace(sent, status="failed", error=error)
    return record_of(spec, status="failed", started=started, finished=timestamp(), error=error)


def closed(output: Output) -> dict[str, Log]:
    """The logs of an attempt; if the store refuses them the attempt is told so and has none."""
    try:
        return output.close()
    except StoreError as error:
        output.tell(error.message)
        return {}


def cause(ended: Ended, spec: TaskSpec, when: str, out_of_memory: bool = False) -> str:
    """Why a process ended that should not have; ``when`` it did."""
    if ended.killed:
        return ENDED_WITH_ITS_RUN
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
        kind=transition.get("kind", ""),
        size=record.foreach["size"] if record.foreach else None,
        error=error,
        execution=record.execution,
        caught=record.ok and record.error is not None,
    )
