"""What a run that goes on has already, and what is left of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daskflow.engine.frontier import Planned, too_wide
from daskflow.errors import CommandException
from daskflow.task.execute import result_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from daskflow.engine.frontier import Frontier
    from daskflow.flow.graph import Graph
    from daskflow.flow.node import Node
    from daskflow.pathspec import TaskName
    from daskflow.store.records import TaskRecord


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

    done: list[TaskName] = field(default_factory=list)
    left: list[Planned] = field(default_factory=list)


def recover(
    frontier: Frontier,
    committed: Callable[[TaskName], TaskRecord | None],
    tried: Callable[[TaskName], int] = lambda _: 0,
    most_splits: int | None = None,
) -> Recovered:
    """Bring a frontier that is at its start to where the commits of its tasks lead.

    Parameters
    ----------
    frontier
        Of the run's graph, as it is today.
    committed
        The commit of a task, None if it has none.
    tried
        How many attempts of a task have been made.
    most_splits
        The widest foreach that is allowed, None for any.

    Raises :class:`CommandException` if a commit does not fit the graph, or is a foreach that is too wide.
    """
    found = Recovered()
    left: dict[TaskName, Planned] = {}
    todo = deque(frontier.start())
    while todo:
        planned = todo.popleft()
        name = planned.spec.name
        record = committed(name)
        if record is None:
            left[name] = planned
            continue
        _check_fits(record, planned.spec.node)
        found.done.append(name)
        result = result_of(record)
        if why := too_wide(result, most_splits):
            raise CommandException(why)
        todo.extend(frontier.done(result))
    for name, planned in left.items():
        spec = frontier.starts_at(name, attempt) if (attempt := tried(name)) else planned.spec
        found.left.append(Planned(spec, tuple(each for each in planned.upstream if each in left)))
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


def _check_fits(record: TaskRecord, node: Node) -> None:
    """A task went on to what its step said then; today's graph must have that too."""
    transition = record.transition or {}
    went_on = transition.get("targets", [])
    switch = node.type == "switch"
    kind = {"join": "linear"}.get(node.type, node.type)
    fits = set(went_on) <= set(node.targets) if switch else set(went_on) == set(node.targets)
    if fits and transition.get("kind") == kind:
        return
    now = ", ".join(node.targets) or "nothing"
    missing = [step for step in went_on if step not in node.targets]
    what = f"step '{missing[0]}' is missing there" if missing else f"it goes on to {now}"
    raise CommandException(
        f"The flow has changed too much: in run {record.run}, step '{record.step}' went on to "
        f"{', '.join(went_on) or 'nothing'} ({transition.get('kind')}); in today's code {what}. "
        f"Start a new run, or resume from a step before: resume {record.step}."
    )
