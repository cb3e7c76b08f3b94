"""Random flows: their source, their graph, and, worked out from their structure alone, the tasks they have.

A flow is a sequence of blocks. A block is ``(kind, children)``; its children are sequences again.
"""

from __future__ import annotations

import itertools
import linecache
import zlib
from dataclasses import dataclass, field

from hypothesis import strategies as st

from daskflow.flow import lint
from daskflow.flow.graph import Graph
from daskflow.pathspec import TaskName
from daskflow.store.layout import PARAMETERS

TASK = ("task", [])
LOOP = ("loop", [])
_numbers = itertools.count()


def _step(function):
    function.is_step = True
    function.step_options = {"start": False, "end": False, "node_info": {}}
    function.decorators = []
    return function


def _nested(blocks, kinds):
    inside = st.lists(blocks, min_size=1, max_size=2)
    branches = st.lists(inside, min_size=2, max_size=3)
    return st.one_of(
        st.tuples(st.just(kind), st.lists(inside, min_size=1, max_size=1) if kind == "foreach" else branches)
        for kind in kinds
    )


def sequences(leaves=(TASK, LOOP), kinds=("split", "switch", "foreach")):
    """Sequences of blocks of these kinds, nested in each other."""
    blocks = st.recursive(st.sampled_from(leaves), lambda inner: _nested(inner, kinds), max_leaves=8)
    return st.lists(blocks, max_size=3)


@dataclass
class Decisions:
    """What the tasks of a run decide: the same for the same name, whatever the order in which they run."""

    seed: int = 0
    widest: int = 4

    def of(self, name: TaskName, choices: int) -> int:
        return zlib.crc32(f"{self.seed}/{name}".encode()) % choices


@dataclass
class RandomFlow:
    """A flow written from its structure."""

    blocks: list
    steps: dict[str, str] = field(default_factory=dict)  # name to what follows, in source order
    heads: dict[int, str] = field(default_factory=dict)  # id of a block to the number in its steps' names

    def __post_init__(self):
        self.blocks = _own(self.blocks)
        self.steps["start"] = ""
        self.steps["start"] = f"self.{self._sequence(self.blocks, 'end')}"
        self.graph = self._graph()

    def _sequence(self, blocks, after):
        for block in reversed(blocks):
            after = self._write(block, after)
        return after

    def _write(self, block, after):
        kind, children = block
        first = f"{kind}{len(self.steps)}"
        self.heads[id(block)] = first
        self.steps[first] = ""
        if kind == "task":
            self.steps[first] = f"self.{after}"
        elif kind == "loop":
            self.steps[f"{first}x"] = f"self.{after}"
            self.steps[first] = f"{{1: self.{first}, 2: self.{first}x}}, condition='c'"
        elif kind == "switch":
            cases = ", ".join(f"{i}: self.{self._sequence(c, after)}" for i, c in enumerate(children))
            self.steps[first] = f"{{{cases}}}, condition='c'"
        else:
            join = f"{first}j"
            self.steps[join] = f"self.{after}"
            targets = ", ".join(f"self.{self._sequence(child, join)}" for child in children)
            self.steps[first] = targets + (", foreach='xs'" if kind == "foreach" else "")
        return first

    def _graph(self):
        lines = ["class Drawn:"]
        for name, follows in self.steps.items():
            arguments = "self, inputs" if name.endswith("j") else "self"
            lines += ["    @step", f"    def {name}({arguments}):", f"        self.next({follows})"]
        lines += ["    @step", "    def end(self): pass", ""]
        file = f"<random flow {next(_numbers)}>"
        source = "\n".join(lines)
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        try:
            namespace = {"step": _step, "__name__": "drawn_flow"}
            exec(compile(source, file, "exec"), namespace)
            graph = Graph.of(namespace["Drawn"])
            lint.check(graph)
            return graph
        finally:
            del linecache.cache[file]

    def tasks(self, decisions):
        """Every task of a run, with its parents in order."""
        found = {TaskName("start", "0"): (PARAMETERS,)}
        last = self._run(self.blocks, TaskName("start", "0"), (), decisions, found)
        found[TaskName("end", "0")] = (last,)
        return found

    def _run(self, blocks, last, indices, decisions, found):
        for block in blocks:
            last = self._run_block(block, last, indices, decisions, found)
        return last

    def _run_block(self, block, parent, indices, decisions, found):
        kind, children = block
        name = TaskName(self.heads[id(block)], _id(indices))
        found[name] = (parent,)
        if kind == "task":
            return name
        if kind == "loop":
            return self._run_loop(name, indices, decisions, found)
        if kind == "switch":
            taken = children[decisions.of(name, len(children))]
            return self._run(taken, name, indices, decisions, found)
        if kind == "split":
            ends = [self._run(child, name, indices, decisions, found) for child in children]
        else:
            width = 1 + decisions.of(name, decisions.widest)
            ends = [self._run(children[0], name, (*indices, i), decisions, found) for i in range(width)]
            order = list(self.steps)
            ends.sort(key=lambda end: order.index(end.step))
        join = TaskName(f"{name.step}j", _id(indices))
        found[join] = tuple(ends)
        return join

    def _run_loop(self, first, indices, decisions, found):
        last = first
        for k in range(1, 1 + decisions.of(first, 3)):
            name = TaskName(first.step, f"{_id(indices)}.{k}")
            found[name] = (last,)
            last = name
        leaving = TaskName(f"{first.step}x", _id(indices))
        found[leaving] = (last,)
        return leaving


def _own(blocks):
    """A copy in which every block is an object of its own."""
    return [(kind, [_own(child) for child in children]) for kind, children in blocks]


def _id(indices):
    return "-".join(map(str, indices)) or "0"
