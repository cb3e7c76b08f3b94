"""One task of a stored run in detail: plain values, read on demand. No pickle is loaded, and no more is read than is shown."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

from daskflow.client.rows import facts_of
from daskflow.dashboard.heads import command, error_of
from daskflow.dashboard.task_rows import cut, readable
from daskflow.errors import DamagedRecord, DaskflowException, DataMissing, NotFound, StoreError
from daskflow.pathspec import TaskName, TaskRange, TaskSet, task_id
from daskflow.store import tables
from daskflow.store.layout import PARAMETERS, began_at
from daskflow.store.records import TaskRecord
from daskflow.store.runs import is_task_id
from daskflow.store.serializers import decode
from daskflow.store.serializers.pickles import text_in
from daskflow.store.sessions import status
from daskflow.task.spec import was_stopped

if TYPE_CHECKING:
    from daskflow.store.records import ArtifactRef, Log
    from daskflow.store.runs import RunStore

TAIL_BYTES, TAIL_LINES, LONGEST_LINE = 64_000, 200, 2_000
"""How much of the end of a log is shown."""
MOST_ROWS, MOST_COLUMNS, LONGEST_CELL = 20, 50, 80
"""How much of a table is shown at a time."""
MOST_NEIGHBOURS = 50
LONGEST_VALUE, LONGEST_TRACEBACK = 500, 100_000
MOST_TEXTS = 20
"""Files of long texts of which the beginning is read for one task."""
STREAMS = ("stdout", "stderr")


def detail(store: RunStore, step: str, task: str, *, begun: bool = False) -> dict[str, Any]:
    """What there is to know of a task.

    ``state`` (``done``, ``reused``, ``failed``, ``stopped``, ``running``, ``lost`` or ``waiting``) and the other facts of its row; ``attempts``, those that failed;
    ``error`` of the last one, with ``stacktrace``, also one that was caught; ``logs`` by stream, each with ``lines``, ``bytes`` and whether it is ``cut``;
    ``parents`` and ``children``: names of tasks or of neighbours, ``fit/0..9``; ``artifacts``; ``commands``; and ``damaged``:
    what can't be read.

    Raises :class:`NotFound` if the run has no such task, unless it is known to have ``begun``; :class:`StoreError`.
    """
    name = _name(step, task)
    record = store.task(name)
    damaged: list[str] = []
    failed = [] if record is not None and not record.attempt else _failures(store, name, damaged)
    if record is None and not failed and not begun and task not in store.tasks_alone(step):
        raise NotFound(f"Task '{store.flow}/{store.run}/{name}' has not begun, or does not exist.")
    last = record or (failed[-1] if failed else None)
    found: dict[str, Any] = {"flow": store.flow, "run": store.run, "step": step, "task": task}
    found |= _facts(store, name, record, last, begun=begun)
    found["attempts"] = [
        {"attempt": each.attempt, "started": facts_of(each)["started"].timestamp(), "seconds": each.seconds, "error": _told(each)}
        for each in failed
    ]  # fmt: skip
    error = last.error if last is not None else None
    found["error"] = (
        {key: readable(str(value)[-LONGEST_TRACEBACK:]) for key, value in error.items()} if error else None
    )
    found["logs"] = {stream: _log(store, name, last, stream, damaged) for stream in STREAMS}
    parents = last.parents if last is not None else []
    found["parents"] = [each for each in parents if each != str(PARAMETERS)][:MOST_NEIGHBOURS]
    found["children"] = _children(store, record) if record is not None else []
    found["artifacts"] = _artifacts(store, last, damaged)
    pathspec = f"{store.run}/{name}"
    run = store.record()
    found["commands"] = [command(store, run, "logs", pathspec), command(store, run, "dump", pathspec)]
    found["debug"] = command(store, run, "debug", pathspec)
    found["damaged"] = damaged
    return found


def table(store: RunStore, step: str, task: str, name: str, first: int) -> dict[str, Any]:
    """The first rows of a table among a task's artifacts, and of its columns those from ``first``.

    ``columns`` (each with ``name`` and ``type``), ``rows`` (of texts), ``first``, ``total_columns`` and ``total_rows``.
    Raises :class:`NotFound` if the task has no such table, :class:`DaskflowException` if it can't be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    task_name = _name(step, task)
    record = store.task(task_name)
    if record is None:
        record = next(reversed(_failures(store, task_name, [])), None)
    refs = store.artifacts(record) if record is not None else {}
    if name not in refs or name.startswith("_"):
        raise NotFound(f"Task '{store.flow}/{store.run}/{step}/{task}' has no artifact '{name}'.")
    ref = store.resolve(name, refs[name])
    if ref.encoding not in ("parquet", "dask"):
        raise NotFound(f"Artifact '{name}' of {store.flow}/{store.run}/{step}/{task} is no table.")
    total = ref.info.get("rows")
    if ref.encoding == "dask":
        total = sum(part["rows"] for part in ref.info["parts"])
    try:
        with store.open(tables.partitions(ref)[0]) as file:
            parquet = pq.ParquetFile(file)
            fields = list(parquet.schema_arrow)
            shown = fields[first : first + MOST_COLUMNS]
            group = ref.info.get("row_group")
            batches = parquet.iter_batches(
                MOST_ROWS,
                row_groups=None if group is None else [group],
                columns=[field.name for field in shown],
                use_threads=False,
            )
            columns = list(map(_texts, (next(batches, None) or pa.RecordBatch.from_pylist([])).columns))
    except (DataMissing, pa.ArrowException, OSError, ValueError, KeyError) as error:
        why = str(getattr(error, "message", error)).rstrip(".")
        raise DamagedRecord(
            f"Table '{name}' of {store.flow}/{store.run}/{step}/{task} can't be read: {why}."
        ) from error
    return {
        "name": name,
        "columns": [{"name": field.name, "type": cut(str(field.type))} for field in shown],
        "rows": [list(row) for row in zip(*columns, strict=True)],
        "first": first,
        "total_columns": len(fields),
        "total_rows": total,
    }


def _name(step: str, task: str) -> TaskName:
    """Of a page's address, which may hold anything, such as ``../..``. Raises :class:`NotFound`."""
    if not step.isidentifier() or not is_task_id(task):
        raise NotFound(f"'{step}/{task}' names no task.")
    return TaskName(step, task)


def _facts(
    store: RunStore, name: TaskName, record: TaskRecord | None, last: TaskRecord | None, *, begun: bool
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(
        ("attempt", "started", "seconds", "cpu_seconds", "peak_memory", "worker", "pid")
    )
    if last is not None:
        told = facts_of(last)
        row |= {key: told.get(key) for key in row} | {
            "started": told["started"].timestamp(),
            "seconds": last.seconds,
        }
    if record is not None:
        state = "reused" if record.run != store.run else "done"
    else:
        executions = store.executions(name)
        ended = last is not None and executions[-1:] == [last.execution]
        runs = status(store) == "running"
        failed = "stopped" if last is not None and was_stopped(last) else "failed"
        state = failed if ended else ("running" if executions or begun else "waiting") if runs else "lost"
        if executions and state in ("running", "lost"):
            row |= {"attempt": int(executions[-1].partition(".")[0]), "started": began_at(executions[-1])}
            row |= dict.fromkeys(("seconds", "cpu_seconds", "peak_memory", "worker", "pid"))
    process = last.process if last is not None else {}
    more = {key: process[key] for key in ("exit_code", "signal", "launcher") if process.get(key) is not None}
    return row | {"state": state, "process": more}


def _failures(store: RunStore, name: TaskName, damaged: list[str]) -> list[TaskRecord]:
    """The attempts that failed, oldest first; what is damaged is told of and left out."""
    found = []
    for execution in store.executions(name):
        path = store.layout.attempt(name, execution)
        try:
            data = store.read(path)
            if data is not None:
                found.append(TaskRecord.of_json(data))
        except (StoreError, ValueError) as error:
            text = error.message if isinstance(error, StoreError) else str(error)
            damaged.append(f"{store.storage.locate(path)} can't be read: {text}")
    return found


def _told(record: TaskRecord) -> str:
    return cut(readable(error_of(record)), LONGEST_VALUE)


def _log(
    store: RunStore, name: TaskName, last: TaskRecord | None, stream: str, damaged: list[str]
) -> dict[str, Any]:
    """The end of a log, of a task that runs that of what it wrote by now."""
    executions = [] if last is not None and last.ok else store.executions(name)
    runs = bool(executions) and (last is None or executions[-1] != last.execution)
    try:
        if runs:
            raw, size = _end_of(store, store.layout.log(name, executions[-1], stream))
        else:
            raw, size = _stored(store, last.logs.get(stream) if last is not None else None)
    except FileNotFoundError:
        raw, size = b"", 0
    except DaskflowException as error:
        damaged.append(error.message)
        raw, size = b"", 0
    lines = raw.decode("utf-8", "replace").split("\n")
    whole = lines[1:-1] if size > len(raw) else lines[:-1]
    texts = [line.partition(" ")[2] for line in whole]
    if raw and not texts:  # of a line that is longer than what is read there is its end
        texts = [f"... {max(lines, key=len)[4 - LONGEST_LINE :]}"]
    shown = [cut(readable(line), LONGEST_LINE) for line in texts[-TAIL_LINES:]]
    return {"lines": shown, "bytes": size, "cut": size > len(raw) or len(texts) > TAIL_LINES}


def _stored(store: RunStore, log: Log | None) -> tuple[bytes, int]:
    if log is None:
        return b"", 0
    if log.text is not None:
        raw = log.text.encode()
        return raw[-TAIL_BYTES:], len(raw)
    return _end_of(store, str(log.path))


def _end_of(store: RunStore, path: str) -> tuple[bytes, int]:
    """The last bytes of a file that grows, and how many it has."""
    if store.storage.remote:
        raw = store.storage.appended(path)
        return raw[-TAIL_BYTES:], len(raw)
    with store.storage.open(path) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        return file.read(), size


def _children(store: RunStore, record: TaskRecord) -> list[str]:
    """The tasks that started from one, as far as they are there; the items of its foreach as neighbours."""
    depth = sum(frame["kind"] == "foreach" for frame in record.stack)
    base, _, iteration = record.task.partition(".")
    indices = tuple(map(int, base.split("-")))[:depth]
    joined = record.stack and record.stack[-1]["kind"] == "foreach"
    found = []
    for step in (record.transition or {}).get("targets", ()):
        if record.foreach is not None:
            size = int(record.foreach["size"])
            prefix = "".join(f"{index}-" for index in indices)
            found.append(f"{step}/{prefix}0..{size - 1}" if size > 1 else f"{step}/{prefix}0")
            continue
        ids = [record.task, base, task_id(indices, int(iteration or 0) + 1)]
        if joined:
            ids.append(task_id(indices[:-1]))
        for each in dict.fromkeys(ids):
            child = store.task(TaskName(step, each))
            if child is not None and _has_parent(child, record.name):
                found.append(f"{step}/{each}")
                break
    return found[:MOST_NEIGHBOURS]


def _has_parent(child: TaskRecord, name: TaskName) -> bool:
    return name in TaskSet(map(TaskRange.of, child.parents))


def _artifacts(store: RunStore, record: TaskRecord | None, damaged: list[str]) -> list[dict[str, Any]]:
    if record is None:
        return []
    try:
        refs = store.artifacts(record)
    except DaskflowException as error:
        damaged.append(error.message)
        refs = record.artifacts
    names = [name for name in sorted(refs) if not name.startswith("_")]
    found = [_artifact(store, name, refs[name], damaged) for name in names]
    texts = [each for each in found if each["kind"] == "pickle" and each["type"] == "str"]
    for each in texts[:MOST_TEXTS]:
        each.update(_text(store, each["name"], refs[each["name"]], damaged))
    return found


def _artifact(store: RunStore, name: str, ref: ArtifactRef, damaged: list[str]) -> dict[str, Any]:
    """What is known of an artifact: of a plain value that value or its beginning, of a table its size, of a pickle its type and why it is one."""
    found: dict[str, Any] = {
        "name": name,
        "type": ref.type,
        "size": ref.size,
        "encoding": ref.encoding,
        "kind": "other",
    }
    try:
        whole = store.resolve(name, ref)
    except DaskflowException as error:
        damaged.append(error.message)
        return found
    if whole.encoding in ("parquet", "dask"):
        parts = whole.info.get("parts", ())
        rows = sum(part["rows"] for part in parts) if whole.encoding == "dask" else whole.info.get("rows")
        return found | {"kind": "table", "rows": rows}
    if whole.encoding == "pickle":
        return found | {"kind": "pickle", "why": whole.info.get("why")}
    if whole.path is None:
        return found | _shown(_value(whole))
    return found


def _value(ref: ArtifactRef) -> str:
    if ref.encoding == "json":
        return json.dumps(ref.inline, ensure_ascii=False)
    try:
        return repr(decode(ref.encoding, ref.info, ref.inline, io.BytesIO))
    except DaskflowException as error:
        return f"can't be read: {error.message}"


def _text(store: RunStore, name: str, ref: ArtifactRef, damaged: list[str]) -> dict[str, Any]:
    """The beginning of a text that is too long for a record. It stands in a file of which only that is read."""
    try:
        ref = store.resolve(name, ref)
        if ref.inline is not None:
            raw = base64.b64decode(str(ref.inline)[: 2 * _BYTES_OF_TEXT])
        else:
            with store.open(ref) as file:
                raw = file.read(_BYTES_OF_TEXT)
    except (DaskflowException, ValueError, OSError) as error:
        damaged.append(f"Artifact '{name}' can't be read: {getattr(error, 'message', error)}")
        return {}
    text = text_in(raw)
    return {} if text is None else _shown(json.dumps(text[0], ensure_ascii=False))


_BYTES_OF_TEXT = 4 * (LONGEST_VALUE + 8)
"""What holds as many characters as are shown, whatever they are; twice as much of base64 does, and is whole groups."""


def _shown(text: str) -> dict[str, Any]:
    return {"kind": "value", "value": cut(text, LONGEST_VALUE), "cut": len(text) > LONGEST_VALUE}


def _texts(column: Any) -> list[str]:
    """A column of Arrow's as texts."""
    found = []
    for value in column:
        try:
            plain = value.as_py()
        except (ValueError, OverflowError, TypeError):  # beyond what Python's own type can hold
            plain = value
        found.append("" if plain is None else cut(readable(str(plain)), LONGEST_CELL))
    return found
