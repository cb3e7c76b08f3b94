"""What the engine tells of a run, as events: for the feed's thread, which alone loads what this needs."""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from daskflow.client.rows import facts_in, facts_of
from daskflow.dashboard.events import Back, Committed, Failed, Lines, Planned, Progress, Started, Told
from daskflow.dashboard.heads import caught, commands_of, shown
from daskflow.dashboard.step_model import MOST_ROWS
from daskflow.dashboard.task_rows import cut
from daskflow.errors import DaskflowException
from daskflow.pathspec import TaskRange, TaskSet
from daskflow.store.chunks import Chunk
from daskflow.store.records import Frame, TaskRecord, moment
from daskflow.store.tags import read_tags
from daskflow.task.spec import told

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from daskflow.dashboard.events import Event
    from daskflow.pathspec import TaskName
    from daskflow.store.runs import RunStore
    from daskflow.task.spec import TaskResult, TaskSpec

MOST_ROWS_AT_ONCE = 100
"""Tasks of one event: who takes notice of it has other things to do between two of them."""
MOST_ROWS_OF_BATCH = 500
BATCH_SECONDS = 0.25
"""How long what is known waits for what is still to be read."""
MOST_DAMAGED = 100
"""Texts about what can't be read."""
MOST_LINES = 200
"""Lines of a task that one batch has; its log has all of them."""
LONGEST_ERROR = 1000
LONGEST_VALUE = 200
_VALUES_AT_ONCE, _MOST_BLOCKS = 500, 20
_MALFORMED = (KeyError, ValueError, TypeError, AttributeError, IndexError)


class Narrator:
    """Makes events of what a listener of the engine is told; for one thread."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._damaged: list[str] = []
        self._values = _Values(store)
        self._told = TaskSet()
        self._rows: dict[str, int] = {}
        self._running: dict[TaskName, tuple[float, str, int]] = {}

    def told(self, facts: dict[str, Any]) -> list[Event]:
        """Of the run itself."""
        return [Told(facts)]

    def begun(self, facts: dict[str, Any], done: Sequence[TaskRange]) -> Iterator[Event]:
        """What the store says of the run, and of the tasks that are there."""
        yield Told(facts)
        try:
            yield Told(_of_store(self._store))
        except DaskflowException as error:
            yield from self._unread(error)
        for tasks in done:
            yield from self._read(tasks, reused=True)

    def planned(self, region: list[Any]) -> list[Event]:
        """Tasks wait that did not before."""
        counts: dict[str, int] = {}
        for task in region:
            if not task.again:
                step = task.spec.name.step
                counts[step] = counts.get(step, 0) + task.spec.count
        return [Planned(step, count) for step, count in counts.items()]

    def started(self, spec: TaskSpec, pid: int, count: int, host: str, at: float) -> list[Event]:
        """A process runs."""
        self._running[spec.name] = at, host, count
        is_listed = count == 1 or self._rows.get(spec.name.step, 0) <= MOST_ROWS
        value = self._values.of_spec(spec, count) if is_listed else None
        return [Started(spec.name.step, spec.tasks.ids, count, at, host, pid, spec.attempt, value)]

    def lines(self, name: TaskName, stream: str, lines: Sequence[str]) -> list[Event]:
        """A task has written lines."""
        return [Lines(name.step, name.task_id, stream, list(lines))]

    def progress(self, spec: TaskSpec, done: int) -> list[Event]:
        """So many tasks of a process are done."""
        return [Progress(spec.name.step, spec.tasks.ids, done)]

    def lost(self, spec: TaskSpec) -> list[Event]:
        """A process has gone with its worker."""
        return [Back(spec.name.step, spec.tasks.ids, spec.count)]

    def committed(self, found: TaskRecord | Chunk, process: str = "", reused: bool = False) -> list[Event]:
        """Tasks are in the store."""
        if not isinstance(found, Chunk):
            self._told.add(TaskRange.of(str(found.name)))
            return [Committed(found.step, self._of_record(found), process, reused)]
        if found.done is None:
            return []
        self._told.add(found.done)
        return [Committed(found.tasks.step, self._of_chunk(found), process, reused)]

    def finished(self, results: Sequence[TaskResult], again: Container[TaskName]) -> Iterator[Event]:
        """Tasks are over, or wait. A commit of which nobody told, as of a worker that was lost then, is read."""
        for result in results:
            at, host, count = self._running.pop(result.name, (None, "", 0))
            if result.committed:
                for tasks in self._told.missing(result.tasks):
                    yield from self._read(tasks)
                if count > 1:  # whatever became of the others, their process is over
                    yield Back(result.name.step, result.name.task_id, 1)
            elif result.status == "failed":
                yield replace(
                    self._failure(result, at, host), again=result.name in again, stopped=result.stopped
                )
            else:
                yield Back(result.name.step, result.tasks.ids, result.count)

    def _failure(self, result: TaskResult, at: float | None, host: str) -> Failed:
        """What the record of a failed attempt says; of one that left none, what was heard of it."""
        name, error = result.name, told(result.error)[:LONGEST_ERROR]
        record = None
        if result.execution:
            with contextlib.suppress(DaskflowException, ValueError):
                data = self._store.read(self._store.layout.attempt(name, result.execution))
                record = None if data is None else TaskRecord.of_json(data)
        if record is None:
            return Failed(name.step, name.task_id, result.attempt, error, at, worker=host)
        facts = facts_of(record)
        return Failed(
            name.step,
            name.task_id,
            result.attempt,
            error,
            started=facts["started"].timestamp(),
            seconds=record.seconds,
            worker=facts["worker"] or host,
            value=self._values.of(record.stack),
            cpu_seconds=facts["cpu_seconds"],
            peak_memory=facts["peak_memory"],
            pid=facts["pid"] or 0,
        )

    def _read(self, tasks: TaskRange, reused: bool = False) -> Iterator[Event]:
        if self._rows.get(tasks.step, 0) > MOST_ROWS:  # all that is shown of them is their number
            self._told.add(tasks)
            yield Committed(tasks.step, {"task": [name.task_id for name in tasks.names()]}, reused=reused)
            return
        try:
            for piece, chunk in self._store.pieces(tasks):
                yield from self._read_piece(piece, chunk, reused)
        except DaskflowException as error:
            yield from self._unread(error)

    def _read_piece(self, piece: TaskRange, chunk: Chunk | None, reused: bool) -> Iterator[Event]:
        """Tasks that have one record. If that is damaged they are left out, and it is told."""
        try:
            found = self._store.task(piece.name()) if chunk is None else chunk.part(piece)
            if found is not None:
                yield from self.committed(found, reused=reused)
        except (DaskflowException, *_MALFORMED) as error:
            yield from self._unread(error)

    def _unread(self, error: Exception) -> Iterator[Event]:
        """Something can't be read; who is told of it is told of all."""
        if len(self._damaged) < MOST_DAMAGED:
            text = getattr(error, "message", None) or f"A record is damaged: {error!r}."
            self._damaged.append(text)
            yield Told({"damaged": list(self._damaged)})

    def _of_record(self, record: TaskRecord) -> dict[str, list[Any]]:
        if not self._has_room(record.step, 1):
            return {"task": [record.task]}
        facts = facts_of(record)
        for name in ("started", "finished"):
            facts[name] = facts[name].timestamp()
        facts["value"] = self._values.of(record.stack)
        facts["to"] = _chosen(record.transition)
        facts["caught"] = caught(record)
        return {name: [value] for name, value in facts.items()}

    def _of_chunk(self, chunk: Chunk) -> dict[str, list[Any]]:
        assert chunk.done is not None
        if not self._has_room(chunk.tasks.step, chunk.done.count):
            return {"task": [name.task_id for name in chunk.done.names()]}
        chunk = replace(chunk, each=list(chunk.each))
        columns = facts_in(chunk)
        for name in ("started", "finished"):
            columns[name] = [value.timestamp() for value in columns[name]]
        places = range(len(chunk.each))
        columns["value"] = self._values.of_items(chunk.first.get("stack", []), len(places))
        columns["to"] = [_chosen(chunk.fact(place, "transition")) for place in places]
        return columns

    def _has_room(self, step: str, count: int) -> bool:
        """Whether the model has a row for so many more tasks of a step."""
        known = self._rows[step] = self._rows.get(step, 0) + count
        return known <= MOST_ROWS


class _Values:
    """The items of foreaches as texts, read in blocks."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._blocks: OrderedDict[tuple[TaskName, int], list[str]] = OrderedDict()

    def of(self, stack: Sequence[dict[str, Any]]) -> str | None:
        """The item of the innermost foreach; None if there is none or it can't be read."""
        return self.of_items(stack, 1)[0]

    def of_spec(self, spec: TaskSpec, count: int) -> str | None:
        """The same of a task that runs; of neighbours that share a process the first and the last."""
        frames = [frame for frame in spec.stack if frame.kind == "foreach"]
        if not frames:
            return None
        first = self._item(frames[-1], frames[-1].index)
        if count == 1 or first is None or spec.stack[-1].kind != "foreach":
            return first if count == 1 else None
        last = self._item(frames[-1], frames[-1].index + count - 1)
        half = LONGEST_VALUE // 2 - 2
        return None if last is None else f"{cut(first, half)} … {cut(last, half)}"

    def of_items(self, stack: Sequence[dict[str, Any]], count: int) -> list[str | None]:
        """The same of a task and its neighbours."""
        frames = [Frame.of_json(frame) for frame in stack if frame["kind"] == "foreach"]
        if not frames:
            return [None] * count
        frame = frames[-1]
        if count == 1 or stack[-1]["kind"] == "foreach":
            return [self._item(frame, frame.index + place) for place in range(count)]
        return [None] * count

    def _item(self, frame: Frame, index: int) -> str | None:
        block, place = divmod(index, _VALUES_AT_ONCE)
        key = frame.split, block
        if key not in self._blocks:
            self._blocks[key] = self._read(frame, block * _VALUES_AT_ONCE)
            if len(self._blocks) > _MOST_BLOCKS:
                self._blocks.popitem(last=False)
        texts = self._blocks[key]
        return texts[place] if place < len(texts) else None

    def _read(self, frame: Frame, first: int) -> list[str]:
        try:
            split = self._store.task(frame.split)
            if split is None or split.foreach is None:
                return []
            return self._store.items.texts(split.foreach, first, _VALUES_AT_ONCE, LONGEST_VALUE)
        except DaskflowException:  # the task tells it, if it needs the item
            return []


def _of_store(store: RunStore) -> dict[str, Any]:
    record = store.record()
    artifacts = store.parameters().artifacts
    wanted = [name for name in record.get("parameters", ()) if name in artifacts]
    return {
        "user": record.get("user"),
        "started": moment(record["created"]).timestamp(),
        "parameters": {name: shown(artifacts[name]) for name in wanted},
        "tags": sorted(read_tags(store, record).user),
        "store": store.storage.url,
        "commands": commands_of(store, record),  # for a run whose driver vanishes, and so can't tell any more
        "steps": list(store.graph_info()["steps"].values()),
    }


def _chosen(transition: dict[str, Any] | None) -> str | None:
    """The step that a switch chose."""
    if transition is None or transition.get("kind") != "switch" or not transition.get("targets"):
        return None
    return str(transition["targets"][0])


def batches(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Events as they come, in batches of a few hundred tasks at most; without events one that is empty.

    What is told of the run itself ends a batch, and so does an event before which much time has passed. Lines of one task
    are one event, the last of them.
    """
    batch, rows, began = _Batch(), 0, time.monotonic()
    none = True
    for event in events:
        for part in _parts(event):
            none = False
            rows += batch.add(part)
            if (
                rows >= MOST_ROWS_OF_BATCH
                or isinstance(part, Told)
                or time.monotonic() - began > BATCH_SECONDS
            ):
                yield batch.events
                batch, rows, began = _Batch(), 0, time.monotonic()
    if batch.events or none:
        yield batch.events


class _Batch:
    """Events of which none are lines of the same task."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._lines: dict[tuple[str, str, str], Lines] = {}

    def add(self, event: Event) -> int:
        """How many rows more it has with this one."""
        if isinstance(event, Lines):
            key = event.step, event.task, event.stream
            before = self._lines.setdefault(key, event)
            if before is not event:
                before.lines.extend(event.lines)
                del before.lines[:-MOST_LINES]
                return 0
        self.events.append(event)
        return len(event.columns["task"]) if isinstance(event, Committed) else 1


def _parts(event: Event) -> Iterator[Event]:
    if not isinstance(event, Committed) or len(event.columns["task"]) <= MOST_ROWS_AT_ONCE:
        yield event
        return
    for first in range(0, len(event.columns["task"]), MOST_ROWS_AT_ONCE):
        some = {name: values[first : first + MOST_ROWS_AT_ONCE] for name, values in event.columns.items()}
        yield replace(event, columns=some)
