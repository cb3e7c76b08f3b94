"""Any flow, whatever dies and whenever: driver after driver goes on, in a real store, to the end of an undisturbed run.

Drivers are given up at random moments. What their workers were doing then is finished later or never, as if the workers
of a shared cluster went on: it is a zombie by then, and its commit counts if it is the first.
"""

from __future__ import annotations

import random
import tempfile
import zlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import Flow, Part, shapes
from test_run import Console, with_policies

from daskflow.cli.go_on import _attempts
from daskflow.engine.frontier import Frontier, Planned
from daskflow.engine.resume import recover
from daskflow.engine.run import Driver, Limits
from daskflow.flow.policy import Policy
from daskflow.pathspec import TaskName
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.layout import PARAMETERS, new_execution
from daskflow.store.runs import RunStore, new_run
from daskflow.store.storage import storage_at
from daskflow.task.execute import result_of
from daskflow.task.spec import RunContext, TaskResult, TaskSpec, record_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskflow.store.records import TaskRecord

MOST_DRIVERS = 60
RETRIES = 1


class Died(BaseException):
    """The driver, where it stands."""


class World:
    """What outlives drivers: a store, and workers that go on with what they have begun."""

    def __init__(self, flow: Flow, folder: str, order: int, failing: int = 0) -> None:
        self.flow = flow
        self.folder = folder
        self.failing = failing
        self.chance = random.Random(order)
        self.bodies: Counter[TaskName] = Counter()
        self.commits: Counter[TaskName] = Counter()
        self.zombies: list[TaskRecord] = []
        self.drivers = 0
        new_run(storage_at(folder), "F", lambda run: {"flow": "F", "run": run})

    def store(self) -> RunStore:
        """As one process sees it, which remembers nothing of what others read."""
        return RunStore(storage_at(self.folder), "F", "1")

    def body(self, spec: TaskSpec) -> TaskRecord:
        """Run the step: what its process would send."""
        name, store = spec.name, self.store()
        self.bodies[name] += 1
        if len(list(store.failed_attempts(name))) < zlib.crc32(f"{name}".encode()) % (self.failing + 1):
            return record_of(spec, status="failed", error={"type": "E", "exception": "no", "stacktrace": ""})
        value = 1
        for parent in spec.parents:
            record = store.task(parent)
            if parent != PARAMETERS:
                assert record is not None, f"{name} runs before its parent {parent} is committed"
                value = (value * 31 + store.load("value", record.artifacts["value"])) % 1_000_003
        value += zlib.crc32(str(name).encode()) % 1000
        writer = ArtifactWriter(store, name, spec.execution)
        artifacts = {"value": writer.save("value", value)}
        return record_of(spec, status="ok", artifacts=artifacts, **self._follows(spec, writer))

    def _follows(self, spec: TaskSpec, writer: ArtifactWriter) -> dict[str, Any]:
        node, targets, foreach = spec.node, spec.node.targets, None
        if node.type == "foreach":
            foreach = writer.save_items(list(range(self.flow.size(spec.name))))
        elif node.condition == "again":
            targets = (targets[0] if self.flow.again(spec.name, spec.iteration) else targets[1],)
        elif node.type == "switch":
            targets = (targets[self.flow.branch(spec.name, len(targets))],)
        kind = {"join": "linear"}.get(node.type, node.type)
        return {"transition": {"kind": kind, "targets": list(targets)}, "foreach": foreach}

    def finish(self, record: TaskRecord) -> TaskResult:
        """Commit what a body gave, or keep its failure."""
        store = self.store()
        if not record.ok:
            store.save_attempt(record)
            return result_of(record)
        counts = store.commit(record)
        self.commits[record.name] += counts.execution == record.execution
        return result_of(counts)

    def let_a_zombie_finish(self) -> None:
        if self.zombies:
            self.finish(self.zombies.pop(self.chance.randrange(len(self.zombies))))

    def results(self) -> dict[TaskName, Any]:
        """All that says how the run went but when, and by which execution."""
        store, found = self.store(), {}
        for step in store.steps():
            for task in store.tasks(step):
                record = store.task(TaskName(step, task))
                if record is not None:
                    value = store.load("value", record.artifacts["value"])
                    found[record.name] = (
                        value,
                        record.parents,
                        record.stack,
                        record.transition,
                        record.foreach,
                    )
        return found

    def drive(self, life: int | None) -> str:
        """One driver from its start to its end: how the run went, or ``died`` after so many steps of life."""
        self.drivers += 1
        store = self.store()
        run = RunContext("F", "1", self.folder, f"token{self.drivers}", "/", 10**6, "auto")
        frontier = Frontier(self.flow.graph, run)
        found = recover(frontier, store.task, lambda name: _attempts(store, name))
        executor = MortalExecutor(self, life, set(found.done))
        in_flight = self.chance.choice([None, 1, 3])
        driver = Driver(executor, frontier, Console(), Limits(in_flight=in_flight))  # type: ignore[arg-type]
        try:
            return driver.run(found.left).status
        except Died:
            self.zombies += [record for _, record in executor.flying if self.chance.random() < 0.7]
            return "died"

    def run(self, lives: Sequence[int]) -> None:
        """Driver after driver until the run has succeeded."""
        for life in [*lives, *[None] * MOST_DRIVERS]:
            if self.drive(life) == "successful":
                return
        raise AssertionError(f"it did not come to its end: {self.results().keys()}")


class MortalExecutor:
    """Starts, ends and forgets tasks in an order drawn by chance."""

    def __init__(self, world: World, life: int | None, known: set[TaskName]) -> None:
        self.world = world
        self.life = life
        self.known = known
        self.there: dict[TaskName, Planned] = {}
        self.committed: set[TaskName] = set()
        self.flying: list[tuple[TaskName, TaskRecord]] = []
        self.stopped = False

    def submit(self, region: Sequence[Planned]) -> None:
        for task in region:
            assert task.spec.name not in self.known, (
                f"{task.spec.name} is submitted and was known to be committed"
            )
            self.there[task.spec.name] = task

    def results(self, seconds: float) -> list[TaskResult]:
        if self.life is not None:
            self.life -= 1
            if self.life < 0:
                raise Died
        chance, flying = self.world.chance, {name for name, _ in self.flying}
        if chance.random() < 0.3:
            self.world.let_a_zombie_finish()
        ready = [
            task
            for name, task in self.there.items()
            if name not in flying and not any(parent in self.there for parent in task.upstream)
        ]
        if self.flying and (not ready or chance.random() < 0.5):
            name, record = self.flying.pop(chance.randrange(len(self.flying)))
            return [self._over(name, self.world.finish(record))]
        return self._begin(chance.choice(ready)) if ready else []

    def _begin(self, task: Planned) -> list[TaskResult]:
        spec = task.spec
        if self.stopped or not self.committed.issuperset(task.upstream):
            return [self._over(spec.name, TaskResult(spec.name, spec.attempt, "not_run"))]
        committed = self.world.store().task(spec.name)  # what every execution does first
        if committed is not None:
            return [self._over(spec.name, replace(result_of(committed), reused=True))]
        self.flying.append((spec.name, self.world.body(replace(spec, execution=new_execution(spec.attempt)))))
        return []

    def _over(self, name: TaskName, result: TaskResult) -> TaskResult:
        del self.there[name]
        if result.committed:
            self.committed.add(name)
            self.known.add(name)
        return result

    def wake(self) -> None:
        pass

    def stopping(self, grace: float) -> str:
        return ""

    def stop(self, grace: float) -> None:
        self.stopped = True

    def pause(self) -> None:
        pass

    def go_on(self) -> None:
        pass


def with_retries(flow: Flow) -> Flow:
    return with_policies(flow, dict.fromkeys(flow.graph.nodes, Policy(retries=RETRIES)))


def undisturbed(shape: list[Part], seed: int) -> dict[TaskName, Any]:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Flow(shape, seed), folder, 0)
        world.run([])
        assert set(world.bodies.values()) == set(world.commits.values()) == {1}
        return world.results()


@pytest.mark.timeout(300)
@settings(max_examples=150)
@given(
    shapes(leaves=5),
    st.integers(0, 1000),
    st.lists(st.integers(0, 25), max_size=8),
    st.integers(0, 10_000),
    st.sampled_from([0, 1, 3]),
)
def test_after_any_deaths_a_run_ends_as_an_undisturbed_one(
    shape: list[Part], seed: int, lives: list[int], order: int, failing: int
):
    with tempfile.TemporaryDirectory() as folder:
        world = World(with_retries(Flow(shape, seed)), folder, order, failing)

        world.run(lives)
        results = world.results()
        while world.zombies:
            world.let_a_zombie_finish()

        assert results == world.results() == undisturbed(shape, seed)
        assert set(results) == set(world.flow.tasks())
        assert world.commits == dict.fromkeys(results, 1)
