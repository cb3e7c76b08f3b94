"""Any flow, whatever dies and whenever: driver after driver goes on, in a real store, to the end of an undisturbed run.

Drivers are given up at random moments. What their workers were doing then is finished later or never, as if the workers
of a shared cluster went on: it is a zombie by then, and its commit counts if it is the first.
"""

from __future__ import annotations

import json
import random
import tempfile
import zlib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapes import Flow, Part, shapes
from test_run import Console, specs_of, upstream_of, with_policies

from daskflow.cli.go_on import _attempts
from daskflow.engine.executor import Ran
from daskflow.engine.frontier import Frontier, Planned
from daskflow.engine.resume import Past, recover
from daskflow.engine.run import Driver, Ledger, Limits
from daskflow.flow.policy import Policy
from daskflow.pathspec import TaskName, TaskSet
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.chunks import differences
from daskflow.store.flows import new_run
from daskflow.store.layout import PARAMETERS, new_execution
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.task import sharing, wire
from daskflow.task.channels import Ended
from daskflow.task.execute import result_of
from daskflow.task.spec import RunContext, TaskResult, TaskSpec, Together, record_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
        self.chunk: list[int | None] = [None, 1, 2, 5]
        self.chance = random.Random(order)
        self.bodies: Counter[TaskName] = Counter()
        self.commits: Counter[TaskName] = Counter()
        self.zombies: list[Callable[[], list[TaskResult]]] = []
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

    def begin(self, spec: TaskSpec) -> Callable[[], list[TaskResult]]:
        """Run a task of its own; what ends it commits what its body gave, or keeps its failure."""
        record = self.body(replace(spec, execution=new_execution(spec.attempt)))

        def finish() -> list[TaskResult]:
            store = self.store()
            if not record.ok:
                store.save_attempt(record)
                return [result_of(record)]
            counts = store.commit(record)
            self.commits[record.name] += counts.execution == record.execution
            return [result_of(counts)]

        return finish

    def begin_together(self, work: Together) -> Callable[[], list[TaskResult]]:
        """Run items in one process, as many as chance says; what ends it commits them as a worker does."""
        if work.apart:
            each = [self.begin(spec) for spec in work.specs]
            return lambda: [result for finish in each for result in finish()]
        heard = sharing._Heard(work, self.store(), self)
        heard.started(7)
        for spec in heard.work.specs:
            first: dict[str, Any] = {}
            for index in range(spec.count):
                record = self.body(spec.item(index)).to_json()
                if record["status"] != "ok":
                    heard.message(wire.GUILTY + b"E: no")
                    return lambda: self._commit(heard, exit_code=1)
                if self.chance.random() < 0.1:
                    return lambda: self._commit(heard, signal=9)
                first = first if index else record
                if not index:
                    heard.message(wire.FIRST + json.dumps(first).encode())
                item = {"at": 0.0, "took": 0.0} | differences(first, record)
                heard.message(wire.ITEM + json.dumps(item).encode())
                if self.chance.random() < 0.1:
                    heard.message(wire.APART)
                    return lambda: self._commit(heard, exit_code=0)
        return lambda: self._commit(heard, exit_code=0)

    def _commit(self, heard: sharing._Heard, **how: int) -> list[TaskResult]:
        ended = {"exit_code": None, "signal": None} | how
        heard.ended(Ended(7, **ended, max_rss=0, cpu_user=0.0, cpu_system=0.0))
        results = heard.committed({})
        own = {spec.execution for spec in heard.work.specs}
        for result in results:
            if result.committed and result.execution in own:
                self.commits.update(result.tasks.names())
        return results

    def started(self, spec: TaskSpec, pid: int, count: int = 1) -> None:
        pass

    def notice(self, text: str) -> None:
        pass

    def lines(self, spec: TaskSpec, pid: int, stream: str, lines: Sequence[str]) -> None:
        pass

    def progress(self, spec: TaskSpec, done: int) -> None:
        pass

    def committed(self, found: object, process: str = "") -> None:
        pass

    def let_a_zombie_finish(self) -> None:
        if self.zombies:
            self.zombies.pop(self.chance.randrange(len(self.zombies)))()

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
        found = recover(frontier, Past(store), lambda name: _attempts(store, name))
        executor = MortalExecutor(self, life, found.done)
        limits = Limits(in_flight=self.chance.choice([None, 1, 3]), chunk=self.chance.choice(self.chunk))
        ledger = Ledger(decide=store.extend_plan, decided=store.plan_of_others)
        driver = Driver(executor, frontier, Console(), limits, ledger)  # type: ignore[arg-type]
        try:
            outcome = driver.run(found.left)
        except Died:
            self.zombies += [finish for finish in executor.flying.values() if self.chance.random() < 0.7]
            return "died"
        assert outcome.status == "successful" or outcome.failures, "it gave up, and nothing had failed"
        return outcome.status

    def run(self, lives: Sequence[int]) -> None:
        """Driver after driver until the run has succeeded."""
        for life in [*lives, *[None] * MOST_DRIVERS]:
            if self.drive(life) == "successful":
                return
        raise AssertionError(f"it did not come to its end: {self.results().keys()}")


class MortalExecutor:
    """Starts, ends and forgets processes in an order drawn by chance."""

    slots = 2

    def __init__(self, world: World, life: int | None, known: TaskSet) -> None:
        self.world = world
        self.life = life
        self.known = {name for tasks in known.ranges() for name in tasks.names()}
        self.there: dict[TaskName, Planned | Together] = {}
        self.committed: set[TaskName] = set()
        self.flying: dict[TaskName, Callable[[], list[TaskResult]]] = {}
        self.stopped = False

    def submit(self, region: Sequence[Planned]) -> None:
        for task in region:
            self._take(task)

    def submit_together(self, work: Together) -> None:
        self._take(work)

    def _take(self, work: Planned | Together) -> None:
        for spec in specs_of(work):
            for name in spec.tasks.names():
                assert name not in self.known, f"{name} is submitted and was known to be committed"
        self.there[specs_of(work)[0].name] = work

    def results(self, seconds: float) -> list[Ran]:
        if self.life is not None:
            self.life -= 1
            if self.life < 0:
                raise Died
        chance = self.world.chance
        if chance.random() < 0.3:
            self.world.let_a_zombie_finish()
        ready = [
            name
            for name, work in self.there.items()
            if name not in self.flying and not any(parent in self.there for parent in upstream_of(work))
        ]
        if self.flying and (not ready or chance.random() < 0.5):
            name = chance.choice(sorted(self.flying))
            return [self._over(name, self.flying.pop(name)())]
        return self._begin(chance.choice(ready)) if ready else []

    def _begin(self, name: TaskName) -> list[Ran]:
        work, store = self.there[name], self.world.store()
        if self.stopped or not self.committed.issuperset(upstream_of(work)):
            return [self._over(name, list(map(sharing.not_run, specs_of(work))))]
        left, results = [], []
        for spec in specs_of(work):  # what every execution does first
            found = sharing.committed(store, spec.tasks)
            if found is None:
                left.append(spec)
            else:
                results += [replace(each, reused=each.committed) for each in found]
        if not left:
            return [self._over(name, results)]
        if isinstance(work, Together):
            finish = self.world.begin_together(replace(work, specs=tuple(left)))
        else:
            finish = self.world.begin(work.spec)
        self.flying[name] = lambda: results + finish()
        return []

    def _over(self, name: TaskName, results: list[TaskResult]) -> Ran:
        del self.there[name]
        done = [each for result in results if result.committed for each in result.tasks.names()]
        self.committed.update(done)
        self.known.update(done)
        return Ran(name, results)

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


def undisturbed(flow: Flow) -> dict[TaskName, Any]:
    """All tasks alone, and none disturbed."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(flow, folder, 0)
        world.chunk = [1]
        world.run([])
        assert set(world.bodies.values()) == set(world.commits.values()) == {1}
        return world.results()


def comes_to_its_end(flow: Flow, lives: list[int], order: int, failing: int) -> None:
    """Whatever dies, it ends as an undisturbed run, and each task has been committed once."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(with_retries(flow), folder, order, failing)

        world.run(lives)
        results = world.results()
        while world.zombies:
            world.let_a_zombie_finish()

        assert results == world.results() == undisturbed(flow)
        assert set(results) == set(flow.tasks())
        assert world.commits == dict.fromkeys(results, 1)


deaths = st.lists(st.integers(0, 25), max_size=8)
orders = st.integers(0, 10_000)


@pytest.mark.timeout(300)
@settings(max_examples=100)
@given(shapes(leaves=5), st.integers(0, 1000), deaths, orders, st.sampled_from([0, 1, 3]))
def test_after_any_deaths_a_run_ends_as_an_undisturbed_one(
    shape: list[Part], seed: int, lives: list[int], order: int, failing: int
):
    comes_to_its_end(Flow(shape, seed), lives, order, failing)


@pytest.mark.timeout(300)
@settings(max_examples=40)
@given(shapes(leaves=2), st.integers(0, 1000), deaths, orders, st.sampled_from([0, 0, 1]))
def test_after_any_deaths_a_run_of_wide_foreaches_ends_as_an_undisturbed_one(
    body: list[Part], seed: int, lives: list[int], order: int, failing: int
):
    flow = Flow([Part("foreach", [body])], seed, 24)
    assume(len(flow.tasks()) < 120)

    comes_to_its_end(flow, lives, order, failing)
