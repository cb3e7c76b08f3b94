"""The frontier against a simulated run: any valid flow, any order of results."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_flows import LOOP, TASK, Decisions, RandomFlow, sequences

from daskflow.engine.frontier import Frontier, next_attempt
from daskflow.errors import InternalError
from daskflow.pathspec import TaskName
from daskflow.store.layout import PARAMETERS
from daskflow.task.spec import RunContext, TaskResult

RUN = RunContext("Drawn", "1", "/store", "hash", 0, "/", 1 << 20, "auto")
ORDERS = st.integers(0, 2**32 - 1)


class Simulation:
    """A run in which tasks take no time, and their results come in an order that a seed decides."""

    def __init__(self, flow, decisions, order=0):
        self.flow = flow
        self.decisions = decisions
        self.frontier = Frontier(flow.graph, RUN)
        self.random = random.Random(order)
        self.planned = {}
        self.regions = []
        self.open = []
        self.done = set()
        self.take(self.frontier.start())

    def take(self, region):
        """Check a region and add its tasks to those whose result may come."""
        if region:
            self.regions.append([task.spec.name for task in region])
        before = set()
        for task in region:
            spec = task.spec
            assert spec.name not in self.planned, f"{spec.name} is planned twice"
            assert set(task.upstream) <= before, f"{spec.name} is planned before what it depends on"
            assert task.upstream == tuple(parent for parent in spec.parents if parent in before)
            elsewhere = set(spec.parents) - before - {PARAMETERS}
            assert elsewhere <= self.done, f"{spec.name} does not wait for {elsewhere - self.done}"
            self.planned[spec.name] = spec
            before.add(spec.name)
        self.open += before

    def result(self, name, status="committed"):
        node = self.flow.graph[name.step]
        if node.type == "foreach":
            width = 1 + self.decisions.of(name, self.decisions.widest)
            return TaskResult(name, 0, status, node.targets, size=width)
        if node.type != "switch":
            return TaskResult(name, 0, status, node.targets)
        if node.recursive:
            first = TaskName(name.step, name.task_id.partition(".")[0])
            again = self.planned[name].iteration < self.decisions.of(first, 3)
            return TaskResult(name, 0, status, (name.step if again else f"{name.step}x",))
        targets = list(dict(node.cases).values())
        return TaskResult(name, 0, status, (targets[self.decisions.of(name, len(targets))],))

    def deliver(self, name):
        """The task is committed, and the driver hears of it."""
        self.open.remove(name)
        self.done.add(name)
        region = self.frontier.done(self.result(name))
        self.take(region)
        return region

    def any_open(self):
        """A task that is planned and not over. A region's results may come in any order, not only along its edges."""
        return self.random.choice(sorted(self.open))

    def to_the_end(self):
        while self.open:
            assert not self.frontier.finished or TaskName("end", "0") in self.done
            self.deliver(self.any_open())
        return self

    def parents(self):
        return {name: spec.parents for name, spec in self.planned.items()}


def flow_of(*blocks):
    return RandomFlow(list(blocks))


@given(sequences(), ORDERS, ORDERS)
def test_any_order_of_results_gives_each_task_of_the_flow_once_with_its_parents(blocks, seed, order):
    flow = RandomFlow(blocks)
    decisions = Decisions(seed)

    run = Simulation(flow, decisions, order).to_the_end()

    assert run.parents() == flow.tasks(decisions)
    assert run.frontier.finished


@given(sequences(leaves=(TASK,), kinds=("split",)), ORDERS)
def test_a_flow_that_decides_nothing_is_one_region(blocks, order):
    flow = RandomFlow(blocks)

    run = Simulation(flow, Decisions(), order)

    assert len(run.regions) == 1
    assert run.parents() == flow.tasks(Decisions())
    run.to_the_end()
    assert len(run.regions) == 1


@given(sequences(), ORDERS, ORDERS)
def test_a_result_that_comes_twice_changes_nothing(blocks, seed, order):
    run = Simulation(RandomFlow(blocks), Decisions(seed), order)

    while run.open:
        name = run.any_open()
        run.deliver(name)
        for heard in run.done:
            assert run.frontier.done(run.result(heard)) == []

    assert run.parents() == run.flow.tasks(run.decisions)


@given(sequences(), ORDERS, ORDERS, st.sampled_from(["failed", "not_run"]))
def test_only_what_is_committed_opens_anything(blocks, seed, order, status):
    run = Simulation(RandomFlow(blocks), Decisions(seed), order)

    while run.open:
        name = run.any_open()
        assert run.frontier.done(run.result(name, status)) == []
        assert run.frontier.finished == (TaskName("end", "0") in run.done)
        run.deliver(name)

    assert run.parents() == run.flow.tasks(run.decisions)


@given(sequences(), ORDERS, ORDERS)
def test_what_depends_on_a_failed_task_is_not_opened_by_others(blocks, seed, order):
    run = Simulation(RandomFlow(blocks), Decisions(seed), order)
    failed = run.any_open()
    run.open.remove(failed)

    run.frontier.done(run.result(failed, "failed"))
    while run.open:
        run.deliver(run.any_open())

    later = {failed}
    for region in run.regions[1:]:
        assert all(later.isdisjoint(run.planned[name].parents) for name in region)


def test_a_foreach_opens_one_region_with_all_items_and_the_join():
    run = Simulation(flow_of(("foreach", [[TASK, TASK]])), Decisions(widest=1))
    run.decisions.of = lambda _name, _choices: 2
    assert [[str(name) for name in region] for region in run.regions] == [["start/0", "foreach1/0"]]

    region = run.deliver(TaskName("foreach1", "0"))

    assert [(str(task.spec.name), [str(name) for name in task.upstream]) for task in region] == [
        ("task4/0", []),
        ("task4/1", []),
        ("task4/2", []),
        ("task3/0", ["task4/0"]),
        ("task3/1", ["task4/1"]),
        ("task3/2", ["task4/2"]),
        ("foreach1j/0", ["task3/0", "task3/1", "task3/2"]),
        ("end/0", ["foreach1j/0"]),
    ]
    assert [frame.to_json() for frame in region[1].spec.stack] == [
        {"kind": "foreach", "split": "foreach1/0", "index": 1, "size": 3, "var": "xs"}
    ]


def test_branches_come_into_a_join_as_declared_whichever_is_known_first():
    flow = flow_of(("split", [[("switch", [[TASK], [TASK]])], [TASK], [LOOP]]))
    run = Simulation(flow, Decisions())
    split = TaskName("split1", "0")

    run.to_the_end()

    join = run.planned[TaskName("split1j", "0")]
    branches = [run.planned[parent].stack[-1] for parent in join.parents]
    assert [(frame.split, frame.index, frame.size) for frame in branches] == [
        (split, 0, 3),
        (split, 1, 3),
        (split, 2, 3),
    ]


def test_items_that_come_by_several_steps_are_grouped_by_step_and_keep_their_order_within():
    run = Simulation(flow_of(("foreach", [[("switch", [[TASK], [TASK]])]])), Decisions())
    run.decisions.of = lambda name, _choices: 3 if name.step == "foreach1" else (int(name.task_id) + 1) % 2

    run.to_the_end()

    parents = run.planned[TaskName("foreach1j", "0")].parents
    assert list(map(str, parents)) == ["task4/1", "task4/3", "task5/0", "task5/2"]


def test_two_items_that_come_by_two_steps_are_grouped_by_step_too():
    run = Simulation(flow_of(("foreach", [[("switch", [[TASK], [TASK]])]])), Decisions())
    run.decisions.of = lambda name, _choices: 1 if name.step == "foreach1" else 1 - int(name.task_id)

    run.to_the_end()

    assert list(map(str, run.planned[TaskName("foreach1j", "0")].parents)) == ["task4/1", "task5/0"]


@pytest.mark.parametrize("first", [0, 1])
def test_a_join_whose_inputs_are_in_two_regions_waits_for_both(first):
    branch = [("switch", [[TASK], [TASK]])]
    run = Simulation(flow_of(("split", [branch, branch])), Decisions())
    run.deliver(TaskName("start", "0"))
    run.deliver(TaskName("split1", "0"))
    for switch in sorted(run.open):
        run.deliver(switch)
    ends = sorted(run.open)

    assert run.deliver(ends[first]) == []
    region = run.deliver(ends[1 - first])

    assert [task.spec.name.step for task in region] == ["split1j", "end"]


def test_an_iteration_of_a_recursion_starts_from_the_one_before():
    run = Simulation(flow_of(LOOP), Decisions())
    run.decisions.of = lambda _name, _choices: 2

    run.to_the_end()

    loop = [spec for name, spec in run.planned.items() if name.step == "loop1"]
    assert [str(spec.name) for spec in loop] == ["loop1/0", "loop1/0.1", "loop1/0.2"]
    assert [spec.iteration for spec in loop] == [0, 1, 2]
    assert [spec.parents for spec in loop[1:]] == [(loop[0].name,), (loop[1].name,)]


def test_a_task_that_was_never_planned_is_an_error_of_ours():
    frontier = Frontier(flow_of().graph, RUN)
    frontier.start()

    with pytest.raises(InternalError, match="Drawn/1/other/0 was never planned"):
        frontier.done(TaskResult(TaskName("other", "0"), 0, "committed"))


def test_a_foreach_without_a_number_of_items_is_an_error_of_ours():
    run = Simulation(flow_of(("foreach", [[TASK]])), Decisions())

    with pytest.raises(InternalError, match="Drawn/1/foreach1/0 went over items"):
        run.frontier.done(TaskResult(TaskName("foreach1", "0"), 0, "committed", ("task2",)))


def test_a_join_outside_of_any_split_is_an_error_of_ours():
    graph = flow_of(TASK).graph
    graph.nodes["end"] = replace(graph.nodes["end"], type="join")

    with pytest.raises(InternalError, match="Step 'task1' leads to the join 'end' outside of any split"):
        Frontier(graph, RUN).start()


def test_the_next_attempt_is_the_same_task():
    (spec, *_) = [task.spec for task in Frontier(flow_of().graph, RUN).start()]

    assert next_attempt(spec) == replace(spec, attempt=1)
    assert next_attempt(next_attempt(spec)).attempt == 2


class Counted(set):
    """A set that counts how often it is asked."""

    asked = 0

    def __contains__(self, item):
        self.asked += 1
        return super().__contains__(item)


@pytest.mark.parametrize(
    "body", [[TASK], [("switch", [[TASK], [TASK]])], [LOOP]], ids=["task", "switch", "loop"]
)
def test_the_work_for_a_wide_foreach_grows_with_its_width_and_no_faster(body):
    width = 3_000
    run = Simulation(flow_of(("foreach", [body])), Decisions())
    run.decisions.of = lambda name, _choices: width - 1 if name.step == "foreach1" else 0
    run.frontier._done = Counted()

    for name in list(run.open):
        run.frontier.done(run.result(name))
    waiting = {name for name in run.frontier._specs if name not in run.frontier._done}
    run.frontier._done.asked = 0
    opened = []
    while waiting:
        for name in sorted(waiting, key=lambda name: int(name.task_id)):
            opened += [task.spec for task in run.frontier.done(_first_case(run, name))]
        waiting = {spec.name for spec in opened}
        opened = []

    assert run.frontier.finished
    assert run.frontier._done.asked < 10 * width


def _first_case(run, name):
    node = run.flow.graph[name.step]
    leaves = f"{name.step}x" if node.recursive else node.targets[0] if node.targets else ""
    return TaskResult(name, 0, "committed", (leaves,))
