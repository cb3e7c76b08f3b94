"""What is known of tasks, a row each: the facts of :data:`daskflow.client.frames.FACTS` and their scalar artifacts.

No value is unpickled, and of items of a foreach that were committed together no record is made.
"""

from __future__ import annotations

import warnings
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from daskflow.client.frames import Row, Rows, column_of
from daskflow.client.index import read_index
from daskflow.errors import (
    DamagedRecord,
    DamagedRecordWarning,
    DaskflowException,
    DataException,
    DataMissing,
    StoreError,
)
from daskflow.pathspec import TaskName, natural_order
from daskflow.store.chunks import OTHER
from daskflow.store.layout import PARAMETERS, began_at
from daskflow.store.records import ArtifactRef, moment
from daskflow.store.round_trips import at_once
from daskflow.store.serializers import decode
from daskflow.store.serializers.typed_json import is_single
from daskflow.store.sessions import status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from daskflow.store.chunks import Chunk
    from daskflow.store.records import TaskRecord
    from daskflow.store.runs import RunStore
    from daskflow.store.storage import Storage

T = TypeVar("T")
_IN_RECORDS = frozenset({"json", "typed-json"})


class RunRows:
    """The rows of one run."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def of_steps(self, steps: Iterable[str]) -> Rows:
        """The rows of all tasks of steps, in the order of the steps and of the tasks' ids."""
        found = Rows()
        for step in steps:
            rows = self._of_step(step)
            found.add(rows.count, rows.columns)
        return found

    def _of_step(self, step: str) -> Rows:
        rows = Rows()
        rows.add_each(list(self.alone(step, self._store.tasks_alone(step)).values()))
        for chunk in self._store.chunks_seen(step):
            rows.add(len(chunk.each), self._of_chunk(chunk))
        rows.sort(natural_order)
        same = {"run": int(self._store.run), "step": step} | self.parameters
        return _with(rows, same)

    @cached_property
    def parameters(self) -> Row:
        """What each task of the run has: its parameters and the constants of the flow."""
        record = self._store.task(PARAMETERS)
        return {} if record is None else self._artifacts(record)

    def alone(self, step: str, ids: Iterable[str]) -> dict[str, Row]:
        """The rows of tasks that are in no chunk, by id. What can't be read is left out, with a warning."""
        return self._read(step, ids, self._of_task)

    def committed(self, step: str, ids: Iterable[str]) -> dict[str, Row]:
        """Those of them that are committed."""
        return self._read(step, ids, self._of_commit)

    def _read(self, step: str, ids: Iterable[str], read: Callable[[TaskName], Row | None]) -> dict[str, Row]:
        wanted = list(ids)
        known = self._indexed(step) if len(wanted) > 1 else {}
        found = {each: known[each] for each in wanted if each in known}
        names = [TaskName(step, each) for each in wanted if each not in known]
        for name, row in zip(names, _each(self._store.storage, read, names), strict=True):
            if isinstance(row, DaskflowException):
                warnings.warn(row.message, DamagedRecordWarning, stacklevel=2)
            elif row is not None:
                found[name.task_id] = row
        return found

    def _indexed(self, step: str) -> dict[str, Row]:
        """The rows that the index of a step has, and that of the run from which some of its tasks were taken."""
        taken, known = self._store.origin, read_index(self._store, step)
        if taken is None or step not in taken.tasks.steps:
            return known
        others = RunRows(taken.store)._indexed(step)
        return {each: row for each, row in others.items() if TaskName(step, each) in taken.tasks} | known

    def _of_task(self, name: TaskName) -> Row:
        return self._of_commit(name) or self._unfinished(name)

    def _of_commit(self, name: TaskName) -> Row | None:
        record = self._store.alone(name)
        return None if record is None else self.of_record(record)

    def of_record(self, record: TaskRecord) -> Row:
        """The row of a task, by its record; without what is the same for all tasks of the run."""
        return facts_of(record) | self._artifacts(record)

    def _unfinished(self, name: TaskName) -> Row:
        """The row of a task that is not committed: its last execution runs, or failed, or nobody knows what became of it."""
        executions = self._store.executions(name)
        failed = list(self._store.failed_attempts(name))
        last = executions[-1] if executions else None
        ended = bool(failed) and failed[-1].execution == last
        if failed and (ended or self._status != "running"):
            return self.of_record(failed[-1])
        attempt = int(last.partition(".")[0]) if last else 0
        began = began_at(last) if last else None
        return {
            "task": name.task_id,
            "attempt": attempt,
            "status": "running" if self._status == "running" else "lost",
            "started": None if began is None else datetime.fromtimestamp(began, UTC),
        }

    @cached_property
    def _status(self) -> str:
        return status(self._store)

    def _artifacts(self, record: TaskRecord) -> Row:
        found = {}
        for name, ref in record.artifacts.items():
            value = self._scalar(name, ref) if not name.startswith("_") else OTHER
            if value is not OTHER:
                found[column_of(name)] = value
        return found

    def _scalar(self, name: str, ref: ArtifactRef) -> Any:
        """The value of an artifact if it is a single one and stands in a record, else :data:`OTHER`."""
        if ref.encoding not in _IN_RECORDS:
            return OTHER
        return self._value(name, ref.encoding, self._store.resolve(name, ref).inline)

    def _value(self, name: str, encoding: str, inline: Any) -> Any:
        if not is_single(inline):
            return OTHER
        try:
            return plain(decode(encoding, {}, inline, _no_file))
        except (DataException, DataMissing) as error:
            text = f"Artifact '{name}' of {self._store.flow}/{self._store.run} is left out: {error.message}"
            warnings.warn(text, DamagedRecordWarning, stacklevel=2)
            return OTHER

    def _of_chunk(self, chunk: Chunk) -> dict[str, list[Any]]:
        """The columns of the items of a chunk. Raises :class:`DamagedRecord` if it is."""
        try:
            return self._columns_of(chunk)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise DamagedRecord(f"{chunk.where} is damaged: {error!r}.") from error

    def _columns_of(self, chunk: Chunk) -> dict[str, list[Any]]:
        columns = facts_in(chunk)
        for name in names_in(chunk):
            values = [] if name.startswith("_") else list(self._in_chunk(chunk, name))
            if any(value is not OTHER for value in values):
                columns[column_of(name)] = [None if value is OTHER else value for value in values]
        return columns

    def _in_chunk(self, chunk: Chunk, name: str) -> Iterator[Any]:
        """An artifact of each item, :data:`OTHER` where it is no single value."""
        of_record: Row = {}
        for place in range(len(chunk.each)):
            value = chunk.scalar(place, name)
            ref = chunk.ref(place, name) if value is OTHER else None
            if ref is not None and "record" in ref:  # most items refer to the same one
                if ref["record"] not in of_record:
                    of_record[ref["record"]] = self._scalar(name, ArtifactRef.of_json(ref))
                value = of_record[ref["record"]]
            elif ref is not None and ref["encoding"] in _IN_RECORDS:
                value = self._value(name, ref["encoding"], ref["value"])
            yield value


def facts_of(record: TaskRecord) -> Row:
    """What a task's record says under the names of :data:`daskflow.client.frames.FACTS`, its artifacts left out."""
    return {
        "task": record.task,
        "index": index_of(record),
        "attempt": record.attempt,
        "status": "successful" if record.ok else "failed",
        "started": moment(record.started),
        "finished": moment(record.finished),
        **_of_process(record.process),
    }


def facts_in(chunk: Chunk) -> dict[str, list[Any]]:
    """The same of each item of a chunk, as columns."""
    count = len(chunk.each)
    done = chunk.tasks.part(0, count)
    began = list(map(chunk.started, range(count)))
    columns: dict[str, list[Any]] = {
        "task": [name.task_id for name in done.names()],
        "index": list(range(done.first, done.end)),
        "attempt": [chunk.fact(place, "attempt") for place in range(count)],
        "status": ["successful"] * count,
        "started": [datetime.fromtimestamp(at, UTC) for at in began],
        "finished": [
            datetime.fromtimestamp(at + each["took"], UTC) for at, each in zip(began, chunk.each, strict=True)
        ],
    }
    process = _of_process(chunk.first.get("process", {}))
    return columns | {key: [value] * count for key, value in process.items()}


def index_of(record: TaskRecord) -> int | None:
    """The index of a task in the innermost foreach around it, None outside."""
    indices = [frame["index"] for frame in record.stack if frame["kind"] == "foreach"]
    return indices[-1] if indices else None


def names_in(chunk: Chunk) -> list[str]:
    """The artifacts that any item of a chunk has."""
    names = dict.fromkeys(chunk.first.get("artifacts", ()))
    for each in chunk.each:
        names |= dict.fromkeys(each.get("artifacts", ()))
    return list(names)


def committed_alone(store: RunStore, step: str) -> Iterator[TaskRecord]:
    """The records of a step's committed tasks that are in no chunk. One that is damaged is left out, with a warning."""
    names = [TaskName(step, each) for each in store.tasks_alone(step)]
    for record in _each(store.storage, store.alone, names):
        if isinstance(record, DaskflowException):
            warnings.warn(record.message, DamagedRecordWarning, stacklevel=2)
        elif record is not None:
            yield record


def plain(value: Any) -> Any:
    """A value; of a scalar of NumPy the one that Python has."""
    return value.item() if type(value).__module__ == "numpy" else value


def _no_file() -> BinaryIO:
    raise DataMissing("Its record does not hold the value.")


def _of_process(process: Mapping[str, Any]) -> Row:
    """What is told of a task's process; of one that tasks shared, each has the same part of its time."""
    cpu = [process[key] for key in ("cpu_user", "cpu_system") if key in process]
    return {
        "cpu_seconds": sum(cpu) / process.get("shared_by", 1) if cpu else None,
        "peak_memory": process.get("max_rss"),
        "worker": process.get("host"),
        "pid": process.get("pid"),
    }


def _with(rows: Rows, same: Row) -> Rows:
    """Rows with columns that hold one value."""
    rows.columns |= {name: [value] * rows.count for name, value in same.items()}
    return rows


def _each(
    storage: Storage, read: Callable[[TaskName], T | None], names: list[TaskName]
) -> list[T | DaskflowException | None]:
    """What ``read`` returns for each, in order, or the error."""

    def tried(name: TaskName) -> T | DaskflowException | None:
        try:
            return read(name)
        except (StoreError, DataMissing) as error:
            return error

    return list(at_once(storage, tried, names))
