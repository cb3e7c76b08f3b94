"""Names of things: ``Flow/run/step/task/artifact``, and the ids of tasks."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import overload

from daskflow.errors import InvalidPathspec
from daskflow.indices import Indices

PARTS = ("flow", "run", "step", "task", "artifact")


def parse(pathspec: str, parts: int) -> tuple[str, ...]:
    """Split a pathspec that must have exactly ``parts`` parts; the last of five, an artifact's name, is any text.

    Raises :class:`InvalidPathspec` if it has another number of parts or an empty one.
    """
    most = len(PARTS) - 1
    found = tuple(pathspec.split("/", most))
    if len(found) != parts or not all(found[:most]):
        shape = "/".join(PARTS[:parts])
        raise InvalidPathspec(f"'{pathspec}' is not of the form {shape}.")
    return found


def natural_order(task_id: str) -> tuple[tuple[int, ...], int]:
    """Sorts ids of tasks by their indices, then by the iteration."""
    indices, _, iteration = task_id.partition(".")
    return tuple(map(int, indices.split("-"))), int(iteration or 0)


@dataclass(frozen=True, order=True)
class TaskName:
    """One task within a run: its step and its id. It is the same name for every attempt."""

    step: str
    task_id: str

    def __str__(self) -> str:
        return f"{self.step}/{self.task_id}"

    @classmethod
    def of(cls, text: str) -> TaskName:
        """The inverse of ``str``."""
        step, _, task_id = text.partition("/")
        return cls(step, task_id)


def task_id(indices: tuple[int, ...], iteration: int = 0) -> str:
    """The id of a task: foreach indices, outermost first, joined by ``-``; ``.k`` in iteration k of a recursion.

    >>> task_id(()), task_id((4, 2)), task_id((), 3), task_id((1,), 2)
    ('0', '4-2', '0.3', '1.2')
    """
    base = "-".join(map(str, indices)) if indices else "0"
    return f"{base}.{iteration}" if iteration else base


_RANGE = re.compile(r"((?:[0-9]+-)*)([0-9]+)(?:\.\.([0-9]+))?(?:\.([0-9]+))?")


@dataclass(frozen=True, order=True)
class TaskRange:
    """Tasks of one step that are neighbours in one foreach: ``fit/4-0..99``. One task alone is a range of one.

    Attributes
    ----------
    outer
        The indices in the foreaches around that one.
    first, count
        The index of the first item, and how many there are.
    """

    step: str
    outer: tuple[int, ...]
    first: int
    count: int = 1
    iteration: int = 0

    @classmethod
    def of(cls, text: str) -> TaskRange:
        """The inverse of ``str``; also of a single task's name. Raises ``ValueError``."""
        step, _, ids = text.partition("/")
        return cls.of_ids(step, ids)

    @classmethod
    def of_ids(cls, step: str, ids: str) -> TaskRange:
        """The range of a step's tasks with these ids: ``4-0..99``. Raises ``ValueError``."""
        found = _RANGE.fullmatch(ids)
        if found is None:
            raise ValueError(f"{ids!r} is no task's id, nor a range of them")
        outer, first, last, iteration = found.groups()
        count = 1 if last is None else int(last) - int(first) + 1
        if count < 1:
            raise ValueError(f"{ids!r} is empty")
        indices = tuple(map(int, outer.split("-")[:-1]))
        return cls(step, indices, int(first), count, int(iteration or 0))

    @property
    def ids(self) -> str:
        """As part of a name: ``4-0..99``."""
        base = task_id((*self.outer, self.first))
        if self.count > 1:
            base = f"{base}..{self.first + self.count - 1}"
        return f"{base}.{self.iteration}" if self.iteration else base

    def __str__(self) -> str:
        return f"{self.step}/{self.ids}"

    @property
    def end(self) -> int:
        """The index after the last."""
        return self.first + self.count

    @property
    def lane(self) -> tuple[str, tuple[int, ...], int]:
        """What two ranges must have in common to be neighbours."""
        return (self.step, self.outer, self.iteration)

    def __len__(self) -> int:
        return self.count

    def name(self, index: int = 0) -> TaskName:
        """The task at a place in the range."""
        return TaskName(self.step, task_id((*self.outer, self.first + index), self.iteration))

    def names(self) -> Iterator[TaskName]:
        """Its tasks, in order."""
        before = "".join(f"{index}-" for index in self.outer)
        after = f".{self.iteration}" if self.iteration else ""
        return (TaskName(self.step, f"{before}{index}{after}") for index in range(self.first, self.end))

    def part(self, start: int, stop: int) -> TaskRange:
        """The tasks at these places in the range."""
        return replace(self, first=self.first + start, count=stop - start)

    def shared_with(self, other: TaskRange) -> TaskRange | None:
        """The tasks that are in both ranges."""
        first, end = max(self.first, other.first), min(self.end, other.end)
        return (
            replace(self, first=first, count=end - first) if self.lane == other.lane and first < end else None
        )

    def shifted(self, place: int, by: int) -> TaskRange:
        """The range that corresponds to this one, ``by`` items on in the foreach at depth ``place``; outside it, itself."""
        if len(self.outer) == place:
            return replace(self, first=self.first + by)
        if len(self.outer) < place:
            return self
        outer = (*self.outer[:place], self.outer[place] + by, *self.outer[place + 1 :])
        return replace(self, outer=outer)


class TaskNames(Sequence[TaskName]):
    """Names of tasks in some order, held as ranges: a million of neighbours take no more room than one."""

    __slots__ = ("_starts", "ranges")

    def __init__(self, ranges: Iterable[TaskRange]) -> None:
        joined: list[TaskRange] = []
        for each in ranges:
            if joined and joined[-1].lane == each.lane and joined[-1].end == each.first:
                joined[-1] = replace(joined[-1], count=joined[-1].count + each.count)
            else:
                joined.append(each)
        self.ranges = tuple(joined)
        self._starts = [0, *accumulate(each.count for each in joined)]

    @classmethod
    def of(cls, texts: Iterable[str]) -> TaskNames:
        """From texts such as ``fit/4-0..99`` or ``start/0``. Raises ``ValueError``."""
        return cls(map(TaskRange.of, texts))

    @classmethod
    def single(cls, name: TaskName) -> TaskNames:
        """Just one."""
        return cls([TaskRange.of(str(name))])

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[TaskName]:
        for each in self.ranges:
            yield from each.names()

    @overload
    def __getitem__(self, index: int) -> TaskName: ...
    @overload
    def __getitem__(self, index: slice) -> list[TaskName]: ...
    def __getitem__(self, index: int | slice) -> TaskName | list[TaskName]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        which = bisect_right(self._starts, place) - 1
        return self.ranges[which].name(place - self._starts[which])

    def __eq__(self, other: object) -> bool:
        return self.ranges == other.ranges if isinstance(other, TaskNames) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.ranges)

    def __repr__(self) -> str:
        return f"TaskNames.of({self.texts()})"

    def texts(self) -> list[str]:
        """As stored."""
        return [str(each) for each in self.ranges]

    def shifted(self, place: int, by: int) -> TaskNames:
        """See :meth:`TaskRange.shifted`."""
        return TaskNames(each.shifted(place, by) for each in self.ranges)


class TaskSet:
    """A set of tasks, held as ranges."""

    def __init__(self, ranges: Iterable[TaskRange] = ()) -> None:
        self._lanes: dict[tuple[str, tuple[int, ...], int], Indices] = {}
        for each in ranges:
            self.add(each)

    @classmethod
    def of_json(cls, by_step: dict[str, list[str]]) -> TaskSet:
        """The inverse of :meth:`to_json`. Raises ``ValueError``."""
        return cls(TaskRange.of_ids(step, ids) for step, entries in by_step.items() for ids in entries)

    def to_json(self) -> dict[str, list[str]]:
        """As a record holds it: ids by step, neighbours as ``first..last``."""
        by_step: dict[str, list[str]] = {}
        for each in self.ranges():
            by_step.setdefault(each.step, []).append(each.ids)
        return by_step

    def add(self, tasks: TaskRange) -> None:
        """Add tasks, some of which may be there."""
        self._lanes.setdefault(tasks.lane, Indices()).add(tasks.first, tasks.end)

    def ranges(self) -> Iterator[TaskRange]:
        """All of them, as few ranges as possible."""
        for (step, outer, iteration), indices in self._lanes.items():
            for first, end in indices.ranges():
                yield TaskRange(step, outer, first, end - first, iteration)

    @property
    def steps(self) -> set[str]:
        """The steps of which there are tasks."""
        return {step for step, _, _ in self._lanes}

    def __contains__(self, name: object) -> bool:
        try:
            tasks = TaskRange.of(str(name))
        except ValueError:
            return False
        found = self._lanes.get(tasks.lane, Indices())
        return str(tasks.name()) == str(name) and tasks.first in found

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def missing(self, tasks: TaskRange) -> list[TaskRange]:
        """Those of some tasks that are not in the set."""
        indices = self._lanes.get(tasks.lane, Indices())
        return [replace(tasks, first=a, count=b - a) for a, b in indices.missing(tasks.first, tasks.end)]
