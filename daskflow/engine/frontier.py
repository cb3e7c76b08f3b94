"""What is ready to run, decided from the graph and from how tasks went. No clock, no I/O, no Dask.

From what is ready, everything that is known in advance is planned at once: a *region*, up to the next decision (the
width of a foreach, the choice of a switch). A decision's result opens the next region.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from daskflow.errors import InternalError
from daskflow.pathspec import TaskName, task_id
from daskflow.store.layout import PARAMETERS
from daskflow.task.spec import Frame, TaskResult, TaskSpec, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    """The inputs of one join, as they become known.

    Attributes
    ----------
    split
        The innermost split around each input; which of its branches or items an input is, is its place.
    stack
        The splits around the join.
    missing
        Once all inputs are known: how many of them still have to be done before the join can be planned.
    """

    split: Frame
    stack: tuple[Frame, ...]
    inputs: dict[int, TaskName] = field(default_factory=dict)
    missing: int = 0


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
        self._awaited: dict[TaskName, tuple[str, TaskName]] = {}
        self._postponed: dict[TaskName, None] = {}
        self._finished = False

    def start(self) -> list[Planned]:
        """The first region."""
        return self._region([self._spec(self._graph.start, (PARAMETERS,), ())])

    def done(self, result: TaskResult) -> list[Planned]:
        """What becomes ready by this result: a region, or nothing.

        A task that was not run, because one before it did not succeed, becomes ready again once that one has.
        Raises :class:`InternalError` if the task was never planned.
        """
        spec = self.spec(result.name)
        if result.status == "not_run" and result.name not in self._done:
            self._postponed[result.name] = None
            return self._released()
        if not result.committed or result.name in self._done:
            return []
        self._done.add(result.name)
        self._postponed.pop(result.name, None)
        self._finished = self._finished or spec.node.type == "end"
        ready = self._region([*self._decided(spec, result), *self._awaiting(result.name)])
        return ready + self._released()

    def again(self, result: TaskResult) -> TaskSpec | None:
        """The next attempt of a task that failed; None if it has had all of them."""
        spec = self.spec(result.name)
        policy = spec.node.policy
        failed = spec.attempt - spec.first + 1
        if result.final or result.name in self._done or failed >= policy.attempts:
            return None
        cause = told(result.error)
        return self._attempt(
            replace(spec, attempt=spec.attempt + 1, fallback=failed > policy.retries, cause=cause)
        )

    def starts_at(self, name: TaskName, attempt: int) -> TaskSpec:
        """Count the attempts of a planned task from this one, and its retries too: the earlier ones were another driver's."""
        return self._attempt(replace(self.spec(name), attempt=attempt, first=attempt))

    def _attempt(self, spec: TaskSpec) -> TaskSpec:
        self._specs[spec.name] = spec
        return spec

    def progress(self) -> dict[str, tuple[int, int]]:
        """For each step that has tasks: how many of them are done, and how many are known."""
        done = Counter(name.step for name in self._done)
        return {
            step: (done[step], known) for step, known in Counter(name.step for name in self._specs).items()
        }

    @property
    def finished(self) -> bool:
        """Whether the last step is committed."""
        return self._finished

    def spec(self, name: TaskName) -> TaskSpec:
        """A task that has been planned.

        Raises :class:`InternalError` if it was not.
        """
        if name not in self._specs:
            raise InternalError(f"Task {self._run.flow}/{self._run.run}/{name} was never planned.")
        return self._specs[name]

    def _decided(self, spec: TaskSpec, result: TaskResult) -> Iterable[TaskSpec]:
        """The tasks that a decision makes known."""
        if spec.node.type == "switch":
            chosen = result.targets[0] if result.targets else None
            if chosen not in spec.node.targets:
                raise InternalError(
                    f"Task {spec.pathspec} chose {chosen!r}; it can choose {', '.join(spec.node.targets)}."
                )
            return self._follow(spec, chosen, spec.stack, {})
        if spec.node.type == "foreach":
            if not result.size:
                raise InternalError(
                    f"Task {spec.pathspec} went over items; its result says there are {result.size}."
                )
            return [
                found
                for index in range(result.size)
                for found in self._follow(
                    spec,
                    spec.node.targets[0],
                    (*spec.stack, Frame("foreach", spec.name, index, result.size, spec.node.foreach)),
                    {},
                )
            ]
        return []

    def _awaiting(self, name: TaskName) -> Iterable[TaskSpec]:
        """The join that had only this task to wait for."""
        key = self._awaited.pop(name, None)
        if key is None:
            return []
        self._joins[key].missing -= 1
        return [] if self._joins[key].missing else [self._join(key)]

    def _released(self) -> list[Planned]:
        """The tasks that waited for another attempt of one before them, as far as all before them are done by now."""
        planned: dict[TaskName, Planned] = {}
        for name in self._postponed:
            parents = [parent for parent in self._specs[name].parents if parent != PARAMETERS]
            if all(parent in self._done or parent in planned for parent in parents):
                upstream = tuple(parent for parent in parents if parent in planned)
                planned[name] = Planned(self._specs[name], upstream)
        for name in planned:
            del self._postponed[name]
        return list(planned.values())

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

    def _known_followers(self, spec: TaskSpec, planned: Mapping[TaskName, Planned]) -> Iterable[TaskSpec]:
        targets = spec.node.targets
        if spec.node.type != "split":
            return self._follow(spec, targets[0], spec.stack, planned)
        return [
            found
            for index, target in enumerate(targets)
            for found in self._follow(
                spec, target, (*spec.stack, Frame("split", spec.name, index, len(targets))), planned
            )
        ]

    def _follow(
        self, spec: TaskSpec, target: str, stack: tuple[Frame, ...], region: Mapping[TaskName, Planned]
    ) -> list[TaskSpec]:
        """The task that follows ``spec`` in step ``target``, unless that is a join that still lacks inputs."""
        if self._graph[target].type != "join":
            iteration = spec.iteration + 1 if target == spec.name.step else 0
            return [self._spec(target, (spec.name,), stack, iteration)]
        return self._arrive(spec, target, stack, region)

    def _arrive(
        self, spec: TaskSpec, join: str, stack: tuple[Frame, ...], region: Mapping[TaskName, Planned]
    ) -> list[TaskSpec]:
        """The join, if this input was the last and all of them are either done or in this very region.

        A region's tasks can only be upstream of tasks of the same region. So a join with inputs in several regions is
        planned when the last of its inputs is done.
        """
        if not stack:
            raise InternalError(f"Step '{spec.name.step}' leads to the join '{join}' outside of any split.")
        split = stack[-1]
        key = (join, split.split)
        gathering = self._joins.setdefault(key, _Gathering(split, stack[:-1]))
        gathering.inputs[split.index] = spec.name
        if len(gathering.inputs) < split.size:
            return []
        awaited = [name for name in gathering.inputs.values() if name not in self._done]
        if all(name in region for name in awaited):
            return [self._join(key)]
        gathering.missing = len(awaited)
        self._awaited.update(dict.fromkeys(awaited, key))
        return []

    def _join(self, key: tuple[str, TaskName]) -> TaskSpec:
        """The join with its inputs in the order in which its step sees them.

        Branches come as they are declared. Items come by index, or if several steps lead to the join by step first.
        """
        join, _ = key
        gathering = self._joins.pop(key)
        inputs = [gathering.inputs[index] for index in range(gathering.split.size)]
        if gathering.split.kind == "foreach":
            place = {step: index for index, step in enumerate(self._graph[join].in_nodes)}
            inputs.sort(key=lambda name: place[name.step])
        return self._spec(join, tuple(inputs), gathering.stack)

    def _spec(
        self, step: str, parents: tuple[TaskName, ...], stack: tuple[Frame, ...], iteration: int = 0
    ) -> TaskSpec:
        indices = tuple(frame.index for frame in stack if frame.kind == "foreach")
        name = TaskName(step, task_id(indices, iteration))
        return TaskSpec(self._run, name, self._graph[step], parents, stack, iteration)


def too_wide(result: TaskResult, most: int | None) -> str:
    """What to say of a task that splits into more than ``most`` items; empty if it does not. None allows any number."""
    if most is None or result.size is None or result.size <= most:
        return ""
    return (
        f"Foreach in step {result.name.step} yielded {result.size} child steps which is more than the current "
        f"maximum of {most}. Raise it with --max-num-splits {result.size}."
    )
