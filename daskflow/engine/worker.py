"""The Dask side of a task: what a Dask worker runs, and how it tells the driver what goes on meanwhile."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from daskflow.task.execute import LAUNCHERS, Sink, execute
from daskflow.task.spec import TaskResult, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskflow.task.spec import RunContext

SINKS: dict[str, Sink] = {}
"""Sinks of runs whose driver is this very process, by its token."""


def topic(token: str) -> str:
    """The Dask event topic on which workers in other processes speak to a driver."""
    return f"daskflow/{token}"


def run_task(spec_bytes: bytes, *upstream: TaskResult) -> TaskResult:
    """Run one task, unless something it starts from did not succeed. Never raises for a user's failure."""
    spec: TaskSpec = pickle.loads(spec_bytes)
    if not all(result.committed for result in upstream):
        return TaskResult(spec.name, spec.attempt, "not_run")
    return execute(spec, _sink(spec))


def stop_run(run: RunContext, grace: float) -> None:
    """On a worker: start no more tasks of the run, end the running ones after ``grace`` seconds."""
    LAUNCHERS.stop(run, grace)


def pause_run(run: RunContext, still: bool) -> None:
    """On a worker: let the run's tasks stand still, or go on."""
    LAUNCHERS.pause(run, still)


def close_run(run: RunContext) -> None:
    """On a worker: the run is over, its launcher is not needed any more."""
    LAUNCHERS.close(run)


def _sink(spec: TaskSpec) -> Sink:
    local = SINKS.get(spec.run.token)
    return local if local is not None else RemoteSink(spec.run.token)


class RemoteSink:
    """Speaks to the driver through Dask's events."""

    def __init__(self, token: str) -> None:
        self._topic = topic(token)

    def started(self, spec: TaskSpec, pid: int) -> None:
        """A task's process runs."""
        self._send("started", spec, pid)

    def lines(self, spec: TaskSpec, pid: int, stream: str, lines: Sequence[str]) -> None:
        """It has written lines."""
        self._send("lines", spec, pid, stream, list(lines))

    def notice(self, text: str) -> None:
        """Something the user should know about the run."""
        self._send("notice", text)

    def _send(self, method: str, *arguments: object) -> None:
        from distributed import get_worker

        worker = get_worker()
        message = {"method": method, "worker": worker.address, "arguments": pickle.dumps(arguments)}
        worker.log_event(self._topic, message)
