"""What may run next: the same in the end, in whatever order results come."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import Flow, Part, shapes

from daskflow.engine.frontier import Frontier, Planned
from daskflow.errors import InternalError
from daskflow.flow.policy import Policy
from daskflow.pathspec import TaskName, TaskNames, TaskRange
from daskflow.store.layout import PARAMETERS
from daskflow.task.spec import RunContext, TaskResult, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

RUN = RunContext("F", "1", "/store", "token", "/", 10**6, "auto")


def steps(count: int) -> list[Part]:
    return [Part("step") for _ in range(count)]


def named(names: Iterable[str]) -> set[TaskName]:
    return {TaskName.of(name) for name in names}


class Simulation:
    """Executes what the frontier plans, one task at a time, and checks each plan against its rules."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.frontier = Frontier(flow.graph, RUN)
        self.planned: dict[TaskName, Planned] = {}
        self.together: dict[TaskName, TaskRange] = {}
        self.done: set[TaskName] = set()
        self.regions: list[list[Planned]] = []
        self.take(self.frontier.start())

    def take(self, region: list[Planned]) -> None:
        """Check a region and add it to what is planned."""
        here: set[TaskName] = set()
        for task in region:
            for index in range(task.spec.count):
                spec = task.spec.item(index)
                name, parents = spec.name, spec.parents
                assert name not in self.planned, f"{name} is planned twice"
                assert set(task.upstream) == {parent for parent in parents if parent in here}
                assert set(parents) <= self.done | here | {PARAMETERS}, f"{name} can't have its inputs"
                self.planned[name] = replace(task, spec=spec)
                self.together[name] = task.spec.tasks
                here.add(name)
        if region:
            self.regions.append(region)

    def ready(self) -> list[TaskName]:
        """The tasks whose turn it may be now."""
        return [
            name
            for name, task in self.planned.items()
            if name not in self.done and self.done.issuperset(task.upstream)
        ]

    def result(self, name: TaskName, status: str = "committed") -> TaskResult:
        """How a task goes."""
        spec = self.planned[name].spec
        targets, size = spec.node.targets, None
        if spec.node.type == "foreach":
            size = self.flow.size(name)
        elif spec.node.condition == "again":
            targets = (targets[0],) if self.flow.again(name, spec.iteration) else (targets[1],)
        elif spec.node.type == "switch":
            targets = (targets[self.flow.branch(name, len(targets))],)
        return TaskResult(name, spec.attempt, status, targets=targets, size=size)

    def finish(self, name: TaskName, more: Callable[[], bool] = lambda: False) -> list[Planned]:
        """Let a task be committed, and as long as ``more`` says so its neighbours that went the same way; what that opens."""
        assert not self.frontier.finished
        result = self.result(name)
        tasks = TaskRange.of(str(name))
        while more() and (after := tasks.name(result.count)) in set(self.ready()):
            same = replace(self.result(after), name=name, count=result.count) == result
            if not same or self.together[after] != self.together[name]:
                break
            result = replace(result, count=result.count + 1)
        self.done.update(result.tasks.names())
        region = self.frontier.done(result)
        self.take(region)
        return region

    def run(
        self, choose: Callable[[list[TaskName]], TaskName], more: Callable[[], bool] = lambda: False
    ) -> dict[TaskName, TaskSpec]:
        """Run to the end; the tasks that were planned."""
        while ready := self.ready():
            self.finish(choose(ready), more)
        assert self.done == set(self.planned)
        assert self.frontier.finished
        return {name: task.spec for name, task in self.planned.items()}


def first(ready: list[TaskName]) -> TaskName:
    return ready[0]


def last(ready: list[TaskName]) -> TaskName:
    return ready[-1]


# Any flow, in any order


@settings(max_examples=150, deadline=None)
@given(shapes(), st.integers(0, 1000), st.integers(0, 1000))
def test_in_any_order_of_results_just_the_tasks_of_the_flow_run_with_their_inputs_in_order(
    shape: list[Part], seed: int, order: int
):
    flow = Flow(shape, seed)
    expected = flow.tasks()

    chance = random.Random(order)
    specs = Simulation(flow).run(chance.choice, lambda: chance.random() < 0.7)

    assert {name: tuple(spec.parents) for name, spec in specs.items()} == expected


@settings(max_examples=50, deadline=None)
@given(shapes(), st.integers(0, 1000), st.integers(0, 1000))
def test_results_may_overtake_each_other_on_their_way_to_the_driver(shape: list[Part], seed: int, order: int):
    flow = Flow(shape, seed)
    simulation = Simulation(flow)
    chance = random.Random(order)

    while open_tasks := sorted(set(simulation.planned) - simulation.done):
        region = simulation.frontier.done(simulation.result(name := chance.choice(open_tasks)))
        simulation.done.add(name)
        simulation.take(region)

    assert {name: tuple(task.spec.parents) for name, task in simulation.planned.items()} == flow.tasks()


@settings(max_examples=50, deadline=None)
@given(shapes(), st.integers(0, 1000))
def test_the_same_task_is_the_same_spec_in_any_order(shape: list[Part], seed: int):
    one = Simulation(Flow(shape, seed)).run(first)
    other = Simulation(Flow(shape, seed)).run(last)
    third = Simulation(Flow(shape, seed)).run(first, lambda: True)

    assert one == other == third


@settings(max_examples=50, deadline=None)
@given(shapes(), st.integers(0, 1000), st.integers(0, 1000))
def test_a_result_that_comes_twice_changes_nothing(shape: list[Part], seed: int, order: int):
    simulation = Simulation(Flow(shape, seed))
    chance = random.Random(order)

    while ready := simulation.ready():
        simulation.finish(chance.choice(ready))
        again = simulation.result(chance.choice(sorted(simulation.done)))
        assert simulation.frontier.done(again) == []

    assert set(simulation.planned) == set(simulation.flow.tasks())


@settings(max_examples=50, deadline=None)
@given(shapes(), st.integers(0, 1000), st.integers(0, 1000))
def test_a_failure_opens_nothing_and_a_later_attempt_opens_what_the_first_would_have(
    shape: list[Part], seed: int, order: int
):
    simulation = Simulation(Flow(shape, seed))
    chance = random.Random(order)

    while ready := simulation.ready():
        name = chance.choice(ready)
        assert simulation.frontier.done(simulation.result(name, "failed")) == []
        again = simulation.frontier.done(simulation.result(name, "not_run"))
        assert [task.spec.name for task in again] == [name]
        assert not simulation.frontier.finished
        simulation.finish(name)

    assert set(simulation.planned) == set(simulation.flow.tasks())


@settings(max_examples=50, deadline=None)
@given(shapes(("step", "split")))
def test_a_linear_or_branching_flow_is_one_region(shape: list[Part]):
    flow = Flow(shape)
    simulation = Simulation(flow)

    assert set(simulation.planned) == set(flow.tasks())
    simulation.run(first)
    assert len(simulation.regions) == 1


@settings(max_examples=50, deadline=None)
@given(shapes(("step", "split", "foreach")), st.integers(0, 1000))
def test_a_region_reaches_as_far_as_is_known(shape: list[Part], seed: int):
    flow = Flow(shape, seed)
    flow.size = lambda _task: 1  # type: ignore[method-assign]
    simulation = Simulation(flow)
    simulation.run(first)

    decisions = [name for name, task in simulation.planned.items() if task.spec.node.type == "foreach"]
    # Each decision opens one region; a join whose inputs lie in several opens one more at most.
    joins = [name for name, task in simulation.planned.items() if task.spec.node.type == "join"]
    assert len(decisions) + 1 <= len(simulation.regions) <= len(decisions) + 1 + len(joins)


# Single facts


def test_branches_are_joined_in_the_order_of_their_declaration():
    flow = Flow([Part("split", [steps(3), steps(1), steps(2)])])

    specs = Simulation(flow).run(last)

    (join,) = [spec for spec in specs.values() if spec.node.type == "join"]
    assert [parent.step for parent in join.parents] == ["s5", "s6", "s8"]
    assert [specs[parent].stack[-1].index for parent in join.parents] == [0, 1, 2]


def sized(shape: list[Part], size: int) -> Simulation:
    flow = Flow(shape)
    flow.size = lambda _task: size  # type: ignore[method-assign]
    return Simulation(flow)


def test_items_are_joined_by_index_whatever_came_first():
    specs = sized([Part("foreach", [steps(2)])], 12).run(last)

    (join,) = [spec for spec in specs.values() if spec.node.type == "join"]
    assert [parent.task_id for parent in join.parents] == [str(index) for index in range(12)]


def test_if_several_steps_lead_to_the_join_of_a_foreach_their_tasks_come_step_by_step():
    simulation = sized([Part("foreach", [[Part("switch", [steps(1), steps(1)])]])], 6)
    simulation.flow.branch = lambda task, _branches: int(task.task_id) % 2  # type: ignore[method-assign]

    specs = simulation.run(random.Random(1).choice)

    (join,) = [spec for spec in specs.values() if spec.node.type == "join"]
    assert [str(parent) for parent in join.parents] == ["s4/0", "s4/2", "s4/4", "s5/1", "s5/3", "s5/5"]


def test_a_branch_that_chooses_still_gives_its_join_one_input():
    flow = Flow([Part("split", [[Part("switch", [steps(1), steps(2)])], steps(1)])])

    specs = Simulation(flow).run(first)

    (join,) = [spec for spec in specs.values() if spec.node.type == "join"]
    assert len(join.parents) == 2


def test_task_ids_come_from_indices_and_iterations():
    simulation = sized([Part("foreach", [[Part("foreach", [[Part("loop")]])]])], 2)
    simulation.flow.again = lambda _task, iteration: iteration < 2  # type: ignore[method-assign]

    specs = simulation.run(first)

    loop = [name.task_id for name, spec in specs.items() if spec.node.condition == "again"]
    pairs = [f"{one}-{other}" for one in range(2) for other in range(2)]
    assert sorted(loop) == sorted(f"{pair}{iteration}" for pair in pairs for iteration in ("", ".1", ".2"))
    after = [name.task_id for name in specs if name.step == "s5"]
    assert sorted(after) == pairs


def test_an_iteration_follows_the_one_before():
    flow = Flow([Part("loop")])
    flow.again = lambda _task, iteration: iteration < 3  # type: ignore[method-assign]

    specs = Simulation(flow).run(first)

    assert specs[TaskName("s2", "0.3")].parents == TaskNames.of(["s2/0.2"])
    assert specs[TaskName("s2", "0.3")].iteration == 3
    assert specs[TaskName("s3", "0")].parents == TaskNames.of(["s2/0.3"])
    assert specs[TaskName("s3", "0")].iteration == 0


def test_the_stack_of_a_task_tells_each_split_around_it():
    specs = sized([Part("foreach", [[Part("split", [steps(1), steps(1)])]])], 3).run(first)

    outer, inner = specs[TaskName("s5", "2")].stack
    assert (outer.kind, outer.split, outer.index, outer.size, outer.var) == (
        "foreach",
        TaskName("s2", "0"),
        2,
        3,
        "xs",
    )
    assert (inner.kind, inner.split, inner.index, inner.size) == ("split", TaskName("s3", "2"), 1, 2)
    assert specs[TaskName("s6", "2")].stack == (outer,)
    assert specs[TaskName("s7", "0")].stack == ()


def test_a_join_of_several_regions_is_planned_when_the_last_input_is_done():
    simulation = sized([Part("split", [[Part("foreach", [steps(1)])], steps(1)])], 1)
    assert set(simulation.planned) == named(["s1/0", "s2/0", "s3/0", "s6/0"])

    simulation.finish(TaskName("s1", "0"))
    simulation.finish(TaskName("s2", "0"))
    simulation.finish(TaskName("s3", "0"))
    assert TaskName("s5", "0") in simulation.planned
    assert TaskName("s7", "0") not in simulation.planned, "s6/0 of another region is not done"

    simulation.finish(TaskName("s6", "0"))
    while TaskName("s5", "0") not in simulation.done:
        assert TaskName("s7", "0") not in simulation.planned
        simulation.finish(simulation.ready()[0])
    assert TaskName("s7", "0") in simulation.planned


def test_a_join_whose_other_inputs_are_done_is_in_the_region_of_the_last():
    simulation = sized([Part("split", [[Part("foreach", [steps(1)])], steps(1)])], 1)
    for name in ("s1", "s2", "s6"):
        simulation.finish(TaskName(name, "0"))

    region = simulation.finish(TaskName("s3", "0"))

    join = next(task for task in region if task.spec.name == TaskName("s7", "0"))
    assert join.spec.parents == TaskNames.of(["s5/0", "s6/0"])
    assert join.upstream == (TaskName("s5", "0"),)


def test_the_first_task_starts_from_the_parameters():
    (task, _) = Frontier(Flow([Part("foreach", [steps(1)])]).graph, RUN).start()

    assert task.spec == TaskSpec(RUN, TaskName("s1", "0"), task.spec.node, TaskNames.single(PARAMETERS))
    assert task.upstream == ()


def test_a_run_is_finished_only_by_its_last_step():
    simulation = Simulation(Flow(steps(1)))

    for name in ("s1", "s2"):
        simulation.finish(TaskName(name, "0"))
        assert not simulation.frontier.finished
    simulation.finish(TaskName("s3", "0"))
    assert simulation.frontier.finished


def retried(flow: Flow, step: str, **policy: int) -> Frontier:
    nodes = flow.graph.nodes
    chosen = replace(nodes[step], policy=Policy(**policy))
    return Frontier(replace(flow.graph, nodes=nodes | {step: chosen}), RUN)


def failed(spec: TaskSpec, **known: bool) -> TaskResult:
    return TaskResult(spec.name, spec.attempt, "failed", error=("ValueError", "no"), **known)


def test_a_failed_task_is_tried_as_often_as_its_policy_says_and_then_falls_back():
    frontier = retried(Flow(steps(1)), "s2", retries=2, fallbacks=1)
    frontier.start()
    spec = frontier.spec(TaskName("s2", "0"))
    tries = []

    while (again := frontier.again(failed(spec))) is not None:
        assert (again.name, again.parents) == (spec.name, spec.parents)
        assert frontier.spec(spec.name) == again
        tries.append((again.attempt, again.fallback))
        spec = again

    assert tries == [(1, False), (2, False), (3, True)]


def test_an_attempt_that_says_it_is_the_last_is_the_last():
    frontier = retried(Flow(steps(1)), "s2", retries=2, fallbacks=1)
    frontier.start()

    assert frontier.again(failed(frontier.spec(TaskName("s2", "0")), final=True)) is None


def test_a_run_that_goes_on_gives_a_task_all_its_retries_again():
    frontier = retried(Flow(steps(1)), "s2", retries=1)
    frontier.start()

    spec = frontier.starts_at(TaskName("s2", "0"), 5)
    again = frontier.again(failed(spec))

    assert (spec.attempt, again.attempt) == (5, 6)
    assert frontier.again(failed(again)) is None


def test_what_was_not_run_is_ready_once_all_before_it_is_done():
    frontier = retried(Flow(steps(3)), "s2", retries=1)
    done = {task.spec.name: task.spec for task in frontier.start()}
    first, second, third, fourth = (done[TaskName(f"s{number}", "0")] for number in (1, 2, 3, 4))
    frontier.done(TaskResult(first.name, 0, "committed", targets=("s2",)))
    frontier.again(failed(second))

    waiting = [frontier.done(TaskResult(spec.name, 0, "not_run")) for spec in (third, fourth)]
    ready = frontier.done(TaskResult(second.name, 1, "committed", targets=("s3",)))

    assert waiting == [[], []]
    assert [(task.spec.name, task.upstream) for task in ready] == [
        (third.name, ()),
        (fourth.name, (third.name,)),
    ]


def test_a_task_that_hears_too_late_that_it_was_not_run_is_ready_at_once():
    frontier = retried(Flow(steps(1)), "s2", retries=1)
    names = [task.spec.name for task in frontier.start()]
    frontier.done(TaskResult(names[0], 0, "committed"))
    frontier.again(failed(frontier.spec(names[1])))
    frontier.done(TaskResult(names[1], 1, "committed"))

    ready = frontier.done(TaskResult(names[2], 0, "not_run"))

    assert [task.spec.name for task in ready] == [names[2]]


def test_a_foreach_of_a_million_items_is_planned_as_one_and_so_is_all_that_follows():
    simulation = sized([Part("foreach", [steps(2)])], 1_000_000)
    frontier = simulation.frontier
    simulation.finish(TaskName("s1", "0"))

    (items,) = frontier.done(simulation.result(TaskName("s2", "0")))
    assert items.is_open
    assert items.spec.tasks == TaskRange.of("s3/0..999999")
    ready = []
    for tasks in ("s3/600000..999999", "s3/0..599999"):
        ready += frontier.done(committed(TaskRange.of(tasks)))
    assert [str(task.spec.tasks) for task in ready] == ["s4/600000..999999", "s4/0..599999"]
    assert not any(task.is_open for task in ready)

    assert frontier.done(committed(TaskRange.of("s4/0..599999"))) == []
    join, _end = frontier.done(committed(TaskRange.of("s4/600000..999999")))
    assert join.spec.parents == TaskNames.of(["s4/0..999999"])
    assert frontier.progress()["s3"] == (1_000_000, 1_000_000)


def committed(tasks: TaskRange) -> TaskResult:
    return TaskResult(tasks.name(), 0, "committed", count=tasks.count)


def test_the_join_of_many_items_that_lie_in_many_regions_waits_for_all():
    simulation = sized([Part("foreach", [[Part("switch", [steps(1), steps(1)])]])], 2_000)
    frontier, flow = simulation.frontier, simulation.flow
    flow.branch = lambda task, _branches: int(task.task_id) % 2  # type: ignore[method-assign]
    for name in ("s1", "s2"):
        simulation.finish(TaskName(name, "0"))
    items = [name for name in simulation.planned if name.step == "s3"]
    bodies = [simulation.finish(name)[0].spec.name for name in items]

    opened = [frontier.done(simulation.result(name)) for name in bodies]

    assert [len(region) for region in opened] == [0] * 1_999 + [2]
    assert len(opened[-1][0].spec.parents) == 2_000


def test_the_work_for_a_join_grows_with_the_number_of_its_inputs_and_no_faster(
    monkeypatch: pytest.MonkeyPatch,
):
    width = 300
    simulation = sized([Part("foreach", [[Part("switch", [steps(1), steps(1)])]])], width)
    is_done, asked = simulation.frontier.is_done, []
    monkeypatch.setattr(simulation.frontier, "is_done", lambda name: asked.append(name) or is_done(name))

    simulation.run(first)

    assert len(simulation.done) == 4 + 2 * width
    assert len(asked) < 10 * width


# What can't be


def test_a_result_of_a_task_that_was_never_planned_is_a_defect():
    frontier = Simulation(Flow(steps(1))).frontier

    with pytest.raises(InternalError, match="Task F/1/nowhere/0 was never planned"):
        frontier.done(TaskResult(TaskName("nowhere", "0"), 0, "committed"))
    with pytest.raises(InternalError, match="Task F/1/s2/7 was never planned"):
        frontier.spec(TaskName("s2", "7"))


@pytest.mark.parametrize("size", [None, 0])
def test_a_foreach_that_does_not_say_how_many_items_is_a_defect_and_not_the_end_of_the_run(size: Any):
    simulation = Simulation(Flow([Part("foreach", [steps(1)])]))
    simulation.finish(TaskName("s1", "0"))

    with pytest.raises(InternalError, match="Task F/1/s2/0 went over items"):
        simulation.frontier.done(TaskResult(TaskName("s2", "0"), 0, "committed", ("s3",), size))


@pytest.mark.parametrize("targets", [(), ("nowhere",)])
def test_a_switch_that_chose_no_step_of_its_own_is_a_defect_and_not_the_end_of_the_run(targets: Any):
    simulation = Simulation(Flow([Part("switch", [steps(1), steps(1)])]))
    simulation.finish(TaskName("s1", "0"))

    with pytest.raises(InternalError, match="Task F/1/s2/0 chose .*; it can choose s3, s4"):
        simulation.frontier.done(TaskResult(TaskName("s2", "0"), 0, "committed", targets))
