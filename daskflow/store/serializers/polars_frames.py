"""Polars frames and series: polars writes and reads its own Parquet, which keeps all of its types.

Where items of a foreach share a file Arrow writes it, a row group an item, if that keeps the types too.
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO

from daskflow.errors import DataMissing
from daskflow.store.serializers.table_file import COMPRESSION_LEVEL, TablePlan, group_rows
from daskflow.store.serializers.table_hash import BLOCK, TableHash, can_hash

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


def refusal(frame: pl.DataFrame) -> str:
    """Why the round trip of ``frame`` would not be exact; empty if it is."""
    import polars as pl
    import pyarrow as pa

    if frame.width == 0 and frame.height:
        return "a frame without columns"
    for name, kind in frame.schema.items():
        if pl.Object in _types_within(kind):
            return f"column {name!r} has type {kind}"
    file = io.BytesIO()
    try:
        frame.head(0).write_parquet(file)
        file.seek(0)  # polars reads from where the file stands
        back = pl.read_parquet(file).schema
        types = frame.head(0).to_arrow().schema.types
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError, NotImplementedError, TypeError) as error:
        return f"polars can't write it as Parquet: {error}"
    changed = [name for name, kind in frame.schema.items() if back.get(name) != kind]
    changed += [n for n, kind in zip(frame.columns, types, strict=True) if not can_hash(kind)]
    return f"column {changed[0]!r} has type {frame.schema[changed[0]]}" if changed else ""


def write(frame: pl.DataFrame, file: BinaryIO) -> str:
    """Write the frame; returns its identity."""
    identity = content_hash(frame)
    step = group_rows(frame.height, int(frame.estimated_size()))
    frame.write_parquet(file, compression="zstd", compression_level=COMPRESSION_LEVEL, row_group_size=step)
    return identity


def read(file: BinaryIO) -> pl.DataFrame:
    """The frame of a file. Raises :class:`DataMissing` if it is damaged."""
    import polars as pl

    data = file.read()  # polars would panic at an error in here
    try:
        return pl.read_parquet(data)
    except pl.exceptions.ComputeError as error:
        raise DataMissing(f"The file of a table is damaged: {error}") from error


def plan(frame: pl.DataFrame) -> TablePlan | str:
    """How Arrow writes ``frame``, or why :func:`of_arrow` would not give the same one."""
    reason = refusal(frame) or _lost_in_arrow(tuple(frame.schema.items()))
    if reason:
        return reason
    table = frame.to_arrow()
    about = _about(frame)
    schema = table.schema.with_metadata({"polars": repr(about["columns"])})
    columns = [[name, str(kind)] for name, kind in frame.schema.items()]
    return TablePlan(schema, frame.height, table.slice, about, {"schema": columns})


def of_arrow(table: pa.Table) -> pl.DataFrame:
    """The frame of a table that was written as :func:`plan` says."""
    import polars as pl

    return pl.DataFrame(table)


@lru_cache(maxsize=64)
def _lost_in_arrow(columns: tuple[tuple[str, Any], ...]) -> str:
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pl.Schema(columns)
    file = io.BytesIO()
    try:
        pq.write_table(pl.DataFrame(schema=schema).to_arrow(), file)
        back = of_arrow(pq.ParquetFile(file).read(use_threads=False)).schema
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError, NotImplementedError, TypeError) as error:
        return f"Arrow can't write it as Parquet: {error}"
    return "" if back == schema else "Arrow does not keep its types"


def _about(frame: pl.DataFrame) -> dict[str, Any]:
    return {"kind": "polars.DataFrame", "columns": [[n, repr(t)] for n, t in frame.schema.items()]}


def content_hash(frame: pl.DataFrame) -> str:
    """Identity of what the frame says, made block by block."""
    identity = TableHash(_about(frame))
    for start in range(0, frame.height, BLOCK):
        identity.add(frame.slice(start, BLOCK).to_arrow().columns)
    return identity.hexdigest()


def _types_within(kind: Any) -> list[Any]:
    """The classes of a type and of the types inside it."""
    found = [kind.base_type()]
    inner = getattr(kind, "inner", None)
    if inner is not None:
        found += _types_within(inner)
    for column in getattr(kind, "fields", ()):
        found += _types_within(column.dtype)
    return found
