"""Items of a foreach that ran one after the other in one process, and are committed together.

The record of a chunk says which items were to be run and how many of them, from the first, are done. It holds one record
in full, that of the first item; of each item it holds what differs. What was not done is set free by the record, in
pieces: each of them is a chunk, or a task, of its own. So whoever still runs the whole chunk can't commit any of it.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from daskflow.errors import DamagedRecord, DataMissing
from daskflow.pathspec import TaskNames, TaskRange
from daskflow.store.layout import chunk_of
from daskflow.store.records import (
    FORMAT,
    Frame,
    Log,
    TaskRecord,
    decode,
    encode,
    moment,
    shifted,
    timestamp_of,
)
from daskflow.store.round_trips import AT_ONCE, at_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from daskflow.pathspec import TaskName
    from daskflow.store.layout import Layout
    from daskflow.store.storage import Storage

MOST_REMEMBERED = 4
"""Chunks that a run's store keeps at hand; one may hold thousands of items."""
_APART = frozenset({"started", "finished", "artifacts"})
_LONG = frozenset({"artifacts", "foreach"})
_SHORT = ("at", "took", "attempt", "transition")
_OF_CHUNK = frozenset({"task", "parents", "stack", "process", "logs"})


@dataclass(frozen=True)
class Chunk:
    """The outcomes of neighbouring items of a foreach.

    Attributes
    ----------
    tasks
        The items that were to be run.
    first
        The record of the first of them, as JSON; ``started`` and ``finished`` are those of the chunk.
    each
        Of each item that is done, in order: ``at``, ``took`` (seconds after ``started``, seconds) and what differs from
        ``first``.
    logs
        By an item's place: its logs. Most items of a large foreach write nothing.
    rest
        How the items that are not done go on.
    where
        The file that it was read from.
    """

    tasks: TaskRange
    first: dict[str, Any] = field(default_factory=dict)
    each: Sequence[dict[str, Any]] = ()
    logs: dict[int, dict[str, Log]] = field(default_factory=dict)
    rest: Sequence[TaskRange] = ()
    where: str = field(default="", compare=False)

    @property
    def done(self) -> TaskRange | None:
        """The items that are committed; None if there is none."""
        return self.tasks.part(0, len(self.each)) if self.each else None

    @property
    def execution(self) -> str:
        """The execution that wrote it."""
        found: str = self.first["execution"]
        return found

    @cached_property
    def _started(self) -> float:
        return moment(self.first["started"]).timestamp()

    @cached_property
    def _stack(self) -> tuple[Frame, ...]:
        return tuple(map(Frame.of_json, self.first.get("stack", ())))

    @cached_property
    def _parents(self) -> TaskNames:
        return TaskNames.of(self.first.get("parents", ()))

    def part(self, tasks: TaskRange) -> Chunk:
        """Some of its items that are done, without the rest."""
        start = tasks.first - self.tasks.first
        if start == 0 and tasks.count == len(self.each):
            return self
        logs = {
            place - start: log for place, log in self.logs.items() if start <= place < start + tasks.count
        }
        parents, stack = shifted(self._parents, self._stack, start)
        first = self.first | {"parents": parents.texts(), "stack": [frame.to_json() for frame in stack]}
        return replace(
            self, tasks=tasks, first=first, each=self.each[start : start + tasks.count], logs=logs, rest=()
        )

    def in_short(self) -> Chunk:
        """How the items that are done went, without what came out of them."""
        first = {key: value for key, value in self.first.items() if key not in _LONG}
        each = [{key: item[key] for key in _SHORT if key in item} for item in self.each]
        return replace(self, first=first, each=each, logs={}, rest=())

    def started(self, place: int) -> float:
        """When the item at a place began, in seconds of the epoch."""
        at: float = self.each[place]["at"]
        return self._started + at

    def stack(self, place: int) -> tuple[Frame, ...]:
        """The splits around the item at a place."""
        return shifted(self._parents, self._stack, place)[1]

    def fact(self, place: int, key: str) -> Any:
        """What the record of an item says under a key that is the same for most of them, such as ``transition``."""
        return self.each[place].get(key, self.first.get(key))

    def ref(self, place: int, name: str) -> dict[str, Any] | None:
        """The reference of an artifact of an item, as JSON; None if it has none of that name."""
        common = self.first.get("artifacts", {}).get(name)
        own = self.each[place].get("artifacts", {}).get(name, _SAME)
        if own is _SAME or own is None:
            return None if own is None else common
        found: dict[str, Any] = own if common is None else _over(common, own)
        return found

    def scalar(self, place: int, name: str) -> Any:
        """An artifact of an item if it is a number, a text, true, false or none, as JSON has them; else :data:`OTHER`."""
        own = self.each[place].get("artifacts", _NOTHING).get(name, _NOTHING)
        common = self._artifacts.get(name, _NOTHING)
        if own is None or own.get("encoding", common.get("encoding")) != "json":
            return OTHER
        value = (
            own["value"] if "value" in own else common.get("value", OTHER) if "record" not in own else OTHER
        )
        return value if type(value) in _SCALARS else OTHER

    @cached_property
    def _artifacts(self) -> dict[str, Any]:
        found: dict[str, Any] = self.first.get("artifacts", {})
        return found

    def names(self, place: int) -> Iterator[str]:
        """Names of an item's artifacts."""
        own = self.each[place].get("artifacts", {})
        common = self.first.get("artifacts", {})
        yield from (name for name in common if own.get(name, _SAME) is not None)
        yield from (name for name in own if name not in common)

    def record(self, place: int) -> TaskRecord:
        """The record of the item at a place. Raises :class:`DamagedRecord` if it is."""
        try:
            return self._record(place)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            name = self.tasks.name(place)
            raise DamagedRecord(f"{self.where} is damaged, in the record of {name}: {error}.") from error

    def _record(self, place: int) -> TaskRecord:
        each = self.each[place]
        parents, stack = shifted(self._parents, self._stack, place)
        began = self._started + each["at"]
        data = self.first | {key: value for key, value in each.items() if key not in ("at", "took")}
        data |= {
            "task": self.tasks.name(place).task_id,
            "parents": parents.texts(),
            "stack": [frame.to_json() for frame in stack],
            "started": timestamp_of(began),
            "finished": timestamp_of(began + each["took"]),
            "artifacts": {name: self.ref(place, name) for name in self.names(place)},
        }
        known = {key: value for key, value in data.items() if value is not None}
        return replace(TaskRecord.of_json(known), logs=self.logs.get(place, {}))

    def encoded(self) -> bytes:
        """As stored: one line an item."""
        return encoded(
            self,
            [json.dumps(each, ensure_ascii=False).encode("utf-8", "backslashreplace") for each in self.each],
        )

    @classmethod
    def of_json(cls, data: dict[str, Any], where: str) -> Chunk:
        """The inverse of :meth:`encoded`. Raises :class:`DamagedRecord` naming ``where`` if it is."""
        try:
            step = data["step"]
            _check(data)
            return cls(
                TaskRange.of_ids(step, data["items"]),
                first=data["first"],
                each=data["each"],
                logs={
                    int(place): {stream: Log.of_json(log) for stream, log in logs.items()}
                    for place, logs in data.get("logs", {}).items()
                },
                rest=[TaskRange.of_ids(step, ids) for ids in data.get("rest", ())],
                where=where,
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise DamagedRecord(f"{where} is damaged: {error!r}.") from error


_SAME = object()
_NOTHING: dict[str, Any] = {}
_SCALARS = (int, float, str, bool, type(None))
OTHER = object()
"""No scalar."""


def _check(data: dict[str, Any]) -> None:
    """What all that is done with a chunk relies on. Raises ``ValueError``, ``TypeError`` or ``KeyError``."""
    if type(data["first"]) is not dict or type(data["each"]) is not list:
        raise ValueError("'first' is no object, or 'each' no list")
    done, there = data["done"], TaskRange.of_ids(data["step"], data["items"]).count
    if len(data["each"]) != done or done > there:
        raise ValueError(f"'each' has {len(data['each'])} items; {done} of {there} should be done")
    for each in data["each"]:
        if type(each["at"] + each["took"]) not in (int, float):
            raise ValueError("'at' and 'took' are no seconds")
    if data["each"]:
        moment(data["first"]["started"])
        TaskRecord.of_json(data["first"])


_PLACES = {"value", "path", "record"}


def _over(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A reference of which only what differs was kept."""
    gone = set() if _PLACES.isdisjoint(own) else _PLACES
    gone = gone | {key for key, value in own.items() if value is None and key != "value"}
    return {key: value for key, value in common.items() if key not in gone} | {
        key: value for key, value in own.items() if value is not None or key == "value"
    }


def encoded(chunk: Chunk, each: Sequence[bytes]) -> bytes:
    """A chunk as stored, whose items are JSON already."""
    data = {
        "format": FORMAT,
        "flow": chunk.first.get("flow"),
        "run": chunk.first.get("run"),
        "step": chunk.tasks.step,
        "items": chunk.tasks.ids,
        "done": len(each),
        "rest": [piece.ids for piece in chunk.rest],
        "first": chunk.first,
        "logs": {
            str(place): {stream: log.to_json() for stream, log in logs.items()}
            for place, logs in chunk.logs.items()
        },
    }
    head = encode(data).removesuffix(b"\n}\n")
    return b'%b,\n "each": [\n%b\n]\n}\n' % (head, b",\n".join(each))


def differences(first: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """What of a record, as JSON, differs from that of the chunk's first item; times are left to the caller."""
    found = {
        key: value
        for key, value in record.items()
        if key not in _APART and key not in _OF_CHUNK and value != first.get(key, _SAME)
    }
    found |= dict.fromkeys(first.keys() - record.keys() - _APART - _OF_CHUNK)
    common, own = first.get("artifacts", {}), record.get("artifacts", {})
    artifacts: dict[str, Any] = dict.fromkeys(common.keys() - own.keys())
    for name, ref in own.items():
        was = common.get(name)
        if was is None:
            artifacts[name] = ref
        elif ref != was:
            artifacts[name] = dict.fromkeys(was.keys() - ref.keys() - _PLACES) | {
                key: value for key, value in ref.items() if value != was.get(key, _SAME) or key in _PLACES
            }
    return found | {"artifacts": artifacts} if artifacts else found


class Chunks:
    """The chunks of one run. What is committed never changes, so what was read is kept."""

    def __init__(self, storage: Storage, layout: Layout) -> None:
        self._storage = storage
        self._layout = layout
        self._there: dict[str, dict[tuple[tuple[int, ...], int], list[TaskRange]]] = {}
        self._read: OrderedDict[TaskRange, Chunk] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, tasks: TaskRange) -> Chunk | None:
        """The commit of exactly these tasks, None if it is not there. Raises :class:`DamagedRecord` if it is."""
        with self._lock:
            found = self._read.get(tasks)
            if found is not None:
                self._read.move_to_end(tasks)
                return found
        path = self._layout.chunk(tasks)
        try:
            raw = self._storage.read(path)
        except FileNotFoundError:
            return None
        where = self._storage.locate(path)
        found = Chunk.of_json(decode(raw, where), where)
        if found.tasks != tasks:
            raise DamagedRecord(f"{where} is damaged: it is the record of {found.tasks}.")
        with self._lock:
            self._read[tasks] = found
            while len(self._read) > MOST_REMEMBERED:
                self._read.popitem(last=False)
        return found

    def commit(self, chunk: Chunk, content: bytes) -> Chunk:
        """Publish a chunk, whose content is as stored; the one that counts, which may be another's."""
        path = self._layout.chunk(chunk.tasks)
        if self._storage.create(path, content):
            return chunk
        winner = self.read(chunk.tasks)
        if winner is None:
            raise DataMissing(f"{self._storage.locate(path)} exists and can't be read.")
        return winner

    def look(self, step: str) -> list[str]:
        """See which chunks of a step there are by now; the names of all that is in the step's folder."""
        found: dict[tuple[tuple[int, ...], int], list[TaskRange]] = {}
        names = self._storage.names(self._layout.step(step))
        for file in names:
            if tasks := chunk_of(step, file):
                found.setdefault((tasks.outer, tasks.iteration), []).append(tasks)
        for ranges in found.values():
            ranges.sort(
                key=lambda tasks: (tasks.first, -tasks.count)
            )  # of two, what one was cut into comes later
        self._there[step] = found
        return names

    def pieces(self, tasks: TaskRange) -> Iterator[tuple[TaskRange, Chunk | None]]:
        """Tasks with the chunks that they are committed with; those that are in none come one by one, with None."""
        first = tasks.first
        while first < tasks.end:
            left = replace(tasks, first=first, count=tasks.end - first)
            held = self.holding(left.name())
            count = 1
            if held is not None:
                count = min(left.count, len(held[0].each) - held[1])
            yield left.part(0, count), None if held is None else held[0]
            first += count

    def looked(self, step: str) -> bool:
        """Whether it is known which chunks of a step there were at some time."""
        return step in self._there

    def ranges(self, step: str) -> Iterator[TaskRange]:
        """Which there were of a step at the last look, those of one foreach by index."""
        for ranges in self._there.get(step, {}).values():
            yield from ranges

    def of(self, step: str) -> Iterator[Chunk]:
        """All of a step that were there at the last look, those of one foreach by index."""
        wanted = list(self.ranges(step))
        for first in range(0, len(wanted), AT_ONCE):  # one may have thousands of items: few are held
            for chunk in at_once(self._storage, self.read, wanted[first : first + AT_ONCE]):
                if chunk is not None:
                    yield chunk

    def holding(self, name: TaskName) -> tuple[Chunk, int] | None:
        """The chunk that a task is committed with, and its place in it; None if at the last look there was none.

        A chunk that was set free in part has its first items. So of all that were to have an item, the one that begins
        last has it.
        """
        task = TaskRange.of(str(name))
        ranges = self._there.get(task.step, {}).get((task.outer, task.iteration), [])
        place = bisect_right(ranges, task.first, key=lambda tasks: tasks.first) - 1
        chunk = self.read(ranges[place]) if place >= 0 and task.first < ranges[place].end else None
        if chunk is None or task.first >= chunk.tasks.first + len(chunk.each):
            return None
        return chunk, task.first - chunk.tasks.first
