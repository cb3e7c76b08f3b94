"""What is ready to run, decided from the graph and from how tasks went. No clock, no I/O, no Dask.

From what is ready, everything that is known in advance is planned at once: a *region*, up to the next decision (the
width of a foreach, the choice of a switch). A decision's result opens the next region.

The items of a foreach are planned as one spec that stands for all of them. What follows them is planned as they are done,
for as many neighbours at once as went the same way: so the state of a run grows with what happens in it, not with the
number of its tasks.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING

from daskflow.errors import InternalError
from daskflow.indices import Indices
from daskflow.pathspec import TaskName, TaskNames, TaskRange, task_id
from daskflow.store.layout import PARAMETERS
from daskflow.store.records import Frame
from daskflow.task.spec import TaskResult, TaskSpec, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from daskflow.flow.graph import Graph
    from daskflow.task.spec import RunContext

_first = attrgetter("tasks.first")


@dataclass(frozen=True)
class Planned:
    """A task of a region, or all items of a foreach.

    Attributes
    ----------
    upstream
        Tasks of the same region that must be over before.
    again
        It was planned before, and was not run.
    """

    spec: TaskSpec
    upstream: tuple[TaskName, ...] = ()
    again: bool = False

    @property
    def is_open(self) -> bool:
        """Whether they are first tasks of a foreach's items, for which it is written down how they are cut into chunks."""
        return self.spec.count > 1 and self.spec.is_first_step


@dataclass
class _Lane:
    """The tasks of one step that are items of one foreach, or the one task of a step."""

    planned: list[TaskSpec] = field(default_factory=list)
    done: Indices = field(default_factory=Indices)

    def at(self, index: int) -> TaskSpec | None:
        """What was planned for an item, for its neighbours too."""
        place = bisect_right(self.planned, index, key=_first) - 1
        found = self.planned[place] if place >= 0 else None
        return found if found is not None and index < found.tasks.end else None


@dataclass
class _Gathering:
    """The inputs of a foreach's join, as they become known."""

    inputs: list[TaskRange] = field(default_factory=list)
    known: int = 0
    undone: dict[TaskName, None] = field(default_factory=dict)


class Frontier:
    """The state of a run as far as it decides what may run next.

    Whatever the order in which results come in, the same tasks are planned in the end.
    """

    def __init__(self, graph: Graph, run: RunContext) -> None:
        self._graph = graph
        self._run = run
        self._lanes: defaultdict[tuple[str, tuple[int, ...], int], _Lane] = defaultdict(_Lane)
        self._attempts: dict[TaskName, TaskSpec] = {}
        self._foreaches: defaultdict[tuple[str, TaskName], _Gathering] = defaultdict(_Gathering)
        self._branches: defaultdict[tuple[str, object], dict[int, list[TaskSpec]]] = defaultdict(dict)
        self._awaited: dict[TaskName, tuple[TaskSpec, dict[TaskName, None]]] = {}
        self._postponed: dict[TaskName, None] = {}
        self._finished = False

    def start(self) -> list[Planned]:
        """The first region."""
        return self._region([self._spec(self._graph.start, TaskNames.single(PARAMETERS), ())])

    def done(self, result: TaskResult) -> list[Planned]:
        """What becomes ready by this result: a region, or nothing.

        A task that was not run, because one before it did not succeed, becomes ready again once that one has.
        Raises :class:`InternalError` if the task was never planned.
        """
        planned, tasks = self._planned(result.name), result.tasks
        lane = self._lanes[tasks.lane]
        if result.status == "not_run":
            if tasks.first not in lane.done:
                self._postponed[result.name] = None
            return self._released()
        if not result.committed:
            return []
        ready: list[TaskSpec] = []
        for first, end in lane.done.add(tasks.first, tasks.end):
            spec = planned.of(replace(tasks, first=first, count=end - first))
            self._postponed.pop(spec.name, None)
            self._finished = self._finished or spec.node.type == "end"
            ready += self._decided(spec, result)
            if planned.count > 1:
                ready += self._known_followers(spec, {})
            elif spec.name in self._awaited:
                ready += self._no_longer_awaited(spec.name)
        return (self._region(ready) + self._released()) if ready or self._postponed else []

    def again(self, result: TaskResult) -> TaskSpec | None:
        """The next attempt of a task that failed; None if it has had all of them."""
        spec = self.spec(result.name)
        policy = spec.node.policy
        failed = spec.attempt - spec.first + 1
        if result.final or self.is_done(result.name) or failed >= policy.attempts:
            return None
        cause = told(result.error)
        return self._attempt(
            replace(spec, attempt=spec.attempt + 1, fallback=failed > policy.retries, cause=cause)
        )

    def starts_at(self, name: TaskName, attempt: int) -> TaskSpec:
        """Count the attempts of a planned task from this one, and its retries too: the earlier ones were another driver's."""
        return self._attempt(replace(self.spec(name), attempt=attempt, first=attempt))

    def _attempt(self, spec: TaskSpec) -> TaskSpec:
        self._attempts[spec.name] = spec
        return spec

    def progress(self) -> dict[str, tuple[int, int]]:
        """For each step that has tasks: how many of them are done, and how many are known."""
        done: Counter[str] = Counter()
        known: Counter[str] = Counter()
        for (step, _, _), lane in self._lanes.items():
            done[step] += len(lane.done)
            known[step] += sum(spec.count for spec in lane.planned)
        return {step: (done[step], count) for step, count in known.items()}

    def committed(self) -> list[TaskRange]:
        """The tasks that are known to be committed, as few ranges as possible."""
        return [
            TaskRange(step, outer, first, end - first, iteration)
            for (step, outer, iteration), lane in self._lanes.items()
            for first, end in lane.done.ranges()
        ]

    @property
    def finished(self) -> bool:
        """Whether the last step is committed."""
        return self._finished

    def is_done(self, name: TaskName) -> bool:
        """Whether a task is committed."""
        tasks = TaskRange.of(str(name))
        return tasks.lane in self._lanes and tasks.first in self._lanes[tasks.lane].done

    def spec(self, name: TaskName) -> TaskSpec:
        """A task that has been planned.

        Raises :class:`InternalError` if it was not.
        """
        return self.spec_of(TaskRange.of(str(name)))

    def spec_of(self, tasks: TaskRange) -> TaskSpec:
        """Neighbours that were planned together. Raises :class:`InternalError` if they were not."""
        return self._attempts.get(tasks.name()) or self._planned(tasks.name()).of(tasks)

    def _planned(self, name: TaskName) -> TaskSpec:
        """What a task was planned with."""
        tasks = TaskRange.of(str(name))
        found = self._lanes[tasks.lane].at(tasks.first) if tasks.lane in self._lanes else None
        if found is None:
            raise InternalError(f"Task {self._run.flow}/{self._run.run}/{name} was never planned.")
        return found

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
            return [self._items(spec.item(index), result.size) for index in range(spec.count)]
        return []

    def _items(self, split: TaskSpec, size: int) -> TaskSpec:
        """The first step of all items of a foreach."""
        frame = Frame("foreach", split.name, 0, size, split.node.foreach)
        parents = TaskNames.single(split.name)
        return replace(self._spec(split.node.targets[0], parents, (*split.stack, frame)), count=size)

    def _released(self) -> list[Planned]:
        """The tasks that waited for another attempt of one before them, as far as all before them are done by now."""
        planned: dict[TaskName, Planned] = {}
        for name in self._postponed:
            spec = self.spec(name)
            parents = [parent for parent in spec.parents if parent != PARAMETERS]
            if all(parent in planned or self.is_done(parent) for parent in parents):
                upstream = tuple(parent for parent in parents if parent in planned)
                planned[name] = Planned(spec, upstream, again=True)
        for name in planned:
            del self._postponed[name]
        return list(planned.values())

    def _region(self, ready: Iterable[TaskSpec]) -> list[Planned]:
        """Everything that is known in advance from what is ready."""
        planned: dict[TaskName, Planned] = {}
        waiting = deque(ready)
        while waiting:
            spec = waiting.popleft()
            upstream = tuple(parent for parent in spec.parents if parent in planned) if planned else ()
            planned[spec.name] = Planned(spec, upstream)
            insort(self._lanes[spec.tasks.lane].planned, spec, key=_first)
            if spec.count == 1:
                waiting.extend(self._known_followers(spec, planned))
        return list(planned.values())

    def _known_followers(self, spec: TaskSpec, region: Mapping[TaskName, Planned]) -> Iterable[TaskSpec]:
        """What follows whatever the result."""
        targets = spec.node.targets
        if spec.node.type in ("linear", "join"):
            return self._follow(spec, targets[0], spec.stack, region)
        if spec.node.type != "split":
            return []
        return [
            found
            for index, target in enumerate(targets)
            for found in self._follow(
                spec, target, (*spec.stack, Frame("split", spec.name, index, len(targets))), region
            )
        ]

    def _follow(
        self, spec: TaskSpec, target: str, stack: tuple[Frame, ...], region: Mapping[TaskName, Planned]
    ) -> list[TaskSpec]:
        """The tasks that follow ``spec`` in step ``target``, unless that is a join that still lacks inputs."""
        if self._graph[target].type != "join":
            iteration = spec.iteration + 1 if target == spec.name.step else 0
            follower = self._spec(target, TaskNames.single(spec.name), stack, iteration)
            return [replace(follower, count=spec.count)]
        if not stack:
            raise InternalError(f"Step '{spec.name.step}' leads to the join '{target}' outside of any split.")
        arrived = replace(spec, stack=stack)
        if stack[-1].kind == "foreach":
            return self._gather(arrived, target, region)
        return [
            found
            for join in self._meet(arrived, target)
            for found in self._once_done(join, join.parents, region)
        ]

    def _gather(self, spec: TaskSpec, join: str, region: Mapping[TaskName, Planned]) -> list[TaskSpec]:
        """The join of a foreach, if these inputs were the last and all of them are either done or in this very region.

        Items come by index, or if several steps lead to the join by step first.
        """
        split = spec.stack[-1]
        key = (join, split.split)
        gathering = self._foreaches[key]
        gathering.inputs.append(spec.tasks)
        gathering.known += spec.count
        if spec.count == 1 and not self.is_done(spec.name):
            gathering.undone[spec.name] = None
        if gathering.known < split.size:
            return []
        del self._foreaches[key]
        place = {step: index for index, step in enumerate(self._graph[join].in_nodes)}
        inputs = sorted(gathering.inputs, key=lambda tasks: (place[tasks.step], tasks.first))
        return self._once_done(self._spec(join, TaskNames(inputs), spec.stack[:-1]), gathering.undone, region)

    def _meet(self, spec: TaskSpec, join: str) -> Iterable[TaskSpec]:
        """The joins of branches that have all their inputs with these. Branches come as they are declared."""
        split = spec.stack[-1]
        key = (join, TaskRange.of(str(split.split)).lane)
        arrived = self._branches[key]
        insort(arrived.setdefault(split.index, []), spec, key=_first)
        if len(arrived) < split.size:
            return
        cells = [spec.tasks]
        for index in set(range(split.size)) - {split.index}:
            cells = [
                shared
                for cell in cells
                for other in _overlapping(arrived[index], cell)
                if (shared := replace(other, step=cell.step, iteration=cell.iteration).shared_with(cell))
            ]
        for cell in cells:
            inputs = []
            for index in range(split.size):
                (branch,) = _overlapping(arrived[index], cell)
                inputs.append(replace(branch, first=cell.first, count=1))
            stack = spec.of(cell).stack[:-1]
            yield replace(self._spec(join, TaskNames(inputs), stack), count=cell.count)

    def _once_done(
        self, join: TaskSpec, inputs: Iterable[TaskName], region: Mapping[TaskName, Planned]
    ) -> list[TaskSpec]:
        """The join, if its inputs are done or in this region; else it is planned when the last of them is done.

        A region's tasks can only be upstream of tasks of the same region.
        """
        if join.count > 1:
            return [join]
        undone = {name: None for name in inputs if not self.is_done(name)}
        if all(name in region for name in undone):
            return [join]
        self._awaited.update(dict.fromkeys(undone, (join, undone)))
        return []

    def _no_longer_awaited(self, name: TaskName) -> list[TaskSpec]:
        """The join that had only this task to wait for."""
        join, undone = self._awaited.pop(name)
        del undone[name]
        return [] if undone else [join]

    def _spec(self, step: str, parents: TaskNames, stack: tuple[Frame, ...], iteration: int = 0) -> TaskSpec:
        indices = tuple(frame.index for frame in stack if frame.kind == "foreach")
        name = TaskName(step, task_id(indices, iteration))
        return TaskSpec(self._run, name, self._graph[step], parents, stack, iteration)


def _overlapping(arrived: list[TaskSpec], cell: TaskRange) -> list[TaskRange]:
    """The inputs of a branch, sorted, that have items of a range."""
    place = max(0, bisect_right(arrived, cell.first, key=_first) - 1)
    found = []
    while place < len(arrived) and arrived[place].tasks.first < cell.end:
        if arrived[place].tasks.end > cell.first:
            found.append(arrived[place].tasks)
        place += 1
    return found


def too_wide(result: TaskResult, most: int | None) -> str:
    """What to say of a task that splits into more than ``most`` items; empty if it does not. None allows any number."""
    if most is None or result.size is None or result.size <= most:
        return ""
    return (
        f"Foreach in step {result.name.step} yielded {result.size} child steps which is more than the current "
        f"maximum of {most}. Raise it with --max-num-splits {result.size}."
    )
