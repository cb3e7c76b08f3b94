"""What a run has and what is left of it: from any set of commits the same tasks remain."""

from __future__ import annotations

import contextlib
import itertools
import random
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapes import Flow, Part, shapes
from test_frontier import RUN, Simulation, steps

from daskflow.engine.frontier import Frontier
from daskflow.engine.resume import Past, Recovered, downstream, recover
from daskflow.errors import CommandException
from daskflow.pathspec import TaskName, TaskRange, TaskSet
from daskflow.store.chunks import Chunk, differences
from daskflow.store.flows import new_run
from daskflow.store.layout import PARAMETERS
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.task.spec import record_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from daskflow.store.records import TaskRecord

KINDS = {"join": "linear"}


class Store:
    """The commits of a run that came so far and no further: tasks of their own, and chunks, whole and in part."""

    def __init__(self, flow: Flow, folder: str, seed: int = 0, widest_chunk: int = 4) -> None:
        self.flow = flow
        self.chance = random.Random(seed)
        self.widest_chunk = widest_chunk
        self.folder = folder
        self.run = new_run(storage_at(folder), "F", lambda run: {"flow": "F", "run": run})
        self.done: set[TaskName] = set()
        self.cut: dict[TaskName, TaskRange] = {}

    def past(self, without: Collection[str] = ()) -> Past:
        """As a new driver sees it."""
        return Past(RunStore(storage_at(self.folder), "F", self.run.run), without)

    def commit(self, simulation: Simulation, name: TaskName) -> TaskRange | None:
        """Run what a task shares a process with, or it alone; those that are committed."""
        tasks = self._cut(simulation, name)
        if tasks.count == 1:
            self.run.commit(self._record(simulation, name))
            done = tasks
        else:
            done = self._commit_chunk(simulation, tasks)
        self.done.update(done.names() if done else ())
        return done

    def _cut(self, simulation: Simulation, name: TaskName) -> TaskRange:
        """The chunk that a task is in; for an item of a foreach that is decided now, for some of its neighbours too."""
        together = simulation.together[name]
        if together.count == 1 or not simulation.planned[name].spec.is_first_step:
            return self.cut.get(name, together)
        while name not in self.cut:
            size = self.chance.randint(1, self.widest_chunk)
            first = next(each for each in together.names() if each not in self.cut)
            at = TaskRange.of(str(first)).first - together.first
            free = [each for each in together.part(at, min(at + size, together.count)).names()]
            free = list(itertools.takewhile(lambda each: each not in self.cut, free))
            piece = together.part(at, at + len(free))
            self.run.extend_plan(name.step, [piece])
            self._cuts(piece)
        return self.cut[name]

    def _cuts(self, piece: TaskRange) -> None:
        self.cut.update(dict.fromkeys(piece.names(), piece))

    def _commit_chunk(self, simulation: Simulation, tasks: TaskRange) -> TaskRange | None:
        done = self.chance.choice([tasks.count, self.chance.randint(0, tasks.count)])
        records = [self._record(simulation, name).to_json() for name in tasks.part(0, done).names()]
        each = [{"at": 0.0, "took": 0.0} | differences(records[0], record) for record in records]
        rest, at = [], done
        while at < tasks.count:
            size = self.chance.randint(1, tasks.count - at - (at == 0 and not done))
            rest.append(tasks.part(at, at + size))
            at += size
        for piece in rest:
            self._cuts(piece)
        chunk = Chunk(tasks, records[0] if records else {}, each, rest=rest)
        assert self.run.chunks.commit(chunk, chunk.encoded()) is chunk
        return chunk.done

    def _record(self, simulation: Simulation, name: TaskName) -> TaskRecord:
        spec, result = simulation.planned[name].spec, simulation.result(name)
        return record_of(
            replace(spec, execution="0.a"),
            status="ok",
            transition={
                "kind": KINDS.get(spec.node.type, spec.node.type),
                "targets": list(result.targets),
            },
            foreach={"size": result.size, "items": list(range(result.size))}
            if result.size is not None
            else None,
        )


def finish(simulation: Simulation, tasks: TaskRange | None) -> None:
    """Let the frontier hear of what was committed, as the driver does: neighbours that went the same way at once."""
    while tasks is not None:
        before, more = len(simulation.done), iter(range(tasks.count - 1))
        simulation.finish(tasks.name(), lambda more=more: next(more, None) is not None)
        done = len(simulation.done) - before
        tasks = tasks.part(done, tasks.count) if done < tasks.count else None


def ran(flow: Flow, folder: str, tasks: int, order: int = 0) -> Store:
    """The store after so many tasks were committed, in an order drawn by chance."""
    store, simulation, chance = Store(flow, folder, order), Simulation(flow), random.Random(order)
    while len(store.done) < tasks and (ready := simulation.ready()):
        finish(simulation, store.commit(simulation, chance.choice(ready)))
    return store


def names_in(done: TaskSet) -> set[TaskName]:
    return {name for tasks in done.ranges() for name in tasks.names()}


def simulated(flow: Flow, frontier: Frontier, found: Recovered) -> Simulation:
    """What is left, ready to be run."""
    simulation = Simulation(flow)
    simulation.frontier, simulation.done = frontier, names_in(found.done)
    simulation.planned, simulation.together = {}, {}
    simulation.take(found.left)
    return simulation


def go_on(flow: Flow, frontier: Frontier, found: Recovered, order: int = 0) -> list[TaskName]:
    """Run what is left to the end, in any order that keeps what is upstream first; what ran."""
    simulation = simulated(flow, frontier, found)
    chance, ran = random.Random(order), []
    while ready := simulation.ready():
        before = set(simulation.done)
        simulation.finish(chance.choice(ready), lambda: chance.random() < 0.5)
        ran += simulation.done - before
    assert frontier.finished
    return ran


@pytest.fixture
def folder() -> Iterator[Callable[[], str]]:
    """Makes a folder for each example."""
    with contextlib.ExitStack() as opened:
        yield lambda: opened.enter_context(tempfile.TemporaryDirectory())


any_number = st.integers(0, 1000)
flows = st.builds(Flow, shapes(leaves=5), any_number, st.sampled_from([3, 3, 9])).filter(
    lambda flow: len(flow.tasks()) < 150
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flows, st.integers(0, 60), any_number)
def test_from_any_commits_just_what_is_missing_runs_and_the_run_comes_to_its_end(
    folder: Callable[[], str], flow: Flow, tasks: int, order: int
):
    store, frontier = ran(flow, folder(), tasks, order), Frontier(flow.graph, RUN)

    found = recover(frontier, store.past())

    assert names_in(found.done) == store.done
    if store.done == set(flow.tasks()):
        assert found.left == []
        assert frontier.finished
        return
    again = go_on(flow, frontier, found, order)
    assert len(again) == len(set(again))
    assert set(again) == set(flow.tasks()) - store.done


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flows, st.integers(0, 60), any_number)
def test_what_is_left_is_cut_as_it_was(folder: Callable[[], str], flow: Flow, tasks: int, order: int):
    store = ran(flow, folder(), tasks, order)

    found = recover(Frontier(flow.graph, RUN), store.past())

    for planned in found.left:
        cut = {store.cut.get(name) for name in planned.spec.tasks.names()}
        assert cut in ({None}, {planned.spec.tasks})


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flows, st.integers(0, 60), any_number)
def test_what_is_left_can_be_handed_over_as_one_region(
    folder: Callable[[], str], flow: Flow, tasks: int, order: int
):
    store = ran(flow, folder(), tasks, order)

    found = recover(Frontier(flow.graph, RUN), store.past())

    before: set[TaskName] = set()
    for task in found.left:
        assert set(task.upstream) <= before
        for index in range(task.spec.count):
            spec = task.spec.item(index)
            assert set(spec.parents) <= store.done | set(task.upstream) | {PARAMETERS}
            before.add(spec.name)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flows, st.integers(0, 60), any_number, st.data())
def test_a_run_can_be_recovered_again_and_again(
    folder: Callable[[], str],
    flow: Flow,
    tasks: int,
    order: int,
    data: st.DataObject,
):
    store = ran(flow, folder(), tasks, order)
    for _ in range(3):
        frontier = Frontier(flow.graph, RUN)
        found = recover(frontier, store.past())
        simulation = simulated(flow, frontier, found)
        ready = simulation.ready()
        for name in data.draw(st.lists(st.sampled_from(ready), unique=True) if ready else st.just([])):
            if name not in store.done:
                store.commit(simulation, name)

    frontier = Frontier(flow.graph, RUN)
    found = recover(frontier, store.past())

    assert names_in(found.done) == store.done
    rest = go_on(flow, frontier, found) if found.left else []
    assert {*rest, *store.done} == set(flow.tasks())
    assert not {*rest} & {*store.done}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flows, st.data(), any_number)
def test_from_a_step_on_all_runs_again_and_nothing_else(
    folder: Callable[[], str], flow: Flow, data: st.DataObject, order: int
):
    store = ran(flow, folder(), 10_000, order)
    step = data.draw(st.sampled_from(sorted(flow.graph.nodes)))
    again = downstream(flow.graph, step)
    frontier = Frontier(flow.graph, RUN)

    found = recover(frontier, store.past(without=again))

    expected = {name for name in flow.tasks() if name.step in again}
    assert names_in(found.done) == set(flow.tasks()) - expected
    assert set(go_on(flow, frontier, found) if found.left else ()) == expected


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flows, st.integers(0, 60), st.integers(0, 60), any_number)
def test_a_resumed_run_that_is_resumed_or_goes_on_has_what_it_took_over_and_what_it_ran(
    folder: Callable[[], str], flow: Flow, tasks: int, more: int, order: int
):
    store = ran(flow, folder(), tasks, order)
    taken = recover(Frontier(flow.graph, RUN), store.past()).done
    resumed = Store(flow, store.folder, order + 1)
    resumed.run = new_run(
        storage_at(store.folder),
        "F",
        lambda run: {"flow": "F", "run": run, "origin": {"run": "1", "tasks": taken.to_json()}},
    )
    frontier = Frontier(flow.graph, RUN)
    simulation = simulated(flow, frontier, recover(frontier, resumed.past()))
    while len(resumed.done) < more and (ready := simulation.ready()):
        finish(simulation, resumed.commit(simulation, resumed.chance.choice(ready)))

    frontier = Frontier(flow.graph, RUN)
    found = recover(frontier, resumed.past())

    assert names_in(found.done) == store.done | resumed.done
    rest = go_on(flow, frontier, found, order) if found.left else []
    assert set(rest) == set(flow.tasks()) - store.done - resumed.done


def test_each_commit_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flow = Flow([Part("foreach", [steps(2)])], 3, 20)
    store = ran(flow, str(tmp_path), 10_000)
    files = {
        str(file.relative_to(tmp_path))
        for pattern in ("*/task.json", "chunk.*.json", "plan.*.json")
        for file in tmp_path.glob(f"F/1/*/{pattern}")
    }
    past, read = store.past(), []
    real = past.store.storage.read
    monkeypatch.setattr(past.store.storage, "read", lambda path: read.append(path) or real(path))

    recover(Frontier(flow.graph, RUN), past)

    found = [path for path in read if path in files]
    assert any("chunk" in path for path in found)
    assert sorted(found) == sorted(files)


def test_a_task_that_was_tried_before_goes_on_counting_its_attempts(tmp_path: Path):
    flow = Flow(steps(2))
    store = ran(flow, str(tmp_path), 1)
    frontier = Frontier(flow.graph, RUN)

    found = recover(frontier, store.past(), lambda name: 3 if name.step == "s2" else 0)

    specs = {task.spec.name.step: task.spec for task in found.left}
    assert (specs["s2"].attempt, specs["s2"].first) == (3, 3)
    assert (specs["s3"].attempt, specs["s3"].first) == (0, 0)
    assert frontier.spec(TaskName("s2", "0")) == specs["s2"]


def test_a_run_that_has_nothing_starts_from_its_beginning(tmp_path: Path):
    flow = Flow([Part("foreach", [steps(1)])])

    found = recover(Frontier(flow.graph, RUN), Store(flow, str(tmp_path)).past())

    assert len(found.done) == 0
    assert found.left == Frontier(flow.graph, RUN).start()


# A graph that has changed


def changed(flow: Flow, step: str, **fields: Any) -> Flow:
    nodes = dict(flow.graph.nodes)
    nodes[step] = replace(nodes[step], **fields)
    flow.graph = replace(flow.graph, nodes=nodes)
    return flow


def test_a_step_that_is_missing_now_is_named(tmp_path: Path):
    flow = Flow(steps(2))
    store = ran(flow, str(tmp_path), 3)
    changed(flow, "s2", targets=("s4",))

    with pytest.raises(CommandException) as error:
        recover(Frontier(flow.graph, RUN), store.past())

    assert error.value.message == (
        "The flow has changed too much: in run 1, step 's2' went on to s3 (linear); in today's code step 's3' is missing "
        "there. Start a new run, or resume from a step before: resume s2."
    )


def test_a_branch_that_is_new_is_no_part_of_the_old_run(tmp_path: Path):
    flow = Flow([Part("split", [steps(1), steps(1)])])
    store = ran(flow, str(tmp_path), 3)
    changed(flow, "s2", targets=("s3", "s4", "s6"))

    with pytest.raises(
        CommandException, match=r"went on to s3, s4 \(split\); in today's code it goes on to s3, s4, s6"
    ):
        recover(Frontier(flow.graph, RUN), store.past())


def test_a_step_that_goes_on_in_another_way_does_not_fit(tmp_path: Path):
    flow = Flow(steps(2))
    store = ran(flow, str(tmp_path), 2)
    changed(flow, "s2", type="foreach", foreach="xs")

    with pytest.raises(CommandException, match=r"step 's2' went on to s3 \(linear\)"):
        recover(Frontier(flow.graph, RUN), store.past())


def test_a_step_that_was_the_last_and_is_no_more_does_not_fit(tmp_path: Path):
    store = ran(Flow(steps(1)), str(tmp_path), 3)

    with pytest.raises(
        CommandException, match=r"step 's3' went on to nothing \(end\); in today's code it goes on to s4"
    ):
        recover(Frontier(Flow(steps(2)).graph, RUN), store.past())


def test_a_switch_may_have_new_cases_as_long_as_the_chosen_one_is_there(tmp_path: Path):
    flow = Flow([Part("switch", [steps(1), steps(1)])], 5)
    store = ran(flow, str(tmp_path), 3)
    (chosen,) = store.run.task(TaskName("s2", "0")).transition["targets"]  # type: ignore[union-attr, index]
    (other,) = {"s3", "s4"} - {chosen}

    assert recover(Frontier(changed(flow, "s2", targets=(chosen,)).graph, RUN), store.past()).done

    with pytest.raises(CommandException, match=f"step '{chosen}' is missing there"):
        recover(Frontier(changed(flow, "s2", targets=(other,)).graph, RUN), store.past())


def test_what_runs_again_may_have_changed_in_any_way(tmp_path: Path):
    flow = Flow(steps(2))
    store = ran(flow, str(tmp_path), 4)
    changed(flow, "s3", targets=("s2",), type="foreach")
    again = downstream(flow.graph, "s3")

    found = recover(Frontier(flow.graph, RUN), store.past(without=again))

    assert found.done.steps == {"s1"}, "s2 follows s3 in the graph of today"


def test_an_unknown_step_is_refused_with_those_there_are():
    with pytest.raises(
        CommandException, match="'s9' is an invalid step name. Valid step names include: s1, s2, s3."
    ):
        downstream(Flow(steps(1)).graph, "s9")
