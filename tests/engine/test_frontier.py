"""What is planned depends on the flow and on what tasks decided, never on the order of events."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskflow.engine.frontier import Frontier
from daskflow.flow import lint
from daskflow.flow.graph import Graph
from daskflow.task.spec import RunContext, TaskResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.engine.frontier import Planned
    from daskflow.pathspec import TaskName
    from daskflow.task.spec import TaskSpec

RUN = RunContext("F", "1", "", "", 0, "", 0, "auto")


@pytest.fixture(scope="module")
def graph_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Graph]:
    """A flow's graph from the bodies of its steps."""
    import importlib.util
    import itertools

    count = itertools.count()

    def make(body: str) -> Graph:
        path = tmp_path_factory.mktemp("flow") / f"flow{next(count)}.py"
        path.write_text("from daskflow import FlowSpec, step\n\n\nclass F(FlowSpec):\n" + body)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        graph = Graph.of(module.F)
        lint.check(graph)
        return graph

    return make


@dataclass
class Source:
    """Writes a random valid flow: a chain of blocks, each of which may hold chains again."""

    draw: Callable
    lines: list[str] = field(default_factory=list)
    count: int = 0

    def step(self, then: str, argument: str = "") -> str:
        name = f"s{self.count}"
        self.count += 1
        self._write(name, then, argument)
        return name

    def _write(self, name: str, then: str, argument: str = "") -> None:
        self.lines.append(f"    @step\n    def {name}(self{argument}):\n        {then}\n")

    def chain(self, then: str, depth: int) -> str:
        """A chain of blocks that goes on to step ``then``; the name of its first step."""
        for _ in range(self.draw(st.integers(1, 2))):
            then = self.block(then, depth)
        return then

    def block(self, then: str, depth: int) -> str:
        kind = self.draw(st.sampled_from(["linear", "split", "foreach", "switch", "loop"])) if depth else "linear"
        if kind == "linear":
            return self.step(f"self.next(self.{then})")
        if kind == "loop":
            name = f"s{self.count}"
            after = self.step("pass") if False else None
            del after
            self.count += 1
            out = self.step(f"self.next(self.{then})")
            self._write(name, f"self.next({{'again': self.{name}, 'on': self.{out}}}, condition='c')")
            return name
        if kind == "switch":
            cases = [self.chain(then, depth - 1) if self.draw(st.booleans()) else self.step(f"self.next(self.{then})") for _ in range(2)]
            return self.step(f"self.next({{0: self.{cases[0]}, 1: self.{cases[1]}}}, condition='c')")
        join = self.step(f"self.next(self.{then})", ", inputs")
        if kind == "split":
            branches = [self.chain(join, depth - 1) for _ in range(2)]
            return self.step(f"self.next(self.{branches[0]}, self.{branches[1]})")
        return self.step(f"self.next(self.{self.chain(join, depth - 1)}, foreach='xs')")

    def flow(self) -> str:
        first = self.chain("end", 2)
        self._write("start", f"self.next(self.{first})")
        self._write("end", "pass")
        return "\n".join(self.lines)


def outcome(spec: TaskSpec) -> TaskResult:
    """How a task goes, as a function of its name alone."""
    chance = random.Random(str(spec.name))
    node = spec.node
    if node.type == "switch":
        on = [target for target in node.targets if target != spec.name.step]
        again = node.recursive and spec.iteration < chance.randrange(3)
        target = spec.name.step if again else chance.choice(on)
        return TaskResult(spec.name, 0, "committed", (target,))
    size = chance.randrange(1, 4) if node.type == "foreach" else None
    return TaskResult(spec.name, 0, "committed", node.targets, size)


def play(graph: Graph, order: random.Random) -> dict[TaskName, tuple[TaskName, ...]]:
    """Run a flow to its end in a random order; the tasks that were planned, with their parents."""
    frontier = Frontier(graph, RUN)
    planned: dict[TaskName, tuple[TaskName, ...]] = {}
    open_tasks: list[TaskSpec] = []
    done: set[TaskName] = set()

    def take(region: list[Planned]) -> None:
        here: set[TaskName] = set()
        for task in region:
            assert task.spec.name not in planned, "a task is planned once"
            for parent in task.spec.parents:
                known = parent in here or parent in done or parent.step == "_parameters"
                assert known, "what a task starts from is done or in its region, before it"
            assert set(task.upstream) == {p for p in task.spec.parents if p in here}
            here.add(task.spec.name)
            planned[task.spec.name] = task.spec.parents
            open_tasks.append(task.spec)

    take(frontier.start())
    while open_tasks:
        ready = [spec for spec in open_tasks if all(p in done or p.step == "_parameters" for p in spec.parents)]
        spec = order.choice(ready)
        open_tasks.remove(spec)
        done.add(spec.name)
        take(frontier.done(outcome(spec)))
        assert frontier.done(outcome(spec)) == [], "a result that comes twice changes nothing"
    assert frontier.finished
    return planned


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seeds=st.tuples(st.integers(), st.integers()))
def test_any_order_of_results_plans_the_same_tasks(graph_of, data: st.DataObject, seeds: tuple[int, int]):
    graph = graph_of(Source(data.draw).flow())

    first, second = (play(graph, random.Random(seed)) for seed in seeds)

    assert first == second


LINEAR = """
    @step
    def start(self):
        self.next(self.a, self.b)
    @step
    def a(self):
        self.next(self.join)
    @step
    def b(self):
        self.next(self.b2)
    @step
    def b2(self):
        self.next(self.join)
    @step
    def join(self, inputs):
        self.next(self.end)
    @step
    def end(self):
        pass
"""


def test_a_flow_without_decisions_is_one_region(graph_of):
    region = Frontier(graph_of(LINEAR), RUN).start()

    assert sorted(str(task.spec.name) for task in region) == ["a/0", "b/0", "b2/0", "end/0", "join/0", "start/0"]
    (join,) = [task for task in region if task.spec.name.step == "join"]
    assert [str(parent) for parent in join.spec.parents] == ["a/0", "b2/0"]


FOREACH = """
    @step
    def start(self):
        self.next(self.work, foreach='xs')
    @step
    def work(self):
        self.next({0: self.even, 1: self.odd}, condition='c')
    @step
    def even(self):
        self.next(self.join)
    @step
    def odd(self):
        self.next(self.join)
    @step
    def join(self, inputs):
        self.next(self.end)
    @step
    def end(self):
        pass
"""


def test_a_decision_opens_the_next_region(graph_of):
    frontier = Frontier(graph_of(FOREACH), RUN)
    (start,) = frontier.start()

    region = frontier.done(TaskResult(start.spec.name, 0, "committed", ("work",), 12))

    assert [str(task.spec.name) for task in region] == [f"work/{n}" for n in range(12)]
    assert region[5].spec.stack[-1].index == 5


def test_inputs_of_a_foreach_come_by_step_and_then_by_index(graph_of):
    frontier = Frontier(graph_of(FOREACH), RUN)
    (start,) = frontier.start()
    work = frontier.done(TaskResult(start.spec.name, 0, "committed", ("work",), 4))
    last = [
        task
        for one in reversed(work)
        for task in frontier.done(
            TaskResult(one.spec.name, 0, "committed", (("even", "odd")[one.spec.stack[-1].index % 2],))
        )
    ]

    joined = [task for one in last for task in frontier.done(TaskResult(one.spec.name, 0, "committed", ("join",)))]

    assert [str(parent) for parent in joined[0].spec.parents] == ["even/0", "even/2", "odd/1", "odd/3"]


@pytest.mark.parametrize("status", ["failed", "not_run"])
def test_what_did_not_succeed_opens_nothing(graph_of, status: str):
    frontier = Frontier(graph_of(FOREACH), RUN)
    (start,) = frontier.start()

    assert frontier.done(TaskResult(start.spec.name, 0, status)) == []
    assert not frontier.finished
