"""What a run that goes on has already, and what is left of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from daskflow.engine.frontier import Planned, too_wide
from daskflow.errors import CommandException, DamagedRecord
from daskflow.pathspec import TaskSet
from daskflow.task.execute import result_of
from daskflow.task.sharing import committed, results_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from daskflow.engine.frontier import Frontier
    from daskflow.flow.graph import Graph
    from daskflow.flow.node import Node
    from daskflow.pathspec import TaskName, TaskRange
    from daskflow.store.runs import RunStore
    from daskflow.task.spec import TaskResult


@dataclass
class Recovered:
    """The state of a run as its store has it.

    Attributes
    ----------
    done
        The tasks that are committed.
    left
        The tasks that are known and are not.
    """

    done: TaskSet = field(default_factory=TaskSet)
    left: list[Planned] = field(default_factory=list)


class Past:
    """What a run has committed so far, but for some steps.

    It is looked at once: the tasks that a run commits meanwhile may be missing.
    """

    def __init__(self, store: RunStore, without: Collection[str] = ()) -> None:
        self.store = store
        self._without = without
        self._plans: dict[str, list[TaskRange]] = {}

    def look(self, planned: Planned) -> tuple[list[TaskResult], list[Planned]]:
        """How planned tasks went, and those that have no commit, as they are cut."""
        spec = planned.spec
        if spec.name.step in self._without:
            return [], [planned]
        results: list[TaskResult] = []
        left: list[TaskRange] = []
        taken = self.store.origin.tasks if self.store.origin is not None else TaskSet()
        own = TaskSet(taken.missing(spec.tasks))
        for part in own.missing(spec.tasks):
            assert self.store.origin is not None
            results += _went(self.store.origin.store, part)
        try:
            for part in own.ranges():
                for piece, is_cut in self._cut(part) if planned.is_open else ((part, True),):
                    if is_cut:
                        self._look(piece, results, left)
                    else:
                        left.append(piece)
        except DamagedRecord as error:
            raise CommandException(
                f"{error.message} Restore that file; or move it away, and what it told of is computed again."
            ) from error
        return results, [replace(planned, spec=spec.of(piece)) for piece in left]

    def _cut(self, tasks: TaskRange) -> Iterator[tuple[TaskRange, bool]]:
        """Items of a foreach as they are cut, and those of which that is not decided; one alone can't be cut."""
        if tasks.step not in self._plans:
            self._plans[tasks.step] = self.store.plan(tasks.step)
        cut = [piece for each in self._plans[tasks.step] if (piece := each.shared_with(tasks))]
        yield from ((piece, True) for piece in cut)
        yield from ((piece, piece.count == 1) for piece in TaskSet(cut).missing(tasks))

    def _look(self, tasks: TaskRange, results: list[TaskResult], left: list[TaskRange]) -> None:
        todo = deque([tasks])
        while todo:
            found = committed(self.store, piece := todo.popleft())
            if found is None:
                left.append(piece)
            for each in found or ():
                if each.committed:
                    results.append(each)
                else:
                    todo.append(each.tasks)


def _went(store: RunStore, tasks: TaskRange) -> Iterator[TaskResult]:
    """How tasks went all of which a run has, in whatever way it ran them."""
    for piece, chunk in store.pieces(tasks):
        if chunk is not None:
            for each in results_of(chunk):
                shared = each.tasks.shared_with(piece)
                if each.committed and shared is not None:
                    yield replace(each, name=shared.name(), count=shared.count)
        elif (record := store.task(piece.name())) is not None:
            yield result_of(record)
        else:
            raise CommandException(f"Task {store.flow}/{store.run}/{piece} has gone from the store.")


def recover(
    frontier: Frontier,
    past: Past,
    tried: Callable[[TaskName], int] = lambda _: 0,
    most_splits: int | None = None,
) -> Recovered:
    """Bring a frontier that is at its start to where the commits of its tasks lead.

    Parameters
    ----------
    frontier
        Of the run's graph, as it is today.
    past
        What is committed.
    tried
        How many attempts of a task have been made.
    most_splits
        The widest foreach that is allowed, None for any.

    Raises :class:`CommandException` if a commit does not fit the graph, or is a foreach that is too wide, or can't be read.
    """
    found = Recovered()
    left: dict[TaskName, Planned] = {}
    todo = deque(frontier.start())
    while todo:
        planned = todo.popleft()
        results, missing = past.look(planned)
        left |= {each.spec.name: each for each in missing}
        for result in results:
            _check_fits(result, planned.spec.node, past.store.run)
            found.done.add(result.tasks)
            if why := too_wide(result, most_splits):
                raise CommandException(why)
            todo.extend(frontier.done(result))
    for name, planned in left.items():
        spec = planned.spec
        if spec.count == 1 and (attempt := tried(name)):
            spec = frontier.starts_at(name, attempt)
        upstream = tuple(each for each in planned.upstream if each in left)
        found.left.append(replace(planned, spec=spec, upstream=upstream))
    return found


def downstream(graph: Graph, step: str) -> Collection[str]:
    """A step and all that can follow it.

    Raises :class:`CommandException` if there is no such step.
    """
    if step not in graph:
        known = ", ".join(node.name for node in graph)
        raise CommandException(f"'{step}' is an invalid step name. Valid step names include: {known}.")
    found, todo = set(), [step]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += graph[name].targets
    return found


def _check_fits(result: TaskResult, node: Node, run: str) -> None:
    """A task went on to what its step said then; today's graph must have that too."""
    switch = node.type == "switch"
    kind = {"join": "linear"}.get(node.type, node.type)
    fits = set(result.targets) <= set(node.targets) if switch else set(result.targets) == set(node.targets)
    if fits and result.kind == kind:
        return
    now = ", ".join(node.targets) or "nothing"
    missing = [step for step in result.targets if step not in node.targets]
    what = f"step '{missing[0]}' is missing there" if missing else f"it goes on to {now}"
    raise CommandException(
        f"The flow has changed too much: in run {run}, step '{result.name.step}' went on to "
        f"{', '.join(result.targets) or 'nothing'} ({result.kind}); in today's code {what}. "
        f"Start a new run, or resume from a step before: resume {result.name.step}."
    )
