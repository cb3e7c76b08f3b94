"""The rules of a flow, one function each, checked before anything runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

from daskflow.errors import LintWarn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from daskflow.flow.graph import Graph
    from daskflow.flow.node import Node

RESERVED = frozenset({"cmd", "foreach_stack", "index", "input", "merge_artifacts", "name", "next"})
"""Names a step can't have: those every flow object has already."""


def check(graph: Graph) -> None:
    """Check all rules, in the order in which their messages help most.

    Raises :class:`LintWarn` for the first rule that the flow breaks, with the step and the line.
    """
    for rule in RULES:
        rule(graph)


def reserved_words(graph: Graph) -> None:
    """No step has the name of something every flow has."""
    for node in graph:
        if node.name in RESERVED:
            _blame(node, f"Step name '{node.name}' is a reserved word. Choose another name for the step.")


def step_names(graph: Graph) -> None:
    """A step's name has lower-case letters, digits and underscores, and starts with no underscore."""
    for node in graph:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", node.name):
            _blame(
                node,
                f"Step name '{node.name}' is not allowed. Use a-z, 0-9 and underscores, but not as the first one.",
            )


def number_of_arguments(graph: Graph) -> None:
    """A step takes ``self``; a join takes ``inputs`` too, and does not split."""
    for node in graph:
        if node.num_args == 0:
            _blame(node, f"Step '{node.name}' is missing self: write 'def {node.name}(self)'.")
        if node.num_args > 2 or any(name.startswith("*") for name in node.arguments):
            _blame(
                node,
                f"Step '{node.name}' takes the arguments ({', '.join(node.arguments)}), but a step takes only "
                "'self', and a join 'self' and 'inputs'.",
            )
        if node.num_args == 2 and (node.splits or node.type == "switch"):
            _blame(
                node,
                f"Step '{node.name}' is both a join step and a split step, for it takes '{node.arguments[1]}' "
                "and its self.next splits. Let the join go on to one step, and split there.",
            )


def annotation_conflicts(graph: Graph) -> None:
    """Where one step is marked as the entry, no other is called ``start``; the same for the end."""
    for role in ("start", "end"):
        marked = _marked(graph, role)
        other = graph.nodes.get(role)
        if marked and other is not None and other not in marked:
            _blame(
                marked[0],
                f"Step '{marked[0].name}' is marked with @step({role}=True), but there is also a step called "
                f"'{role}' (line {other.line}). Rename that one, or remove the mark.",
            )


def basic_steps(graph: Graph) -> None:
    """There is exactly one entry and one terminal step."""
    if not graph.nodes:
        _blame_flow(graph, f"Flow '{graph.name}' has no steps: decorate its methods with @step.")
    for role in ("start", "end"):
        marked = _marked(graph, role)
        if len(marked) > 1:
            names = ", ".join(f"'{node.name}' (line {node.line})" for node in marked)
            _blame(marked[1], f"Only one step can be marked with @step({role}=True), but {names} are.")
        if not getattr(graph, role):
            _blame_flow(
                graph,
                f"Flow '{graph.name}' has no {role} step. Call one of its steps '{role}', or mark it with "
                f"@step({role}=True). It has: {', '.join(graph.nodes)}.",
            )


def end_is_end(graph: Graph) -> None:
    """The terminal step has no ``self.next`` and is no join."""
    end = graph[graph.end]
    unknown = [target for target in end.targets if target not in graph]
    if unknown:  # it is taken for the last step because it is the only one
        _blame_next(
            end,
            f"Step '{end.name}' leads to {_names(unknown)}, but is the only step of the flow. Add the steps that follow, "
            "up to one called 'end', each with its @step.",
        )
    if end.has_next or end.next_line:
        _blame_next(end, f"Step '{end.name}' is the last step of the flow: it can't have a self.next().")
    if end.num_args > 1:
        _blame(
            end,
            f"Step '{end.name}' is the last step of the flow: it can't take '{end.arguments[1]}'. "
            "Put a join step before it.",
        )


def static_transitions(graph: Graph) -> None:
    """The last statement of every other step is a ``self.next``."""
    for node in graph:
        if node.has_next or node.name == graph.end:
            continue
        if node.next_line:
            _blame_next(
                node,
                f"Step '{node.name}' calls self.next() on line {node.next_line}, but not as its last statement. "
                "It has to be the last one, not within an if, a loop or a try.",
            )
        _blame(node, f"Step '{node.name}' has no self.next() as its last statement: say which step follows.")


def valid_transitions(graph: Graph) -> None:
    """Every ``self.next`` has one of the known shapes."""
    for node in graph:
        if node.problem:
            _blame_next(
                node,
                f"Step '{node.name}' has an invalid self.next(): {node.problem}. It is one of self.next(self.a), "
                "self.next(self.a, self.b), self.next(self.a, foreach='items') and "
                "self.next({'x': self.a, 'y': self.b}, condition='choice').",
            )


def switch_splits(graph: Graph) -> None:
    """A switch has a condition, cases, and at least two steps to choose from."""
    for node in _of_type(graph, "switch"):
        if node.condition is None:
            _blame_next(
                node,
                f"Switch step '{node.name}' has no condition: name the attribute that decides, as in "
                "self.next({...}, condition='choice').",
            )
        if not node.cases:
            _blame_next(
                node,
                f"Switch step '{node.name}' has a condition but no cases: write them out as a dict, as in "
                f"self.next({{'x': self.a, 'y': self.b}}, condition='{node.condition}').",
            )
        if len(node.targets) < 2:
            _blame_next(
                node,
                f"Switch step '{node.name}' leads only to '{node.targets[0]}': give it two steps to choose from.",
            )


def unknown_transitions(graph: Graph) -> None:
    """Every ``self.next`` leads to steps of the flow."""
    for node in graph:
        for target in node.targets:
            if target not in graph:
                _blame_next(
                    node,
                    f"Step '{node.name}' leads to '{target}', which is not a step of the flow. Is it misspelt, "
                    f"or is its @step missing? The steps are: {', '.join(graph.nodes)}.",
                )


def start_is_first(graph: Graph) -> None:
    """No step leads to the entry step."""
    for name in graph[graph.start].in_nodes:
        _blame_next(
            graph[name],
            f"Step '{name}' leads to '{graph.start}', the first step of the flow, to which nothing can lead.",
        )


def acyclicity(graph: Graph) -> None:
    """There is no cycle, save a switch step that names itself."""
    # All that is not behind a cycle comes first in a graph, so each remaining step has a parent that remains.
    before: dict[str, set[str]] = {}
    remaining = dict.fromkeys(graph.nodes)
    for node in graph:
        before[node.name] = set(node.in_nodes) - ({node.name} if node.recursive else set())
        if before[node.name].isdisjoint(remaining):
            del remaining[node.name]
    if not remaining:
        return
    walk = [next(iter(remaining))]
    while walk.count(walk[-1]) < 2:
        walk.append(min(before[walk[-1]] & remaining.keys()))
    cycle = walk[walk.index(walk[-1]) :][::-1]
    _blame_next(
        graph[cycle[-2]],
        f"There is a loop in the flow: {' -> '.join(cycle)}. Only a switch step can be repeated, "
        "and it does so by naming itself.",
    )


def orphans(graph: Graph) -> None:
    """Every step can be reached from the entry step."""
    reached = {graph.start}
    for node in graph:
        if node.name in reached:
            reached.update(node.targets)
    for node in graph:
        if node.name not in reached:
            _blame(
                node,
                f"Step '{node.name}' can't be reached from '{graph.start}'. Add a self.next(self.{node.name}) "
                "to the step it follows, or remove it.",
            )


def empty_foreach(graph: Graph) -> None:
    """A foreach does not lead directly into a join."""
    for node, join in _into_joins(graph, "foreach"):
        _blame_next(
            node,
            f"Foreach step '{node.name}' leads directly into the join '{join}': put a step between them, "
            "which runs for each item.",
        )


def ambiguous_joins(graph: Graph) -> None:
    """A switch does not lead directly into a join."""
    for node, join in _into_joins(graph, "switch"):
        _blame_next(
            node,
            f"Switch step '{node.name}' leads directly into the join '{join}': put a step between them for this case.",
        )


def branches_merge_in_joins(graph: Graph) -> None:
    """Only a join is reached from several branches of a split."""
    for node in graph:
        if node.type in ("join", "end"):
            continue
        (first, known), *others = graph.arriving(node.name).items() or [("", ())]
        for parent, branches in others:
            if branches == known:
                continue
            if [split for split, _ in branches] != [split for split, _ in known]:
                _blame(
                    node,
                    f"Step '{node.name}' is reached from '{first}' and from '{parent}', but the one is within "
                    f"{_open(known)}, the other within {_open(branches)}. Close what is open with a join first.",
                )
            split = next(one[0] for one, other in zip(known, branches, strict=True) if one != other)
            _blame(
                node,
                f"Step '{node.name}' is reached from several branches of '{split}' (through '{first}' and "
                f"'{parent}'), but it is not a join. Write 'def {node.name}(self, inputs)'.",
            )


def joins_have_all_branches(graph: Graph) -> None:
    """A join gets every branch of its split, each after a step of its own."""
    for node in _of_type(graph, "join"):
        if node.matching_split is None:
            continue
        split = graph[node.matching_split]
        arriving = graph.arriving(node.name)
        taken = [branches[-1] for branches in arriving.values() if branches]
        missing = [target for target in split.targets if (split.name, target) not in taken]
        if split.name in arriving:
            _blame_next(
                split,
                f"Step '{split.name}' splits directly into the join '{node.name}': put a step between them, "
                "so that each branch has one.",
            )
        if missing:
            _blame(
                node,
                f"Join step '{node.name}' joins only some branches of '{split.name}'. "
                f"Missing: {_names(missing)}. Let all branches of a split lead to one join.",
            )


def joins_have_splits(graph: Graph) -> None:
    """What a join joins was split before."""
    for node in _of_type(graph, "join"):
        arriving = graph.arriving(node.name)
        bare = [parent for parent, branches in arriving.items() if not branches]
        if bare or not arriving:
            way = f" on the way through '{bare[0]}'" if bare else ""
            _blame(
                node,
                f"Join step '{node.name}' has no split to close{way}. If it is no join, take '{node.arguments[1]}' away.",
            )


def joins_close_one_split(graph: Graph) -> None:
    """All that leads to a join comes from one split."""
    for node in _of_type(graph, "join"):
        (first, known), *others = graph.arriving(node.name).items()
        for parent, branches in others:
            if (branches[:-1], branches[-1][0]) != (known[:-1], known[-1][0]):
                _blame(
                    node,
                    f"Join step '{node.name}' joins steps of unrelated splits: '{first}' is within {_open(known)}, "
                    f"'{parent}' within {_open(branches)}. Join each split on its own.",
                )


def splits_have_one_join(graph: Graph) -> None:
    """All ways out of a split end in one join."""
    for node in graph:
        split = graph[node.matching_split] if node.matching_split else None
        if split is not None and split.matching_join != node.name:
            _blame(
                node,
                f"The branches of '{split.name}' are joined in '{split.matching_join}' and in '{node.name}', "
                "so a task of one would wait for ever for a task of the other. Let them all lead to one join.",
            )


def end_closes_splits(graph: Graph) -> None:
    """All splits are joined before the terminal step."""
    end = graph[graph.end]
    for parent, branches in graph.arriving(end.name).items():
        if branches:
            split = graph[branches[-1][0]]
            advice = f"Add a join step after the branches of '{split.name}': 'def join(self, inputs)'."
            if split.type == "foreach" and parent not in split.targets:
                advice = f"Write 'def {parent}(self, inputs)' if '{parent}' is to join them. {advice}"
            _blame(
                end,
                f"Step '{end.name}' is reached from '{parent}' while {_open(branches)} is still open. {advice}",
            )


RULES = (
    reserved_words,
    step_names,
    number_of_arguments,
    annotation_conflicts,
    basic_steps,
    end_is_end,
    static_transitions,
    valid_transitions,
    switch_splits,
    unknown_transitions,
    start_is_first,
    acyclicity,
    orphans,
    empty_foreach,
    ambiguous_joins,
    branches_merge_in_joins,
    joins_have_all_branches,
    joins_have_splits,
    joins_close_one_split,
    splits_have_one_join,
    end_closes_splits,
)
"""In the order of checking; a rule may rely on the ones before it."""


def _blame(node: Node, message: str) -> NoReturn:
    raise LintWarn(message, node.line, node.source_file)


def _blame_flow(graph: Graph, message: str) -> NoReturn:
    raise LintWarn(message, graph.line or None, graph.file or None)


def _blame_next(node: Node, message: str) -> NoReturn:
    raise LintWarn(message, node.next_line, node.source_file)


def _marked(graph: Graph, role: str) -> list[Node]:
    return [node for node in graph if (node.marked_start if role == "start" else node.marked_end)]


def _of_type(graph: Graph, kind: str) -> list[Node]:
    return [node for node in graph if node.type == kind]


def _into_joins(graph: Graph, kind: str) -> list[tuple[Node, str]]:
    return [(node, to) for node in _of_type(graph, kind) for to in node.targets if graph[to].type == "join"]


def _open(branches: tuple[tuple[str, str], ...]) -> str:
    """The splits that are open, in words."""
    return "no split" if not branches else f"the split of {_names(split for split, _ in branches)}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
