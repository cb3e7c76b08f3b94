"""The rows of a step's tasks in one file: what a reader would else collect from a record a task.

``Flow/run/step/index.parquet`` has a row for each committed task that has a record for itself, as
:meth:`Step.to_pandas` gives it. It is written when a run in a bucket ends, derived from the records, and never needed: a
reader takes from it what it has and reads the rest. Commits do not change, so neither do rows.

The schema's metadata has ``daskflow.format``. A field whose metadata has ``daskflow.encoding: json`` holds values of several
types, or of one that has no column type, as text: JSON with types as in records. One with ``daskflow.same: run`` is the same
for all tasks of the run and stands there for people; readers of a run that took tasks over have their own.
"""

from __future__ import annotations

import io
import json
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daskflow.client.frames import FACTS
from daskflow.errors import DamagedRecordWarning
from daskflow.store.serializers import Encoded
from daskflow.store.serializers.json_value import canonical
from daskflow.store.serializers.typed_json import TypedJsonSerializer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    import pyarrow as pa

    from daskflow.client.frames import Row
    from daskflow.store.runs import RunStore

FORMAT = 1
"""Version of the file. Readers leave a newer one alone."""
_FORMAT, _ENCODING, _SAME = b"daskflow.format", b"daskflow.encoding", b"daskflow.same"
_LONGEST = 1 << 20


def read_index(store: RunStore, step: str) -> dict[str, Row]:
    """The rows of the index of a step by the ids of their tasks; none if there is no index, or none that can be read."""
    path = store.layout.index(step)
    try:
        raw = store.storage.read(path)
    except FileNotFoundError:
        return {}
    try:
        return decoded(raw)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is not needed
        text = f"{store.storage.locate(path)} is not used, the records are read: {error}"
        warnings.warn(text, DamagedRecordWarning, stacklevel=2)
        return {}


def encoded(rows: Sequence[Row], same: Row) -> bytes:
    """The file with these rows, and what is the same for all of them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = dict.fromkeys([*FACTS, *sorted({name for row in rows for name in row} | same.keys())])
    names.pop("seconds")  # it follows from the times
    columns, fields = [], []
    for name in names:
        values = [same[name]] * len(rows) if name in same else [row.get(name) for row in rows]
        column, metadata = _column(values)
        columns.append(column)
        fields.append(
            pa.field(name, column.type, metadata=metadata | ({_SAME: b"run"} if name in same else {}))
        )
    table = pa.Table.from_arrays(columns, schema=pa.schema(fields, {_FORMAT: b"%d" % FORMAT}))
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def _column(values: list[Any]) -> tuple[pa.Array, dict[bytes, bytes]]:
    import pyarrow as pa

    kinds = set(map(type, values)) - {type(None)}
    types = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string()}
    if not kinds:
        return pa.nulls(len(values)), {}
    if kinds == {datetime} and all(value is None or value.tzinfo is UTC for value in values):
        return pa.array(values, pa.timestamp("us", "UTC")), {}
    try:
        (kind,) = kinds
        return pa.array(values, types[kind]), {}
    except (KeyError, ValueError, OverflowError):  # of several types, of another one, or too large
        texts = [None if value is None else _text(value) for value in values]
        return pa.array(texts, pa.string()), {_ENCODING: b"json"}


def decoded(raw: bytes) -> dict[str, Row]:
    """The inverse of :func:`encoded`, without what is the same for all. Raises all sorts of errors if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.ParquetFile(pa.BufferReader(raw)).read(use_threads=False)  # raw is Python's
    version = int(table.schema.metadata[_FORMAT])
    if version > FORMAT:
        raise ValueError(
            f"it has format {version}, this version of daskflow reads up to {FORMAT}; install a newer one."
        )
    columns = {
        field.name: _values(field, column)
        for field, column in zip(table.schema, table.columns, strict=True)
        if _SAME not in (field.metadata or {})
    }
    names = list(columns)
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return {row["task"]: row for row in rows}


def _text(value: Any) -> str:
    form = TypedJsonSerializer().encode(value, _no_file, _LONGEST)
    assert isinstance(form, Encoded), value  # it was read from such a form
    return canonical(form.inline).decode()


def _value(text: str | None) -> Any:
    return None if text is None else TypedJsonSerializer().decode({}, json.loads(text), _no_file)


def _values(field: pa.Field, column: pa.ChunkedArray) -> list[Any]:
    values = column.to_pylist()
    if (field.metadata or {}).get(_ENCODING) == b"json":
        return list(map(_value, values))
    return [each.astimezone(UTC) if type(each) is datetime else each for each in values]


def _no_file(*_: object) -> BinaryIO:
    raise ValueError("a value of an index is in no file")
