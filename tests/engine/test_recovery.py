"""What a run has and what is left of it: from any set of commits the same tasks remain."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import Flow, Part, shapes
from test_frontier import RUN, Simulation, steps

from daskflow.engine.frontier import Frontier
from daskflow.engine.resume import Recovered, downstream, recover
from daskflow.errors import CommandException
from daskflow.pathspec import TaskName
from daskflow.store.layout import PARAMETERS
from daskflow.store.records import TaskRecord, timestamp

KINDS = {"join": "linear"}


class Store:
    """The commits of a run that came so far and no further."""

    def __init__(self, flow: Flow) -> None:
        self.records: dict[TaskName, TaskRecord] = {}
        self.asked: list[TaskName] = []
        self.flow = flow

    def task(self, name: TaskName) -> TaskRecord | None:
        self.asked.append(name)
        return self.records.get(name)

    def commit(self, simulation: Simulation, name: TaskName) -> None:
        result = simulation.result(name)
        node = self.flow.graph[name.step]
        now = timestamp()
        self.records[name] = TaskRecord(
            flow="F",
            run="1",
            step=name.step,
            task=name.task_id,
            attempt=0,
            execution="0.a",
            status="ok",
            started=now,
            finished=now,
            transition={"kind": KINDS.get(node.type, node.type), "targets": list(result.targets)},
            foreach={"size": result.size} if result.size is not None else None,
        )


def ran(flow: Flow, tasks: int, order: int = 0) -> Store:
    """The store after so many tasks were committed, in an order drawn by chance."""
    store, simulation, chance = Store(flow), Simulation(flow), random.Random(order)
    for _ in range(tasks):
        if not (ready := simulation.ready()):
            break
        name = chance.choice(ready)
        store.commit(simulation, name)
        simulation.finish(name)
    return store


def go_on(flow: Flow, frontier: Frontier, found: Recovered, order: int = 0) -> list[TaskName]:
    """Run what is left to the end, in any order that keeps what is upstream first; what ran."""
    simulation = Simulation(flow)
    simulation.frontier, simulation.done = frontier, set(found.done)
    simulation.planned = {task.spec.name: task for task in found.left}
    chance, ran = random.Random(order), []
    while ready := [
        name
        for name, task in simulation.planned.items()
        if name not in simulation.done and simulation.done.issuperset(task.upstream)
    ]:
        name = chance.choice(ready)
        assert set(simulation.planned[name].spec.parents) <= simulation.done | {PARAMETERS}
        simulation.finish(name)
        ran.append(name)
    assert frontier.finished
    return ran


@settings(max_examples=150)
@given(shapes(), st.integers(0, 1000), st.integers(0, 60), st.integers(0, 1000))
def test_from_any_commits_just_what_is_missing_runs_and_the_run_comes_to_its_end(
    shape: list[Part], seed: int, tasks: int, order: int
):
    flow = Flow(shape, seed)
    store, frontier = ran(flow, tasks, order), Frontier(flow.graph, RUN)

    found = recover(frontier, store.task)

    assert set(found.done) == set(store.records)
    if len(store.records) == len(flow.tasks()):
        assert found.left == []
        assert frontier.finished
        return
    again = go_on(flow, frontier, found, order)
    assert len(again) == len(set(again))
    assert set(again) == set(flow.tasks()) - set(store.records)


@settings(max_examples=100)
@given(shapes(), st.integers(0, 1000), st.integers(0, 60), st.integers(0, 1000))
def test_what_is_left_can_be_handed_over_as_one_region(shape: list[Part], seed: int, tasks: int, order: int):
    flow = Flow(shape, seed)
    store = ran(flow, tasks, order)

    found = recover(Frontier(flow.graph, RUN), store.task)

    before: set[TaskName] = set()
    for task in found.left:
        assert set(task.upstream) <= before
        assert set(task.spec.parents) <= set(found.done) | set(task.upstream) | {PARAMETERS}
        before.add(task.spec.name)


@settings(max_examples=100)
@given(shapes(), st.integers(0, 1000), st.integers(0, 60), st.integers(0, 1000), st.data())
def test_a_run_can_be_recovered_again_and_again(
    shape: list[Part], seed: int, tasks: int, order: int, data: st.DataObject
):
    flow = Flow(shape, seed)
    store = ran(flow, tasks, order)
    for _ in range(3):
        frontier = Frontier(flow.graph, RUN)
        found = recover(frontier, store.task)
        ready = [task.spec.name for task in found.left if not task.upstream]
        simulation = Simulation(flow)
        for name in data.draw(st.lists(st.sampled_from(ready), unique=True) if ready else st.just([])):
            simulation.planned = {task.spec.name: task for task in found.left}
            store.commit(simulation, name)

    frontier = Frontier(flow.graph, RUN)
    found = recover(frontier, store.task)

    rest = go_on(flow, frontier, found) if found.left else []
    assert {*rest, *store.records} == set(flow.tasks())
    assert not {*rest} & {*store.records}


@settings(max_examples=100)
@given(shapes(), st.integers(0, 1000), st.data())
def test_from_a_step_on_all_runs_again_and_nothing_else(shape: list[Part], seed: int, data: st.DataObject):
    flow = Flow(shape, seed)
    store = ran(flow, 10_000)
    step = data.draw(st.sampled_from(sorted(flow.graph.nodes)))
    again = downstream(flow.graph, step)
    frontier = Frontier(flow.graph, RUN)

    found = recover(frontier, lambda name: None if name.step in again else store.task(name))

    expected = {name for name in flow.tasks() if name.step in again}
    assert set(found.done) == set(flow.tasks()) - expected
    assert set(go_on(flow, frontier, found) if found.left else ()) == expected


def test_each_commit_is_looked_at_once():
    flow = Flow([Part("foreach", [steps(2)])], 3)
    store = ran(flow, 10_000)

    recover(Frontier(flow.graph, RUN), store.task)

    assert sorted(store.asked) == sorted(flow.tasks())


def test_a_task_that_was_tried_before_goes_on_counting_its_attempts():
    flow = Flow(steps(2))
    store = ran(flow, 1)
    frontier = Frontier(flow.graph, RUN)

    found = recover(frontier, store.task, lambda name: 3 if name.step == "s2" else 0)

    specs = {task.spec.name.step: task.spec for task in found.left}
    assert (specs["s2"].attempt, specs["s2"].first) == (3, 3)
    assert (specs["s3"].attempt, specs["s3"].first) == (0, 0)
    assert frontier.spec(TaskName("s2", "0")) == specs["s2"]


def test_a_run_that_has_nothing_starts_from_its_beginning():
    flow = Flow([Part("foreach", [steps(1)])])

    found = recover(Frontier(flow.graph, RUN), Store(flow).task)

    assert found.done == []
    assert found.left == Frontier(flow.graph, RUN).start()


# A graph that has changed


def changed(flow: Flow, step: str, **fields: Any) -> Flow:
    nodes = dict(flow.graph.nodes)
    nodes[step] = replace(nodes[step], **fields)
    flow.graph = replace(flow.graph, nodes=nodes)
    return flow


def test_a_step_that_is_missing_now_is_named():
    flow = Flow(steps(2))
    store = ran(flow, 3)
    changed(flow, "s2", targets=("s4",))

    with pytest.raises(CommandException) as error:
        recover(Frontier(flow.graph, RUN), store.task)

    assert error.value.message == (
        "The flow has changed too much: in run 1, step 's2' went on to s3 (linear); in today's code step 's3' is missing "
        "there. Start a new run, or resume from a step before: resume s2."
    )


def test_a_branch_that_is_new_is_no_part_of_the_old_run():
    flow = Flow([Part("split", [steps(1), steps(1)])])
    store = ran(flow, 3)
    changed(flow, "s2", targets=("s3", "s4", "s6"))

    with pytest.raises(
        CommandException, match=r"went on to s3, s4 \(split\); in today's code it goes on to s3, s4, s6"
    ):
        recover(Frontier(flow.graph, RUN), store.task)


def test_a_step_that_goes_on_in_another_way_does_not_fit():
    flow = Flow(steps(2))
    store = ran(flow, 2)
    changed(flow, "s2", type="foreach", foreach="xs")

    with pytest.raises(CommandException, match=r"step 's2' went on to s3 \(linear\)"):
        recover(Frontier(flow.graph, RUN), store.task)


def test_a_step_that_was_the_last_and_is_no_more_does_not_fit():
    store = ran(Flow(steps(1)), 3)

    with pytest.raises(
        CommandException, match=r"step 's3' went on to nothing \(end\); in today's code it goes on to s4"
    ):
        recover(Frontier(Flow(steps(2)).graph, RUN), store.task)


def test_a_switch_may_have_new_cases_as_long_as_the_chosen_one_is_there():
    flow = Flow([Part("switch", [steps(1), steps(1)])], 5)
    store = ran(flow, 3)
    (chosen,) = store.records[TaskName("s2", "0")].transition["targets"]  # type: ignore[index]
    (other,) = {"s3", "s4"} - {chosen}

    assert recover(Frontier(changed(flow, "s2", targets=(chosen,)).graph, RUN), store.task).done

    with pytest.raises(CommandException, match=f"step '{chosen}' is missing there"):
        recover(Frontier(changed(flow, "s2", targets=(other,)).graph, RUN), store.task)


def test_what_runs_again_may_have_changed_in_any_way():
    flow = Flow(steps(2))
    store = ran(flow, 4)
    changed(flow, "s3", targets=("s2",), type="foreach")
    again = downstream(flow.graph, "s3")

    found = recover(Frontier(flow.graph, RUN), lambda name: None if name.step in again else store.task(name))

    assert [name.step for name in found.done] == ["s1"], "s2 follows s3 in the graph of today"


def test_an_unknown_step_is_refused_with_those_there_are():
    with pytest.raises(
        CommandException, match="'s9' is an invalid step name. Valid step names include: s1, s2, s3."
    ):
        downstream(Flow(steps(1)).graph, "s9")
