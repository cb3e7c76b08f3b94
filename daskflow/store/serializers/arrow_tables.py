"""``pyarrow.Table`` as Parquet: the file keeps its schema, which is laid over the values at loading."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from daskflow.store.serializers.table_file import TablePlan
from daskflow.store.serializers.table_hash import BLOCK, can_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa


def plan(table: pa.Table) -> TablePlan | str:
    """How to write ``table``, or why its round trip would not be exact."""
    reason = _reason(table)
    if reason:
        return reason
    schema = base64.b64encode(table.schema.serialize().to_pybytes()).decode()
    return TablePlan(
        schema=table.schema,
        rows=table.num_rows,
        rows_of=table.slice,
        about={"kind": "pyarrow.Table", "schema": schema},
        info={"arrow_schema": schema},
    )


def restore(table: pa.Table, info: Mapping[str, Any]) -> pa.Table:
    """The table as it was before it went into the file."""
    import pyarrow as pa

    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(info["arrow_schema"])))
    return table.cast(schema)


def _reason(table: pa.Table) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = table.schema.names
    if len(set(names)) < len(names):
        return "column names are not unique"
    if not names:
        return "a table without columns"
    for column in table.schema:
        if not can_hash(column.type) or _loses(column.type):
            return f"column {column.name!r} has type {column.type}"
        if pa.types.is_timestamp(column.type) and overflows(table.column(column.name)):
            return f"column {column.name!r} holds times that milliseconds can't express"
    file = io.BytesIO()
    try:
        pq.write_table(table.schema.empty_table(), file)
        back = pq.ParquetFile(file).read(use_threads=False).cast(table.schema)
    except (pa.ArrowException, OSError, TypeError) as error:
        return f"Parquet can't hold it: {error}"
    if not back.schema.equals(table.schema, check_metadata=True):
        return "Parquet changes its schema"
    return ""


def _loses(kind: pa.DataType) -> bool:
    """Whether Parquet would change values, or the order of a dictionary that has one."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return bool(kind.ordered) or _loses(kind.value_type)
    return bool(pa.types.is_date64(kind)) or any(
        _loses(child) or (pa.types.is_timestamp(child) and child.unit == "s")
        for child in (kind.field(i).type for i in range(kind.num_fields))
    )


def overflows(column: pa.ChunkedArray | pa.Array) -> bool:
    """Whether a column of times by the second has any that do not fit where Parquet has milliseconds."""
    import pyarrow as pa

    if column.type.unit != "s":
        return False
    try:
        for start in range(0, len(column), BLOCK):
            column.slice(start, BLOCK).cast(pa.timestamp("ms", column.type.tz))
    except pa.ArrowInvalid:
        return True
    return False
