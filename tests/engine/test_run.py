"""The loop of a run, with a fake place for tasks and a fake clock: attempts, delays, limits, stopping."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapes import Flow, Part, shapes

from daskflow.engine import run as run_module
from daskflow.engine.executor import Ran
from daskflow.engine.frontier import Frontier, Planned
from daskflow.engine.run import Driver, Ledger, Limits, Outcome
from daskflow.errors import RunHeld
from daskflow.flow.policy import Policy
from daskflow.pathspec import TaskName
from daskflow.store.layout import PARAMETERS
from daskflow.task.spec import RunContext, TaskResult, TaskSpec, Together

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

    from daskflow.pathspec import TaskRange

UNLIMITED = Limits()
RUN = RunContext("F", "1", "/store", "token", "/", 10**6, "auto")


class Clock:
    """Stands for the module ``time``: its seconds pass when a driver waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@dataclass
class Console:
    """Remembers what a person was told; counts as the real one does, and finds what it could not count."""

    notices: list[str] = field(default_factory=list)
    waiting: Counter[TaskName] = field(default_factory=Counter)

    def planned(self, region: Sequence[Planned]) -> None:
        for task in region:
            self.waiting.update(() if task.again else task.spec.tasks.names())

    def finished(self, results: Sequence[TaskResult], again: Container[TaskName] = ()) -> None:
        for result in results:
            if result.name in again or result.status in ("released", "not_run"):
                continue
            self.waiting.subtract(result.tasks.names())
            for each in result.tasks.names():
                assert self.waiting[each] >= 0, f"{each} ended more often than it was planned"

    def notice(self, text: str) -> None:
        self.notices.append(text)


@dataclass
class Started:
    """One attempt that was handed over, when, and what else was there at that time."""

    name: TaskName
    attempt: int
    at: float
    fallback: bool
    beside: int


class FakeExecutor:
    """Ends one process at a time, as ``how`` says, in an order drawn by chance; a second passes for each.

    Of what shares a process it commits as many as chance says; an item that is to fail, or that chance blames, is released
    to be tried alone, and what comes after it is released.
    """

    def __init__(self, flow: Flow, clock: Clock, how: Callable[[TaskSpec], str], seed: int = 0) -> None:
        self.flow = flow
        self.clock = clock
        self.how = how
        self.chance = random.Random(seed)
        self.slots = self.chance.randint(1, 3)
        self.there: dict[TaskName, Planned | Together] = {}
        self.over: dict[TaskName, bool] = {}
        self.doomed: set[TaskName] = set()
        self.blamed: set[TaskName] = set()
        self.started: list[Started] = []
        self.shared: list[list[TaskRange]] = []
        self.ended: dict[tuple[TaskName, int], float] = {}
        self.graces: list[float] = []
        self.seconds = 0.0
        self.mishaps = 0.1
        self.idle = 0
        self.before_results: Callable[[], None] = lambda: None

    def hearing(self) -> AbstractContextManager[None]:
        return nullcontext()

    def stopping(self, grace: float) -> str:
        return f"running tasks get {grace:g} s"

    @property
    def tasks(self) -> set[TaskName]:
        """All tasks that are there."""
        return {
            name for work in self.there.values() for spec in specs_of(work) for name in spec.tasks.names()
        }

    def submit(self, region: Sequence[Planned]) -> None:
        assert region, "an empty region is none"
        for task in region:
            assert task.spec.count == 1, "neighbours are handed over together"
            assert set(task.upstream) <= {each.spec.name for each in region}
            self._take(task, set(task.upstream))

    def submit_together(self, work: Together) -> None:
        assert work.count > 1
        assert len({spec.name.step for spec in work.specs}) == 1
        if work.apart:
            assert work.count == len(work.specs)
        else:
            assert not any(name in self.blamed for spec in work.specs for name in spec.tasks.names())
            self.shared.append([spec.tasks for spec in work.specs])
        self._take(work, set())

    def _take(self, work: Planned | Together, upstream: set[TaskName]) -> None:
        there = self.tasks
        inputs = {PARAMETERS, *upstream, *(each for each, committed in self.over.items() if committed)}
        for spec in specs_of(work):
            for index in range(spec.count):
                item = spec.item(index)
                assert item.name not in there, f"{item.name} is there twice"
                assert not self.over.get(item.name), f"{item.name} is committed, and is to run again"
                assert inputs.issuperset(item.parents), f"{item.name} can't have its inputs"
                self.over.pop(item.name, None)
        self.there[specs_of(work)[0].name] = work
        self.started += [
            Started(name, spec.attempt, self.clock.now, spec.fallback, len(self.there))
            for spec in specs_of(work)
            for name in spec.tasks.names()
        ]

    def results(self, seconds: float) -> list[Ran]:
        self.before_results()
        ready = [
            name
            for name, work in self.there.items()
            if isinstance(work, Together) or not any(up in self.there for up in work.upstream)
        ]
        self.idle = 0 if ready else self.idle + 1
        assert self.idle < 10_000, "the driver waits for ever, and nothing is left to wait for"
        if not ready or seconds == 0:
            self.clock.now += seconds
            return []
        self.clock.now += 1
        work = self.there.pop(name := self.chance.choice(sorted(ready)))
        results = self.results_together(work) if isinstance(work, Together) else [self.result(work)]
        for result in results:
            for each in result.tasks.names():
                self.over[each] = result.committed
                if result.status != "released":
                    self.ended[each, result.attempt] = self.clock.now
        if not results[0].committed:
            self.doomed.update(each for each, other in self.there.items() if name in upstream_of(other))
        told = [each for result in results for each in result.tasks.names()]
        assert sorted(told) == sorted(name for spec in specs_of(work) for name in spec.tasks.names())
        return [Ran(name, results)]

    def result(self, task: Planned) -> TaskResult:
        spec = task.spec
        if self.graces or spec.name in self.doomed:
            self.doomed.discard(spec.name)
            return TaskResult(spec.name, spec.attempt, "not_run")
        how = self.how(spec)
        error = ("ValueError", "no") if how == "failed" else None
        return replace(self.committed(spec), status=how, error=error)

    def results_together(self, work: Together) -> list[TaskResult]:
        """How those that shared a process went, as a worker tells it: neighbours that went the same way at once."""
        if work.apart:
            return [self.result(Planned(spec)) for spec in work.specs]
        results: list[TaskResult] = []
        ended = bool(self.graces) and self.chance.random() < 0.5
        if self.graces and not ended:
            return [TaskResult(spec.name, spec.attempt, "not_run", count=spec.count) for spec in work.specs]
        for spec in work.specs:
            started = len(results)
            done = 0
            while not ended and done < spec.count:
                item = spec.item(done)
                blamed = self.how(item) == "failed" or self.chance.random() < self.mishaps
                ended = blamed or self.chance.random() < self.mishaps
                if not ended:
                    results.append(self.committed(item))
                    done += 1
                elif blamed:
                    self.blamed.add(item.name)
                    results.append(
                        TaskResult(item.name, 0, "released", alone=True, error=("", "ValueError: no"))
                    )
                    done += 1
            while done < spec.count:
                size = self.chance.randint(1, spec.count - done)
                results.append(TaskResult(spec.tasks.name(done), 0, "released", count=size))
                done += size
            results[started:] = merged(results[started:])
        return results

    def release(self, spec: TaskSpec) -> list[TaskResult]:
        """Let the items of a chunk be single tasks."""
        assert spec.name not in self.there
        return [TaskResult(name, 0, "released") for name in spec.tasks.names()]

    def committed(self, spec: TaskSpec) -> TaskResult:
        """How a task goes that succeeds."""
        targets, size = spec.node.targets, None
        if spec.node.type == "foreach":
            size = self.flow.size(spec.name)
        elif spec.node.condition == "again":
            targets = (targets[0],) if self.flow.again(spec.name, spec.iteration) else (targets[1],)
        elif spec.node.type == "switch":
            targets = (targets[self.flow.branch(spec.name, len(targets))],)
        return TaskResult(
            spec.name, spec.attempt, "committed", targets=targets, size=size, seconds=self.seconds
        )

    def wake(self) -> None:
        pass

    def stop(self, grace: float) -> None:
        self.graces.append(grace)

    def pause(self) -> None:
        pass

    def go_on(self) -> None:
        pass


def specs_of(work: Planned | Together) -> tuple[TaskSpec, ...]:
    return work.specs if isinstance(work, Together) else (work.spec,)


def upstream_of(work: Planned | Together) -> tuple[TaskName, ...]:
    return () if isinstance(work, Together) else work.upstream


def merged(results: Sequence[TaskResult]) -> list[TaskResult]:
    """Committed neighbours of one chunk that went the same way as one."""
    found: list[TaskResult] = []
    for each in results:
        before = found[-1] if found else each
        if found and each.committed and before == replace(each, name=before.name, count=before.count):
            found[-1] = replace(before, count=before.count + 1)
        else:
            found.append(each)
    return found


@dataclass
class Over:
    """A run that is over."""

    outcome: Outcome
    executor: FakeExecutor
    console: Console
    driver: Driver

    def attempts(self, name: str) -> list[int]:
        return [each.attempt for each in self.executor.started if str(each.name) == name]

    def order(self) -> list[str]:
        return [str(each.name) for each in self.executor.started]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(run_module, "time", found)
    return found


def with_policies(flow: Flow, policies: dict[str, Policy]) -> Flow:
    nodes = {
        name: replace(node, policy=policies.get(name, Policy())) for name, node in flow.graph.nodes.items()
    }
    flow.graph = replace(flow.graph, nodes=nodes)
    return flow


def run(
    flow: Flow,
    clock: Clock,
    how: Callable[[TaskSpec], str] = lambda _: "committed",
    limits: Limits = UNLIMITED,
    seed: int = 0,
    **executor_has: float,
) -> Over:
    executor, console = FakeExecutor(flow, clock, how, seed), Console()
    vars(executor).update(executor_has)
    frontier = Frontier(flow.graph, RUN)
    made = Driver(executor, frontier, console, limits, Ledger(release=executor.release))  # type: ignore[arg-type]
    return Over(made.run(frontier.start()), executor, console, made)


def steps(count: int) -> list[Part]:
    return [Part("step") for _ in range(count)]


def failing(*attempts: str) -> Callable[[TaskSpec], str]:
    """Fail just these attempts, each ``step/task/attempt``."""
    return lambda spec: "failed" if f"{spec.name}/{spec.attempt}" in attempts else "committed"


# Any flow


@pytest.fixture(scope="module")
def patched_clock() -> Iterator[Clock]:
    """The clock for tests that draw many examples."""
    with pytest.MonkeyPatch.context() as patch:
        found = Clock()
        patch.setattr(run_module, "time", found)
        yield found


policies = st.builds(
    Policy,
    retries=st.integers(0, 2),
    retry_minutes=st.sampled_from([0.0, 0.5]),
    backoff=st.sampled_from([1.0, 2.0]),
    fallbacks=st.integers(0, 1),
)
limits = st.builds(
    Limits, in_flight=st.none() | st.integers(1, 4), chunk=st.sampled_from([None, None, 1, 2, 3, 100])
)


@settings(max_examples=200)
@given(
    st.builds(Flow, shapes(leaves=5), st.integers(0, 1000), st.sampled_from([3, 8])),
    st.lists(policies, min_size=1),
    limits,
    st.integers(0, 3),
    st.sampled_from([0.0, 0.2, 1.0]),
)
def test_whatever_fails_each_task_is_tried_as_its_policy_says_and_all_is_done_or_the_run_fails(
    patched_clock: Clock,
    flow: Flow,
    drawn: list[Policy],
    limits: Limits,
    badness: int,
    seconds: float,
):
    assume(len(flow.tasks()) < 300)
    with_policies(flow, {name: drawn[index % len(drawn)] for index, name in enumerate(flow.graph.nodes)})

    def how(spec: TaskSpec) -> str:
        fails = random.Random(f"{flow.seed} {spec.name} {spec.attempt}").random() < badness / 10
        return "failed" if fails else "committed"

    ran = run(flow, patched_clock, how, limits, flow.seed, seconds=seconds)

    for name, started in by_task(ran).items():
        policy = flow.graph[name.step].policy
        tried = distinct(started)
        ends = [
            ran.executor.ended[name, each.attempt]
            for each in tried
            if (name, each.attempt) in ran.executor.ended
        ]
        assert [each.attempt for each in tried] == list(range(len(tried)))
        assert len(tried) <= 1 + policy.retries + policy.fallbacks
        assert [each.fallback for each in tried] == [each.attempt > policy.retries for each in tried]
        for failed, (end, following) in enumerate(zip(ends, tried[1:], strict=False), 1):
            assert following.at >= end + policy.delay(failed)
    if limits.chunk is not None:
        assert all(tasks[0].count <= limits.chunk for tasks in ran.executor.shared)
    if limits.chunk == 1:
        assert not ran.executor.shared
    if limits.in_flight is not None:
        assert max(each.beside for each in ran.executor.started) <= limits.in_flight
    done = {name for name, committed in ran.executor.over.items() if committed}
    assert ran.outcome.done == len(done)
    if ran.outcome.failures:
        (first, *_) = ran.outcome.failures
        policy = flow.graph[first.name.step].policy
        assert ran.outcome.status == "failed"
        assert first.attempt == policy.retries + policy.fallbacks
        assert ran.executor.graces == [5.0]
    else:
        assert ran.outcome.status == "successful"
        assert done == set(flow.tasks())
        assert not +ran.console.waiting, "nothing waits when all is done"


def by_task(ran: Over) -> dict[TaskName, list[Started]]:
    found: dict[TaskName, list[Started]] = {}
    for each in ran.executor.started:
        found.setdefault(each.name, []).append(each)
    return found


def distinct(started: list[Started]) -> list[Started]:
    """The attempts; one that was not run, for what was before it failed, is handed over once more."""
    return list({each.attempt: each for each in started}.values())


# Items that share processes


def test_no_more_processes_are_handed_over_than_a_limit_allows(clock: Clock):
    ran = run(Flow([Part("foreach", [steps(2)])], 4, 60), clock, limits=Limits(in_flight=2, chunk=4), seed=1)

    assert ran.executor.shared
    assert max(each.beside for each in ran.executor.started) <= 2
    assert ran.outcome.status == "successful"


def test_an_item_that_fails_where_it_shares_a_process_is_tried_alone_and_only_then_that_counts(clock: Clock):
    flow = with_policies(Flow([Part("foreach", [steps(1)])], 4, 60), {"s3": Policy(retries=1)})

    ran = run(flow, clock, failing("s3/5/0"), Limits(chunk=10), mishaps=0.0)

    assert any(tasks.first <= 5 < tasks.end for shared in ran.executor.shared for tasks in shared)
    assert ran.attempts("s3/5") == [0, 0, 1], "shared, alone, and once more"
    told = [text for text in ran.console.notices if "s3/5 " in text]
    assert told == [
        "Task 1/s3/5 failed in a process that it shared (ValueError: no); it is tried alone.",
        "Task 1/s3/5 failed (ValueError: no); retry 1 of 1 follows.",
    ]
    assert ran.outcome.status == "successful"


def test_items_that_fail_in_company_and_not_alone_get_processes_of_their_own(clock: Clock):
    flow = Flow([Part("foreach", [steps(1)])], 6, 80)

    ran = run(flow, clock, failing(), Limits(chunk=5), mishaps=0.6)

    told = [text for text in ran.console.notices if "could not share" in text]
    assert told == [
        "3 items of s3 could not share a process: each that is not begun has its own from here on."
    ]
    assert len(ran.executor.shared) < 16
    assert ran.outcome.status == "successful"


def test_items_that_fail_alone_too_are_no_reason_not_to_share(clock: Clock):
    bad = [f"s3/{item}/0" for item in range(0, 80, 5)]
    flow = with_policies(Flow([Part("foreach", [steps(1)])], 6, 80), {"s3": Policy(retries=1)})
    flow.size = lambda _task: 80  # type: ignore[method-assign]

    ran = run(flow, clock, failing(*bad), Limits(chunk=5), mishaps=0.0)

    assert not [text for text in ran.console.notices if "could not share" in text]
    assert len(ran.executor.shared) > 10
    assert ran.outcome.status == "successful"


# Attempts


def test_a_task_that_waits_for_its_next_attempt_makes_room_for_another(clock: Clock):
    flow = with_policies(
        Flow([Part("split", [steps(1), steps(1)])]), {"s3": Policy(retries=1, retry_minutes=2)}
    )

    ran = run(flow, clock, failing("s3/0/0"), Limits(in_flight=1))

    assert ran.order() == ["s1/0", "s2/0", "s3/0", "s4/0", "s3/0", "s5/0", "s6/0"]
    first, second = (each.at for each in ran.executor.started if each.name.step == "s3")
    assert second == first + 1 + 120
    assert ran.outcome.status == "successful"


def test_when_all_wait_the_driver_sleeps_until_the_first_is_due(clock: Clock):
    flow = with_policies(
        Flow([Part("split", [steps(1), steps(1)])]),
        {"s3": Policy(retries=1, retry_minutes=10), "s4": Policy(retries=1, retry_minutes=1)},
    )

    ran = run(flow, clock, failing("s3/0/0", "s4/0/0"))

    again = {str(each.name): each.at for each in ran.executor.started if each.attempt == 1}
    assert again["s4/0"] < again["s3/0"]
    assert ran.outcome.status == "successful"


def test_the_wait_grows_with_each_attempt(clock: Clock):
    flow = with_policies(Flow(steps(1)), {"s2": Policy(retries=3, retry_minutes=1, backoff=3.0)})

    ran = run(flow, clock, failing("s2/0/0", "s2/0/1", "s2/0/2"))

    times = [each.at for each in ran.executor.started if each.name.step == "s2"]
    ends = [ran.executor.ended[TaskName("s2", "0"), attempt] for attempt in range(3)]
    assert [again - end for again, end in zip(times[1:], ends, strict=True)] == [60.0, 180.0, 540.0]


def test_jitter_varies_the_wait_by_up_to_a_quarter_and_not_for_all_alike():
    policy = Policy(retries=2, retry_minutes=1, backoff=2.0, jitter=True)

    waits = {policy.delay(2) for _ in range(100)}

    assert len(waits) > 50
    assert 90 <= min(waits) < 120 < max(waits) <= 150


def test_an_attempt_that_does_not_run_the_step_does_not_wait():
    policy = Policy(retries=1, retry_minutes=5, fallbacks=2)

    assert [policy.delay(failed) for failed in (1, 2, 3)] == [300.0, 0.0, 0.0]


def test_what_follows_is_run_when_a_later_attempt_succeeds(clock: Clock):
    flow = with_policies(Flow(steps(3)), {"s2": Policy(retries=1)})

    ran = run(flow, clock, failing("s2/0/0"))

    assert ran.attempts("s2/0") == [0, 1]
    assert ran.attempts("s3/0") == [0, 0]
    assert ran.outcome.status == "successful"
    assert ran.outcome.done == 5


def test_a_person_is_told_of_each_further_attempt(clock: Clock):
    policy = Policy(retries=2, retry_minutes=2, backoff=1.0, fallbacks=1)
    flow = with_policies(Flow(steps(1)), {"s2": policy})

    ran = run(flow, clock, failing("s2/0/0", "s2/0/1", "s2/0/2"))

    assert ran.console.notices == [
        "Task 1/s2/0 failed (ValueError: no); retry 1 of 2 follows in 0:02:00.",
        "Task 1/s2/0 failed (ValueError: no); retry 2 of 2 follows in 0:02:00.",
        "Task 1/s2/0 failed (ValueError: no); its decorators deal with that.",
    ]


def test_a_task_that_says_it_is_the_last_attempt_fails_the_run(clock: Clock):
    flow = with_policies(Flow(steps(1)), {"s2": Policy(retries=3)})
    executor = FakeExecutor(flow, clock, failing("s2/0/0"))
    real = executor.result
    executor.result = lambda task: replace(real(task), final=True)  # type: ignore[method-assign]
    frontier = Frontier(flow.graph, RUN)

    outcome = Driver(executor, frontier, Console(), Limits()).run(frontier.start())  # type: ignore[arg-type]

    assert [str(result.name) for result in outcome.failures] == ["s2/0"]


# Stopping


def test_after_the_last_failure_nothing_starts_and_no_attempt_is_waited_for(clock: Clock):
    flow = with_policies(
        Flow([Part("split", [steps(1), steps(1)])]), {"s3": Policy(retries=1, retry_minutes=60)}
    )

    ran = run(flow, clock, failing("s3/0/0", "s4/0/0"), seed=1)

    assert [str(result.name) for result in ran.outcome.failures] == ["s4/0"]
    assert ran.attempts("s3/0") == [0]
    assert clock.now < 1000 + 60
    assert ran.outcome.status == "failed"


def start(
    flow: Flow, clock: Clock, how: Callable[[TaskSpec], str], **ledger: Any
) -> tuple[Driver, FakeExecutor, Any]:
    executor = FakeExecutor(flow, clock, how)
    frontier = Frontier(flow.graph, RUN)
    driver = Driver(executor, frontier, Console(), Limits(), Ledger(**ledger))  # type: ignore[arg-type]
    return driver, executor, frontier.start()


def test_a_run_that_is_interrupted_does_not_wait_for_further_attempts(clock: Clock):
    flow = with_policies(Flow(steps(1)), {"s2": Policy(retries=1, retry_minutes=60)})
    driver, executor, ready = start(flow, clock, failing("s2/0/0"))
    executor.before_results = lambda: driver._interrupt() if driver._due and not executor.graces else None

    outcome = driver.run(ready)

    assert outcome.status == "interrupted"
    assert outcome.failures == []
    assert executor.graces == [5.0]
    assert [each.attempt for each in executor.started if each.name.step == "s2"] == [0]


def test_a_driver_that_was_replaced_ends_what_runs_at_once_and_starts_nothing(clock: Clock):
    driver, executor, ready = start(Flow([Part("foreach", [steps(1)])]), clock, lambda _: "committed")

    def once_the_items_are_there() -> None:
        if any(name.step == "s3" for name in executor.there) and not executor.graces:
            driver.replaced("Run F/1: grace has taken over.")

    executor.before_results = once_the_items_are_there
    outcome = driver.run(ready)

    assert driver.held_by_another == "Run F/1: grace has taken over."
    assert executor.graces == [0.0]
    assert outcome.status == "failed"
    assert {each.name.step for each in executor.started} <= {"s1", "s2", "s3", "s4", "s5"}
    assert not any(name.step == "s3" for name, committed in executor.over.items() if committed)


def test_before_anything_is_started_the_driver_sees_that_the_run_is_still_its_own(clock: Clock):
    flow = with_policies(Flow(steps(1)), {"s2": Policy(retries=1, retry_minutes=60)})
    asleep = {"since": clock.now}

    def still_ours() -> None:
        if clock.now - asleep["since"] > 60:
            raise RunHeld("another has it")

    driver, executor, ready = start(flow, clock, failing("s2/0/0"), still_ours=still_ours)

    with pytest.raises(RunHeld, match="another has it"):
        driver.run(ready)
    assert [each.attempt for each in executor.started if each.name.step == "s2"] == [0]
