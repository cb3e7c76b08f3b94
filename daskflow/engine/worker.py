"""The Dask side of a task: what a Dask worker runs, and how it tells the driver what goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import socket
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from daskflow.errors import DaskflowException
from daskflow.task.execute import execute
from daskflow.task.launchers import LAUNCHERS
from daskflow.task.sharing import execute_together
from daskflow.task.spec import TaskResult, TaskSpec, Together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daskflow.store.chunks import Chunk
    from daskflow.store.records import TaskRecord
    from daskflow.task.output import Sink
    from daskflow.task.spec import RunContext

SINKS: dict[str, Sink] = {}
"""Sinks of runs whose driver is this very process, by its token."""


def topic(token: str) -> str:
    """The Dask event topic on which workers in other processes speak to a driver."""
    return f"daskflow/{token}"


def run_task(work_bytes: bytes, *upstream: TaskResult) -> TaskResult | list[TaskResult]:
    """Run one task, unless something it starts from did not succeed, or several in one process.

    Never raises for a user's failure.
    """
    work: TaskSpec | Together = _with_scheduler(pickle.loads(work_bytes))
    if isinstance(work, Together) and work.apart:
        return [execute(spec, _sink(spec)) for spec in work.specs]
    if isinstance(work, Together):
        return execute_together(work, _sink(work.specs[0]))
    if not all(result.committed for result in upstream):
        return TaskResult(work.name, work.attempt, "not_run")
    return execute(work, _sink(work))


def _with_scheduler(work: TaskSpec | Together) -> TaskSpec | Together:
    """Told where the scheduler is, for steps that use Dask themselves, if it is not in this very process."""
    from distributed import get_worker

    address = get_worker().scheduler.address
    if address.startswith("inproc://"):
        return work
    if isinstance(work, Together):
        return replace(work, specs=tuple(replace(spec, scheduler=address) for spec in work.specs))
    return replace(work, scheduler=address)


def prepare_run(run: RunContext) -> None:
    """On a worker: load the flow, without waiting for it; the first task finds it there."""
    with contextlib.suppress(DaskflowException, OSError):  # the first task tries again, and tells
        LAUNCHERS.start(run)


def has_environment(run: RunContext) -> bool:
    """On a worker: whether the environment of the run's requirements is there."""
    from daskflow.task import environment

    return environment.is_there(run)


async def make_environment(run: RunContext) -> None:
    """On a worker: make the environment of the run's requirements, beside what else it does, and load the flow there.

    Raises :class:`RequirementsError`, or :class:`RunStopped` if the run ends meanwhile, and pip with it.
    """
    await _beside(lambda: LAUNCHERS.start(run))


async def _beside(work: Callable[[], object]) -> None:
    """Do something in a thread of its own, for which a worker that is told to end does not wait; raises what it raises."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: Exception | None) -> None:
        if not done.cancelled():
            done.set_exception(error) if error is not None else done.set_result(None)

    def call() -> None:
        error: Exception | None = None
        try:
            work()
        except Exception as raised:  # noqa: BLE001 - it is raised where it is waited for
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=call, name="daskflow-environment", daemon=True).start()
    await done


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
    return local if local is not None else RemoteSink(spec.run)


class RemoteSink:
    """Speaks to the driver through Dask's events."""

    def __init__(self, run: RunContext) -> None:
        self._topic = topic(run.token)
        self._watched = run.watched

    def started(self, spec: TaskSpec, pid: int, count: int = 1) -> None:
        """A task's process runs; in it so many tasks are to run."""
        self._send("started", spec, pid, count)

    def lines(self, spec: TaskSpec, pid: int, stream: str, lines: Sequence[str]) -> None:
        """It has written lines."""
        self._send("lines", spec, pid, stream, list(lines))

    def notice(self, text: str) -> None:
        """Something the user should know about the run."""
        self._send("notice", text)

    def progress(self, spec: TaskSpec, done: int) -> None:
        """Of the tasks of a process so many are done."""
        if self._watched:
            self._send("progress", spec, done)

    def committed(self, found: TaskRecord | Chunk, process: str = "") -> None:
        """Tasks are in the store; what is told is how it went, not what came out."""
        if self._watched:
            self._send("committed", found.in_short(), process)

    def _send(self, method: str, *arguments: object) -> None:
        from distributed import get_worker

        worker = get_worker()
        message = {
            "method": method,
            "worker": worker.address,
            "host": socket.gethostname(),
            "arguments": pickle.dumps(arguments),
        }
        worker.log_event(self._topic, message)
