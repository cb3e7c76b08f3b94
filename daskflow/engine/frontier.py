"""What is ready to run, decided from the graph and from how tasks went. No clock, no I/O, no Dask.

From what is ready, everything that is known in advance is planned at once: a *region*, up to the next decision (the
width of a foreach, the choice of a switch). A decision's result opens the next region.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from daskflow.errors import InternalError
from daskflow.pathspec import TaskName, task_id
from daskflow.store.layout import PARAMETERS
from daskflow.task.spec import Frame, TaskResult, TaskSpec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from daskflow.flow.graph import Graph
    from daskflow.task.spec import RunContext


@dataclass(frozen=True)
class Planned:
    """A task of a region.

    Attributes
    ----------
    upstream
        Tasks of the same region that must be over before.
    """

    spec: TaskSpec
    upstream: tuple[TaskName, ...] = ()


@dataclass
class _Gathering:
    """The inputs of one join, as they become known."""

    size: int
    stack: tuple[Frame, ...]
    inputs: dict[int, TaskName] = field(default_factory=dict)
    planned: bool = False


class Frontier:
    """The state of a run as far as it decides what may run next.

    Whatever the order in which results come in, the same tasks are planned in the end.
    """

    def __init__(self, graph: Graph, run: RunContext) -> None:
        self._graph = graph
        self._run = run
        self._specs: dict[TaskName, TaskSpec] = {}
        self._done: set[TaskName] = set()
        self._joins: dict[tuple[str, TaskName], _Gathering] = {}
        self._waiting: dict[TaskName, list[tuple[str, TaskName]]] = {}

    def start(self) -> list[Planned]:
        """The first region."""
        return self._region([self._spec(self._graph.start, (PARAMETERS,), ())])

    def done(self, result: TaskResult) -> list[Planned]:
        """What becomes ready by this result: a region, or nothing."""
        if not result.committed or result.name in self._done:
            return []
        self._done.add(result.name)
        spec = self._specs[result.name]
        ready = list(self._decided(spec, result))
        for key in self._waiting.pop(result.name, ()):
            ready += self._join_if_done(key)
        return self._region(ready)

    @property
    def finished(self) -> bool:
        """Whether the last step is committed."""
        return any(name.step == self._graph.end for name in self._done)

    def spec(self, name: TaskName) -> TaskSpec:
        """A task that has been planned."""
        return self._specs[name]

    def _decided(self, spec: TaskSpec, result: TaskResult) -> Iterable[TaskSpec]:
        """The tasks that a decision makes known; joins among them only once their inputs are all there."""
        if spec.node.type == "switch":
            return self._follow(spec, result.targets[0], spec.stack, region=None)
        if spec.node.type == "foreach":
            assert result.size is not None
            return [
                found
                for index in range(result.size)
                for found in self._follow(
                    spec,
                    spec.node.targets[0],
                    (*spec.stack, Frame("foreach", spec.name, index, result.size, spec.node.foreach)),
                    region=None,
                )
            ]
        return []

    def _region(self, ready: Iterable[TaskSpec]) -> list[Planned]:
        """Everything that is known in advance from what is ready."""
        planned: dict[TaskName, Planned] = {}
        waiting = deque(ready)
        while waiting:
            spec = waiting.popleft()
            upstream = tuple(parent for parent in spec.parents if parent in planned)
            planned[spec.name] = Planned(spec, upstream)
            self._specs[spec.name] = spec
            if spec.node.type in ("linear", "join", "split"):
                waiting.extend(self._known_followers(spec, planned))
        return list(planned.values())

    def _known_followers(self, spec: TaskSpec, planned: dict[TaskName, Planned]) -> Iterable[TaskSpec]:
        targets = spec.node.targets
        if len(targets) == 1 and spec.node.type != "split":
            return self._follow(spec, targets[0], spec.stack, planned)
        return [
            found
            for index, target in enumerate(targets)
            for found in self._follow(
                spec, target, (*spec.stack, Frame("split", spec.name, index, len(targets))), planned
            )
        ]

    def _follow(
        self, spec: TaskSpec, target: str, stack: tuple[Frame, ...], region: dict[TaskName, Planned] | None
    ) -> list[TaskSpec]:
        """The task that follows ``spec`` in step ``target``, unless that is a join that still lacks inputs."""
        if self._graph[target].type != "join":
            iteration = spec.iteration + 1 if target == spec.name.step else 0
            return [self._spec(target, (spec.name,), stack, iteration)]
        return self._arrive(spec, target, stack, region)

    def _arrive(
        self, spec: TaskSpec, join: str, stack: tuple[Frame, ...], region: dict[TaskName, Planned] | None
    ) -> list[TaskSpec]:
        if not stack:
            raise InternalError(f"Step '{spec.name.step}' leads to the join '{join}' outside of any split.")
        frame = stack[-1]
        key = (join, frame.split)
        gathering = self._joins.setdefault(key, _Gathering(frame.size, stack[:-1]))
        gathering.inputs[frame.index] = spec.name
        if len(gathering.inputs) < gathering.size:
            return []
        elsewhere = [n for n in gathering.inputs.values() if n not in self._done and n not in (region or ())]
        for name in elsewhere:
            self._waiting.setdefault(name, []).append(key)
        return [] if elsewhere else [self._join(key)]

    def _join_if_done(self, key: tuple[str, TaskName]) -> list[TaskSpec]:
        gathering = self._joins[key]
        if gathering.planned or any(name not in self._done for name in gathering.inputs.values()):
            return []
        return [self._join(key)]

    def _join(self, key: tuple[str, TaskName]) -> TaskSpec:
        join, _ = key
        gathering = self._joins[key]
        gathering.planned = True
        order = {step: place for place, step in enumerate(self._graph[join].in_nodes)}
        by_index = [gathering.inputs[index] for index in range(gathering.size)]
        if len({name.step for name in by_index}) < len(
            by_index
        ):  # a foreach; branches stay in declared order
            by_index.sort(key=lambda name: order.get(name.step, 0))
        return self._spec(join, tuple(by_index), gathering.stack)

    def _spec(
        self, step: str, parents: tuple[TaskName, ...], stack: tuple[Frame, ...], iteration: int = 0
    ) -> TaskSpec:
        indices = tuple(frame.index for frame in stack if frame.kind == "foreach")
        name = TaskName(step, task_id(indices, iteration))
        return TaskSpec(self._run, name, self._graph[step], parents, stack, iteration)


def next_attempt(spec: TaskSpec) -> TaskSpec:
    """The same task, tried once more."""
    return replace(spec, attempt=spec.attempt + 1)
