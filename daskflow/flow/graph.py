"""What the source of a flow says may follow what."""

from __future__ import annotations

import inspect
import os
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from daskflow.flow.node import Node, Sources, read_node, step_functions
from daskflow.flow.parameters import parameters_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Branches = tuple[tuple[str, str], ...]

__all__ = ["Graph", "Node"]


@dataclass(frozen=True)
class Graph:
    """The steps of a flow, in topological order (ties, and what is unreachable, in source order).

    ``graph["train"]`` is a step, ``"train" in graph`` tells whether there is one, a loop over a graph gives its nodes.

    A graph can be had of any flow whose source can be read, also of one that breaks rules:
    ``daskflow.flow.lint.check`` tells. What a rule makes unique is then arbitrary, but stable.

    Attributes
    ----------
    name, doc, file, line
        Of the flow class; ``line`` is 0 if unknown.
    start, end
        The entry and the terminal step, "" if there is none.
    nodes
        The steps by name, in the order of the graph.
    taken
        Names that are no artifacts of a step: what the class has, parameters and methods among it.
    """

    name: str
    doc: str
    file: str
    line: int
    start: str
    end: str
    nodes: dict[str, Node]
    taken: frozenset[str] = frozenset()

    @classmethod
    def of(cls, flow_class: type) -> Graph:
        """Read the graph of ``flow_class`` from its source.

        Raises :class:`LintWarn` if the source of a step can't be read.
        """
        sources = Sources()
        nodes = {name: read_node(name, step, sources) for name, step in step_functions(flow_class).items()}
        start = _terminal(nodes, "start", [name for name, node in nodes.items() if node.marked_start])
        end = _terminal(nodes, "end", [name for name, node in nodes.items() if node.marked_end])
        if end:
            nodes[end] = replace(nodes[end], type="end")
        file = _file(flow_class, nodes)
        return cls(
            name=flow_class.__name__,
            doc=inspect.cleandoc(flow_class.__doc__ or ""),
            file=file,
            line=sources.class_line(file, flow_class.__name__),
            start=start,
            end=end,
            nodes=_matched(_ordered(_linked(nodes))),
            taken=_taken(flow_class),
        )

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def __len__(self) -> int:
        return len(self.nodes)

    def arriving(self, name: str) -> dict[str, Branches]:
        """For each step that leads to ``name``: the splits that are open on that way, with the branch taken.

        The way of a recursive switch to itself is left out.
        """
        return {
            parent: _leaving(self.nodes[parent], name)
            for parent in self.nodes[name].in_nodes
            if parent != name
        }

    def info(
        self,
        *,
        parameters: Sequence[Mapping[str, Any]] = (),
        constants: Sequence[Mapping[str, Any]] = (),
        decorators: Sequence[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        """The graph as plain JSON values, as it is stored in ``_graph_info``. The flow must have passed lint.

        ``parameters``, ``constants`` and ``decorators`` are those of the flow. A value that JSON doesn't have,
        in a decorator's options or in ``node_info``, becomes its ``repr``.
        """
        import json

        info = {
            "file": os.path.basename(self.file),
            "start_step": self.start,
            "end_step": self.end,
            "parameters": list(parameters),
            "constants": list(constants),
            "steps": {name: _step_info(node) for name, node in self.nodes.items()},
            "graph_structure": self._structure(self.start, None, self._merge_points()),
            "doc": self.doc,
            "decorators": list(decorators),
            "extensions": {},
        }
        plain: dict[str, Any] = json.loads(json.dumps(info, default=repr))
        return plain

    def to_dot(self) -> str:
        """The graph in the DOT language, for ``dot -Tsvg``."""
        lines = [f"digraph {_quoted(self.name)} {{", "  rankdir=LR;", '  node [fontname="sans-serif"];']
        for node in self:
            lines.append(
                f"  {_quoted(node.name)} [label={_quoted(_dot_label(node))}, {_DOT_STYLES[node.type]}];"
            )
        for node in self:
            for target in node.targets:
                labels = ", ".join(str(label) for label, to in node.cases if to == target)
                style = (
                    f" [label={_quoted(labels)}]"
                    if labels
                    else " [style=bold]"
                    if node.type == "foreach"
                    else ""
                )
                lines.append(f"  {_quoted(node.name)} -> {_quoted(target)}{style};")
        return "\n".join([*lines, "}"]) + "\n"

    def _merge_points(self) -> dict[str, str]:
        """For each step the first one that all ways from it pass (its immediate post-dominator)."""
        position = {name: index for index, name in enumerate(self.nodes)}
        merge: dict[str, str] = {}

        def common(one: str, other: str) -> str:
            while one != other:
                if position[one] < position[other]:
                    one = merge[one]
                else:
                    other = merge[other]
            return one

        for name in reversed(self.nodes):
            onward = [target for target in self.nodes[name].targets if target != name]
            point = onward[0] if onward else name
            for target in onward[1:]:
                point = common(point, target)
            merge[name] = point
        return merge

    def _structure(self, name: str, stop: str | None, merge: dict[str, str]) -> list[Any]:
        """Steps in sequence; after one that splits or chooses, a list with such a sequence for each branch."""
        sequence: list[Any] = []
        while name != stop:
            sequence.append(name)
            node = self.nodes[name]
            onward = [target for target in node.targets if target != name]
            if not onward:
                break
            if node.splits or len(onward) > 1:
                join = node.matching_join or merge[name]
                sequence.append([self._structure(target, join, merge) for target in onward])
                name = join
            else:
                name = onward[0]
        return sequence


_DOT_STYLES = {
    "linear": "shape=box",
    "split": "shape=box",
    "foreach": "shape=box, peripheries=2",
    "switch": "shape=diamond",
    "join": 'shape=box, style="rounded,bold"',
    "end": "shape=box, style=rounded",
}


def _terminal(nodes: dict[str, Node], name: str, marked: list[str]) -> str:
    if marked:
        return marked[0]
    if name in nodes:
        return name
    return next(iter(nodes)) if len(nodes) == 1 else ""


def _file(flow_class: type, nodes: dict[str, Node]) -> str:
    """The file of the class itself: that of a step it defines, for a class made in a notebook has no other."""
    for name, node in nodes.items():
        if name in vars(flow_class):
            return node.source_file
    return getattr(sys.modules.get(flow_class.__module__), "__file__", None) or ""


def _linked(nodes: dict[str, Node]) -> dict[str, Node]:
    """The nodes with their ``in_nodes``."""
    parents: dict[str, list[str]] = {name: [] for name in nodes}
    for name, node in nodes.items():
        for target in node.targets:
            if target in parents:
                parents[target].append(name)
    return {name: replace(node, in_nodes=tuple(parents[name])) for name, node in nodes.items()}


def _ordered(nodes: dict[str, Node]) -> dict[str, Node]:
    """The nodes in topological order; where a cycle leaves no choice, the first of the source goes ahead."""
    ordered: dict[str, Node] = {}
    waiting = dict(nodes)
    while waiting:
        ready = (
            name
            for name, node in waiting.items()
            if not any(p in waiting for p in node.in_nodes if p != name)
        )
        name = next(ready, next(iter(waiting)))
        ordered[name] = waiting.pop(name)
    return ordered


def _leaving(node: Node, target: str) -> Branches:
    return (*node.branches, (node.name, target)) if node.splits else node.branches


def _matched(nodes: dict[str, Node]) -> dict[str, Node]:
    """The nodes, which are in topological order, with their ``branches`` and the joins of splits."""
    done: dict[str, Node] = {}
    for name, node in nodes.items():
        arriving = [_leaving(done[parent], name) for parent in node.in_nodes if parent in done]
        branches = arriving[0] if arriving else ()
        if node.type == "join" and branches:
            split = done[branches[-1][0]]
            if split.matching_join is None:
                done[split.name] = replace(split, matching_join=name)
            done[name] = replace(
                node,
                in_nodes=_by_branch(split, node, done),
                branches=branches[:-1],
                matching_split=split.name,
            )
        else:
            done[name] = replace(node, branches=branches)
    return done


def _by_branch(split: Node, join: Node, done: dict[str, Node]) -> tuple[str, ...]:
    """What leads to a join, in the order in which the split names the branches."""

    def place(parent: str) -> int:
        branches = done[parent].branches if parent in done else ()
        taken = [branch for name, branch in branches if name == split.name]
        return split.targets.index(taken[0]) if taken else len(split.targets)

    return tuple(sorted(join.in_nodes, key=place))


def _step_info(node: Node) -> dict[str, Any]:
    info: dict[str, Any] = {
        "name": node.name,
        "type": node.type,
        "line": node.line,
        "source_file": node.source_file,
        "doc": node.doc,
        "decorators": list(node.decorators),
        "next": list(node.targets),
        "node_info": node.node_info,
    }
    if node.type == "foreach":
        info["foreach_artifact"] = node.foreach
    if node.type == "switch":
        info["condition"] = node.condition
        info["switch_cases"] = _case_texts(node)
    if node.splits:
        info["matching_join"] = node.matching_join
    return info


def _case_texts(node: Node) -> dict[str, str]:
    texts = {str(label): target for label, target in node.cases}
    if len(texts) == len(node.cases):
        return texts
    # "1" and 1 are two cases of one text.
    return {repr(label): target for label, target in node.cases}


def _dot_label(node: Node) -> str:
    if node.type == "foreach":
        return f"{node.name}\nforeach {node.foreach}"
    if node.type == "switch":
        return f"{node.name}\nby {node.condition}"
    return node.name


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _taken(flow_class: type) -> frozenset[str]:
    return frozenset(dir(flow_class)).union(parameter.variable for parameter in parameters_of(flow_class))
