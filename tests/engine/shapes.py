"""Shapes of flows: as graphs, and walked through without the frontier to say what must have run.

A shape is a sequence of parts; what a part holds are shapes again.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from daskflow.flow import graph as graphs
from daskflow.flow import lint
from daskflow.flow.graph import Graph, Node
from daskflow.pathspec import TaskName, task_id
from daskflow.store.layout import PARAMETERS


@dataclass
class Part:
    """``step``, ``split`` (into branches), ``foreach``, ``switch`` (between branches) or ``loop`` (a recursive switch)."""

    kind: str
    inner: list[list[Part]] = field(default_factory=list)
    step: str = ""
    last: str = ""


def shapes(kinds: tuple[str, ...] = ("step", "split", "foreach", "switch", "loop"), leaves: int = 8) -> Any:
    """A strategy for shapes made of parts of these kinds."""
    plain = [kind for kind in ("step", "loop") if kind in kinds]

    def holding(inner: Any) -> Any:
        shape = st.lists(inner, min_size=1, max_size=3)
        several = st.lists(shape, min_size=2, max_size=3)
        made = {
            "split": several.map(lambda branches: Part("split", branches)),
            "switch": several.map(lambda branches: Part("switch", branches)),
            "foreach": shape.map(lambda body: Part("foreach", [body])),
        }
        return st.one_of([made[kind] for kind in kinds if kind in made])

    leaf = st.sampled_from(plain).map(Part)
    return st.lists(st.recursive(leaf, holding, max_leaves=leaves), min_size=1, max_size=3)


class Flow:
    """The graph of a shape, and what its tasks decide: always the same for one seed, whatever runs first."""

    def __init__(self, shape: list[Part], seed: int = 0, widest: int = 3) -> None:
        self.shape = shape
        self.seed = seed
        self.widest = widest
        self._nodes: dict[str, dict[str, Any]] = {}
        self._count = 0
        start = Part("step")
        self.shape = [start, *shape, Part("step")]
        self._make(self.shape, None)
        self.end = self.shape[-1].step
        self.declared = list(self._nodes)
        self.graph = self._graph(start.step)

    def _name(self) -> str:
        self._count += 1
        name = f"s{self._count}"
        self._nodes[name] = {}
        return name

    def _make(self, shape: list[Part], onward: str | None) -> None:
        """Make the steps of a shape in the order in which a source would declare them."""
        for part in shape:
            part.step = self._name()
            for inner in part.inner:
                self._make(inner, None)
            if part.kind in ("split", "foreach", "loop"):
                part.last = self._name()

    def _link(self, shape: list[Part], onward: str) -> str:
        """Let the shape lead to ``onward``; its first step."""
        for part in reversed(shape):
            node = self._nodes[part.step]
            if part.kind == "step":
                node |= {"type": "linear", "targets": (onward,)}
            elif part.kind == "loop":
                node |= {"type": "switch", "targets": (part.step, part.last), "condition": "again"}
                node["cases"] = ((True, part.step), (False, part.last))
                self._nodes[part.last] |= {"type": "linear", "targets": (onward,)}
            elif part.kind == "switch":
                targets = tuple(self._link(inner, onward) for inner in part.inner)
                node |= {"type": "switch", "targets": targets, "condition": "which"}
                node["cases"] = tuple(enumerate(targets))
            else:
                self._nodes[part.last] |= {
                    "type": "join",
                    "targets": (onward,),
                    "arguments": ("self", "inputs"),
                }
                targets = tuple(self._link(inner, part.last) for inner in part.inner)
                node |= {"type": part.kind, "targets": targets}
                if part.kind == "foreach":
                    node["foreach"] = "xs"
            onward = part.step
        return onward

    def _graph(self, start: str) -> Graph:
        self._link(self.shape, "")
        nodes = {
            name: Node(name=name, line=line, next_line=line, has_next=True, **fields)
            for line, (name, fields) in enumerate(self._nodes.items(), 1)
        }
        nodes[self.end] = replace(nodes[self.end], type="end", targets=(), has_next=False, next_line=0)
        nodes = graphs._matched(graphs._ordered(graphs._linked(nodes)))
        graph = Graph("F", "", "f.py", 1, start, self.end, nodes)
        lint.check(graph)
        return graph

    # What tasks decide

    def _draw(self, task: TaskName, below: int) -> int:
        return zlib.crc32(f"{self.seed} {task}".encode()) % below

    def size(self, task: TaskName) -> int:
        """The items of a foreach."""
        return 1 + self._draw(task, self.widest)

    def branch(self, task: TaskName, branches: int) -> int:
        """The choice of a switch."""
        return self._draw(task, branches)

    def again(self, task: TaskName, iteration: int) -> bool:
        """Whether a recursion goes on."""
        return iteration < 3 and self._draw(task, 3) > 0

    # What must have run

    def tasks(self) -> dict[TaskName, tuple[TaskName, ...]]:
        """Each task with its parents in their order."""
        found: dict[TaskName, tuple[TaskName, ...]] = {}
        self._walk(self.shape, (), PARAMETERS, found)
        return found

    def _walk(
        self,
        shape: list[Part],
        indices: tuple[int, ...],
        parent: TaskName,
        found: dict[TaskName, tuple[TaskName, ...]],
    ) -> TaskName:
        for part in shape:
            task = TaskName(part.step, task_id(indices))
            found[task] = (parent,)
            parent = task
            if part.kind == "split":
                ends = [self._walk(inner, indices, task, found) for inner in part.inner]
                parent = TaskName(part.last, task_id(indices))
                found[parent] = tuple(ends)
            elif part.kind == "foreach":
                ends = [self._walk(part.inner[0], (*indices, i), task, found) for i in range(self.size(task))]
                parent = TaskName(part.last, task_id(indices))
                # by step in the order of declaration, within a step by index
                found[parent] = tuple(sorted(ends, key=lambda end: self.declared.index(end.step)))
            elif part.kind == "switch":
                inner = part.inner[self.branch(task, len(part.inner))]
                parent = self._walk(inner, indices, task, found)
            elif part.kind == "loop":
                iteration = 0
                while self.again(parent, iteration):
                    iteration += 1
                    again = TaskName(part.step, task_id(indices, iteration))
                    found[again] = (parent,)
                    parent = again
                found[TaskName(part.last, task_id(indices))] = (parent,)
                parent = TaskName(part.last, task_id(indices))
        return parent
