"""The loop of a run: results in, ready work out."""

from __future__ import annotations

import contextlib
import pickle
import signal
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from daskflow.engine import regions, worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from daskflow.engine.console import Console
    from daskflow.engine.frontier import Frontier, Planned
    from daskflow.pathspec import TaskName
    from daskflow.task.spec import RunContext, TaskResult

GRACE_SECONDS = 5.0
"""How long running tasks may go on after another has failed for good, or the run was stopped."""
PATIENCE = 2
"""How many signals are orders to stop; one more ends the driver where it stands."""


@dataclass
class Outcome:
    """How a run went.

    Attributes
    ----------
    status
        ``successful``, ``failed`` or ``interrupted``.
    failures
        The tasks that failed by themselves, in the order it became known.
    reason
        Why the run failed if no task did.
    done
        How many tasks are committed.
    """

    status: str = "failed"
    failures: list[TaskResult] = field(default_factory=list)
    reason: str = ""
    done: int = 0


@dataclass(frozen=True)
class Limits:
    """What a run may not exceed; None is no limit.

    Attributes
    ----------
    max_num_splits
        The items of one foreach.
    in_flight
        Tasks at the scheduler, for a cluster that has more slots than the run may use.
    """

    max_num_splits: int | None = None
    in_flight: int | None = None


class Driver:
    """Runs what the frontier says is ready until nothing is left.

    Parameters
    ----------
    client
        A Dask client.
    frontier
        The state of the run.
    console
        Told what is planned and what is over.
    context
        The run.
    limits
        How wide a foreach, how many tasks at once.
    """

    def __init__(
        self, client: Any, frontier: Frontier, console: Console, context: RunContext, limits: Limits
    ) -> None:
        self._client = client
        self._frontier = frontier
        self._console = console
        self._context = context
        self._limits = limits
        self._held_back: list[Planned] = []
        self._names: dict[Any, TaskName] = {}
        self._done: set[TaskName] = set()
        self._stopped = False
        self._outcome = Outcome()

    def run(self) -> Outcome:
        """Run the flow to its end, or until it has failed and what ran has ended."""
        from distributed import as_completed

        self._completed = as_completed(loop=self._client.loop)
        with _signals_call(self._interrupt), self._hearing():
            self._submit(self._frontier.start())
            self._loop()
        if self._frontier.finished:  # perhaps in the grace period
            self._outcome.status = "successful"
        return self._outcome

    def _loop(self) -> None:
        for future in self._completed:
            name = self._names.pop(future)
            result = _result(future, name, self._frontier.spec(name).attempt)
            future.release()
            self._console.finished(result)
            if result.committed:
                self._outcome.done += 1
                self._done.add(name)
            if self._too_wide(result):
                self._stop(GRACE_SECONDS)
            elif result.status == "failed":
                if not self._stopped:
                    self._outcome.failures.append(result)
                self._stop(GRACE_SECONDS)
            else:
                ready = self._frontier.done(result)
                self._submit([] if self._stopped else ready)

    def _submit(self, region: Sequence[Planned]) -> None:
        """Hand over what is ready: the region as one graph, or under a limit no more tasks than that at once."""
        self._console.planned(region)
        if self._limits.in_flight is None:
            self._hand_over(region)
            return
        self._held_back += region
        while len(self._names) < self._limits.in_flight and (task := self._next_held_back()) is not None:
            self._hand_over([replace(task, upstream=())])

    def _next_held_back(self) -> Planned | None:
        """The first task whose upstream is over; taken off the list."""
        for place, task in enumerate(self._held_back):
            if self._done.issuperset(task.upstream):
                return self._held_back.pop(place)
        return None

    def _hand_over(self, region: Sequence[Planned]) -> None:
        if region:
            futures = regions.submit(self._client, region)
            self._names.update(futures)
            self._completed.update(futures)

    def _too_wide(self, result: TaskResult) -> bool:
        cap = self._limits.max_num_splits
        if cap is None or result.size is None or result.size <= cap:
            return False
        self._outcome.reason = (
            f"Foreach in step {result.name.step} yielded {result.size} child steps which is more than the current "
            f"maximum of {cap}. Raise it with --max-num-splits {result.size}."
        )
        return True

    def _stop(self, grace: float) -> None:
        """No new tasks; those that run get ``grace`` seconds."""
        if not self._stopped:
            self._stopped = True
            self._client.run(worker.stop_run, self._context, grace)

    def _interrupt(self) -> None:
        """Stop the run; if it is being stopped already, end what runs at once."""
        if self._stopped:
            self._client.run(worker.stop_run, self._context, 0.0)
            return
        self._outcome.status = "interrupted"
        self._console.notice("Interrupted: running tasks get a few seconds to end. Once more ends them now.")
        self._stop(GRACE_SECONDS)

    @contextlib.contextmanager
    def _hearing(self) -> Iterator[None]:
        """Let workers speak to the console: directly from this process, by Dask's events from others."""
        key = (self._context.flow, self._context.run)
        topic = worker.topic(*key)
        worker.SINKS[key] = self._console
        self._client.subscribe_topic(topic, self._heard)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # the scheduler may be gone
                self._client.run(worker.close_run, self._context)
                self._client.unsubscribe_topic(topic)
            del worker.SINKS[key]

    def _heard(self, event: tuple[float, dict[str, Any]]) -> None:
        _, message = event
        getattr(self._console, message["method"])(*pickle.loads(message["arguments"]))


def _result(future: Any, name: TaskName, attempt: int) -> TaskResult:
    """What a task's future holds; a future that Dask lost is a failure of the cluster, not of the step."""
    from daskflow.task.spec import TaskResult

    if future.status == "finished":
        found: TaskResult = future.result()
        return found
    error = future.exception() if future.status == "error" else None
    words = f"{type(error).__name__}: {error}" if error is not None else "the cluster gave the task up"
    return TaskResult(name, attempt, "failed", error=("Cluster error", words))


@contextlib.contextmanager
def _signals_call(interrupt: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and the end of the terminal call ``interrupt``; the third time they end this process.

    On a thread: an exception from a signal could break into any statement of the loop, or of Dask, and a lock that the
    main thread holds can't be had by a handler that runs on top of it.
    """
    times = 0

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal times
        times += 1
        if times > PATIENCE:
            raise KeyboardInterrupt
        threading.Thread(target=interrupt, name="daskflow-interrupt", daemon=True).start()

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as below nohup
            before[number] = signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
