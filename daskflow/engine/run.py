"""The loop of a run: results in, ready work out."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import signal
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from daskflow.engine.chunks import MOST_SPOILED, Cutter
from daskflow.engine.executor import Ran
from daskflow.engine.frontier import Planned, too_wide
from daskflow.task import sharing
from daskflow.task.spec import first_line, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    from daskflow.engine.executor import Executor
    from daskflow.engine.frontier import Frontier
    from daskflow.engine.listener import Listener
    from daskflow.pathspec import TaskName, TaskRange
    from daskflow.task.spec import TaskResult, TaskSpec

GRACE_SECONDS = 5.0
"""What :class:`Limits` allows unless told otherwise."""
MOST_TEXT = 500
"""Characters of an error that a notice shows; the task's log has it all."""
LONGEST_WAIT = 1.0
"""Seconds until the loop looks again whether it was told to stop."""
AHEAD = 2
"""Processes for each slot that are at the scheduler, so that a slot has the next one when it is done with one."""
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
    done, caught
        How many tasks this driver saw committed; in how many of them a decorator dealt with a failure.
    """

    status: str = "failed"
    failures: list[TaskResult] = field(default_factory=list)
    reason: str = ""
    done: int = 0
    caught: int = 0


@dataclass(frozen=True)
class Limits:
    """What a run may not exceed; None is no limit.

    Attributes
    ----------
    max_num_splits
        The items of one foreach.
    in_flight
        Tasks at the scheduler, for a cluster that has more slots than the run may use.
    grace
        Seconds that running tasks may go on after another has failed for good, or the run was stopped.
    chunk
        Items of a foreach that share a process; 1 gives each its own, None as many as fit the time that they take.
    """

    max_num_splits: int | None = None
    in_flight: int | None = None
    grace: float = GRACE_SECONDS
    chunk: int | None = None


@dataclass(frozen=True)
class Ledger:
    """What a driver asks of its run's store.

    Attributes
    ----------
    still_ours
        Called before anything is submitted; raises :class:`RunHeld` if another driver has taken the run over.
    decide
        Writes down how items of a step are cut into chunks; returns what holds.
    decided
        What other drivers wrote of that, as far as it was read.
    release
        Lets the items of a chunk be single tasks; how it stands then.
    hurry
        Called with the seconds that running tasks get when the run is to be stopped: then the store is patient no more.
    """

    still_ours: Callable[[], None] = lambda: None
    decide: Callable[[str, Sequence[TaskRange]], Sequence[TaskRange]] = lambda _, ranges: ranges
    decided: Callable[[str], Sequence[TaskRange]] = lambda _: ()
    release: Callable[[TaskSpec], Sequence[TaskResult]] = sharing.release
    hurry: Callable[[float], None] = lambda _: None


class Driver:
    """Runs what the frontier says is ready until nothing is left.

    Parameters
    ----------
    executor
        Where tasks run.
    frontier
        The state of the run.
    listener
        Told what is planned and what is over.
    limits
        How wide a foreach, how many tasks at once, how long a grace.
    ledger
        The run's store, as far as the driver itself has to do with it.
    """

    def __init__(
        self,
        executor: Executor,
        frontier: Frontier,
        listener: Listener,
        limits: Limits,
        ledger: Ledger = Ledger(),
    ) -> None:
        self._executor = executor
        self._frontier = frontier
        self._listener = listener
        self._limits = limits
        self._ledger = ledger
        self._cutter = Cutter(limits.chunk, ledger.decide, ledger.decided)
        self._in_flight: set[TaskName] = set()
        self._shared: set[TaskName] = set()
        self._handed_out: set[TaskName] = set()
        self._tried_alone: set[TaskName] = set()
        self._held_back: deque[Planned] = deque()
        self._due: list[tuple[float, int, TaskSpec]] = []
        self._order = itertools.count()
        self._stopped = False
        self._outcome = Outcome()
        self.held_by_another = ""

    def run(self, ready: Sequence[Planned]) -> Outcome:
        """Run what is ready and all that follows, until it has ended or the run has failed and what ran has ended."""
        with _signals_call(self._interrupt), _stops_with_its_terminal(self._executor):
            self._open(ready)
            self._hand_out()
            while self._in_flight or ((self._due or self._cutter) and not self._stopped):
                for ran in self._executor.results(self._seconds_to_wait()):
                    self._take(ran)
                self._submit_due()
                self._hand_out()
        if self._frontier.finished:  # perhaps in the grace period
            self._outcome.status = "successful"
        return self._outcome

    def _take(self, ran: Ran) -> None:
        self._in_flight.discard(ran.name)
        shared = ran.name in self._shared
        self._shared.discard(ran.name)
        self._handed_out.discard(ran.name)
        again: dict[TaskName, TaskSpec] = {}
        for result in ran.results:
            if result.status == "failed" and not self._stopped and (spec := self._frontier.again(result)):
                again[result.name] = spec
        self._listener.finished(ran.results, again)
        for result in ran.results:
            self._take_result(result, again.get(result.name), shared=shared)

    def _take_result(self, result: TaskResult, again: TaskSpec | None, *, shared: bool) -> None:
        if result.committed:
            self._outcome.done += result.count
            self._outcome.caught += result.count if result.caught and not result.reused else 0
            if not result.reused:
                self._cutter.timed(result.name.step, result.count, result.seconds, result.overhead)
        if result.name in self._tried_alone and result.status in ("committed", "failed"):
            self._tried_alone.discard(result.name)
            if result.committed and not result.caught:  # so its neighbours were to blame
                self._spoiled(result.name.step)
        if why := too_wide(result, self._limits.max_num_splits):
            self._outcome.reason = why
            self._stop(self._limits.grace)
        elif result.status == "released":
            self._take_released(result)
        elif result.status == "failed":
            if again is not None and not self._stopped:
                self._try_again(result, again)
                return
            if not result.stopped:  # perhaps in the grace period, but by itself
                self._outcome.failures.append(result)
            self._stop(self._limits.grace)
        elif shared and result.status == "not_run":
            self._cutter.add(self._frontier.spec_of(result.tasks), is_open=False)
        else:
            ready = self._frontier.done(result)
            if not self._stopped:
                self._open(ready)

    def _take_released(self, result: TaskResult) -> None:
        """Tasks that shared a process and are still to be run: one that may be to blame alone, others as they are cut."""
        spec = self._frontier.spec_of(result.tasks)
        if not result.alone:
            self._cutter.add(spec, is_open=False)
            if result.error is not None:
                self._spoiled(spec.name.step)
        elif not self._stopped:
            if result.error is not None:  # else nobody knows which of those that were there is to blame
                self._tried_alone.add(spec.name)
                self._listener.notice(
                    f"Task {spec.run.run}/{spec.name} failed in a process that it shared "
                    f"({first_line(told(result.error), MOST_TEXT)}); it is tried alone."
                )
            self._submit([Planned(spec)])

    def _spoiled(self, step: str) -> None:
        if self._cutter.spoiled(step):
            self._listener.notice(
                f"{MOST_SPOILED} items of {step} could not share a process: each that is not begun has its own from here on."
            )

    def _open(self, region: Sequence[Planned]) -> None:
        self._listener.planned(region)
        alone = []
        awaited = {name for task in region for name in task.upstream}
        for task in region:
            spec = task.spec
            free = spec.in_foreach and not task.upstream and spec.name not in awaited and not spec.attempt
            if spec.count > 1 or free:
                self._cutter.add(spec, task.is_open)
            else:
                alone.append(task)
        self._submit(alone)

    def _hand_out(self) -> None:
        """Keep the slots busy with items, and not much more at the scheduler: how they are cut adapts."""
        while self._cutter and not self._stopped:
            slots, limit = self._executor.slots, self._limits.in_flight
            slots = slots if limit is None else min(slots, limit)
            if limit is not None and len(self._in_flight) >= limit:
                return
            if len(self._handed_out) >= AHEAD * slots:
                return
            work = self._cutter.next(slots)
            if work is None:
                return
            name = work.specs[0].name
            self._handed_out.add(name)
            if work.count == 1:
                self._submit([Planned(work.specs[0])])
            elif not work.apart and self._cutter.isolates(work.specs[0]):  # it was cut before that was known
                self._take(Ran(name, [each for spec in work.specs for each in self._ledger.release(spec)]))
            else:
                self._ledger.still_ours()
                self._in_flight.add(name)
                if not work.apart:
                    self._shared.add(name)
                self._executor.submit_together(work)

    def _submit(self, region: Sequence[Planned]) -> None:
        """Hand over what is ready: the region as one graph, or under a limit no more tasks than that at once."""
        if self._limits.in_flight is None:
            self._hand_over(region)
            return
        self._held_back += region
        while len(self._in_flight) < self._limits.in_flight and (task := self._next_held_back()) is not None:
            self._hand_over([replace(task, upstream=())])

    def _next_held_back(self) -> Planned | None:
        """The first task whose upstream is over; taken off the list."""
        for place, task in enumerate(self._held_back):
            if all(map(self._frontier.is_done, task.upstream)):
                del self._held_back[place]
                return task
        return None

    def _hand_over(self, region: Sequence[Planned]) -> None:
        if region:
            self._ledger.still_ours()
            self._in_flight.update(task.spec.name for task in region)
            self._executor.submit(region)

    def _try_again(self, failed: TaskResult, spec: TaskSpec) -> None:
        """Another attempt, after its delay; meanwhile it holds no slot."""
        policy = spec.node.policy
        delay = policy.delay(spec.attempt - spec.first)
        if spec.fallback:
            after = "its decorators deal with that"
        else:
            when = f" in {timedelta(seconds=round(delay))}" if delay >= 1 else ""
            after = f"retry {spec.attempt - spec.first} of {policy.retries} follows{when}"
        what = first_line(told(failed.error), MOST_TEXT)
        self._listener.notice(f"Task {spec.run.run}/{spec.name} failed ({what}); {after}.")
        heapq.heappush(self._due, (time.monotonic() + delay, next(self._order), spec))

    def _seconds_to_wait(self) -> float:
        """Until the next attempt is due, and never long: a signal that comes just before a wait is seen after it."""
        if not self._due or self._stopped:
            return LONGEST_WAIT
        return min(LONGEST_WAIT, max(0.0, self._due[0][0] - time.monotonic()))

    def _submit_due(self) -> None:
        """The attempts whose time has come, and what a limit held back while a task waits for its next attempt."""
        due = []
        while self._due and self._due[0][0] <= time.monotonic():
            due.append(Planned(heapq.heappop(self._due)[2]))
        if not self._stopped:
            self._submit(due)

    def _stop(self, grace: float) -> None:
        """No new tasks; those that run get ``grace`` seconds."""
        if not self._stopped:
            self._stopped = True
            self._executor.stop(grace)
            self._executor.wake()

    def replaced(self, by: str) -> None:
        """Another driver has taken the run over: end what runs, start nothing more. From any thread."""
        self.held_by_another = by
        self._stopped = True
        self._executor.stop(0.0)
        self._executor.wake()

    def _interrupt(self) -> None:
        """Stop the run; if it is being stopped already, end what runs at once."""
        if self._stopped:
            self._ledger.hurry(0.0)
            self._executor.stop(0.0)
            return
        self._ledger.hurry(self._limits.grace)
        self._outcome.status = "interrupted"
        self._listener.notice(f"Interrupted: {self._executor.stopping(self._limits.grace)}")
        self._stop(self._limits.grace)


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


@contextlib.contextmanager
def _stops_with_its_terminal(executor: Executor) -> Iterator[None]:
    """Let Ctrl-Z stop the tasks too, which the terminal can't reach, and ``fg`` let them go on."""

    def stand_still() -> None:
        executor.pause()
        signal.raise_signal(signal.SIGSTOP)
        executor.go_on()

    def handle(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=stand_still, name="daskflow-pause", daemon=True).start()

    if signal.getsignal(signal.SIGTSTP) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTSTP, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
