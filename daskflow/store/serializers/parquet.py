"""Tables as Parquet files that any tool opens: pandas, polars and pyarrow, each restored as it was.

A table is Parquet however small it is, unless the round trip would not be exact: then the pickle serializer
takes it, and the record says why. A library is imported only if a value is of it: no frame can exist before
its library is in ``sys.modules``.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, BinaryIO

from daskflow.errors import DataMissing
from daskflow.store.serializers import lazy_tables
from daskflow.store.serializers.base import Create, Encoded, OpenFile, Refused, Serializer, Spool, type_name
from daskflow.store.serializers.pickles import pickle_fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import ModuleType

    import pyarrow as pa

    from daskflow.store.serializers.table_file import TablePlan

KINDS = (
    "pandas.DataFrame",
    "pandas.Series",
    "pandas.Index",
    "polars.DataFrame",
    "polars.Series",
    "pyarrow.Table",
)


class ParquetSerializer(Serializer):
    """Frames and series of pandas and polars, pandas' indexes, ``pyarrow.Table``, and what is lazily one of these."""

    encoding = "parquet"

    def takes(self, value: Any) -> bool:
        """Whether ``value`` is a table, also one of a subclass."""
        return kind_of(value) is not None or lazy_tables.kind_of(value) is not None

    def encode(self, value: Any, create: Create, inline_limit: int) -> Encoded | Refused:
        """Write ``value`` to a file, whatever its size."""
        lazy = lazy_tables.kind_of(value)
        if lazy is not None:
            value = lazy_tables.computed(value)
            answer = self.encode(value, create, inline_limit)
            if isinstance(answer, Refused):
                return replace(answer, instead=value)
            return replace(answer, type=lazy, info=answer.info | {"lazy": lazy})
        kind = kind_of(value)
        if kind == "pandas.Index":
            kind = type_name(value)
        if kind != type_name(value):
            return Refused(f"it is of {type_name(value)}, a subclass of {kind}")
        if kind.startswith("polars"):
            return self._encode_polars(value, kind, create)
        from daskflow.store.serializers.table_file import TablePlan, write_table

        plan = plan_of(value, kind)
        if not isinstance(plan, TablePlan):
            return Refused(plan)
        file = _ParquetFile(create)
        digest = write_table(plan, file)  # type: ignore[arg-type]  # the part of BinaryIO that a writer needs
        columns = [[field.name, str(field.type)] for field in plan.schema]
        info = table_info(kind, columns, plan.rows) | plan.info
        return Encoded(self.encoding, digest, file.size, kind, file=self.encoding, info=info)

    def _encode_polars(self, value: Any, kind: str, create: Create) -> Encoded | Refused:
        from daskflow.store.serializers import polars_frames

        frame = value if kind == "polars.DataFrame" else value.to_frame()
        reason = polars_frames.refusal(frame)
        if reason:
            return Refused(reason)
        file = _ParquetFile(create)
        try:
            digest = polars_frames.write(frame, file)  # type: ignore[arg-type]  # as above
        except Exception:
            if file.error is not None:
                raise file.error from None
            raise
        columns = [[name, str(dtype)] for name, dtype in frame.schema.items()]
        info = table_info(kind, columns, frame.height)
        return Encoded(self.encoding, digest, file.size, kind, file=self.encoding, info=info)

    def decode(self, info: Mapping[str, Any], inline: Any, open_file: OpenFile) -> Any:
        """The table, as the type it was stored from; it may be changed in place."""
        if "lazy" in info:
            known = {name: fact for name, fact in info.items() if name != "lazy"}
            place = getattr(open_file, "folder", None)
            if place is None or not open_file.is_as_written():  # type: ignore[attr-defined] # what is in a store can tell
                return lazy_tables.over(info["lazy"], self.decode(known, inline, open_file))
            return lazy_tables.opened(info["lazy"], place)
        kind = info["producer"]
        group = info.get("row_group")
        with open_file() as file:
            if kind.startswith("polars") and group is None:
                from daskflow.store.serializers import polars_frames

                frame = polars_frames.read(file)
                return frame if kind == "polars.DataFrame" else frame.to_series()
            tables = [read_table(file, group)]
        return _restored(tables, info)

    def fingerprint(self, value: Any) -> str | None:
        """By column, so that what pandas does to its blocks while one reads is no change."""
        kind = kind_of(value)
        if kind in ("pyarrow.Table", None):  # nor can what is lazy be changed
            return None
        if kind == "pandas.Index":
            return pickle_fingerprint(value)
        if kind != type_name(value):
            return pickle_fingerprint(value)
        from daskflow.store.serializers.table_fingerprint import pandas_fingerprint, polars_fingerprint

        return pandas_fingerprint(value) if str(kind).startswith("pandas") else polars_fingerprint(value)


@dataclass(frozen=True)
class RowGroup:
    """A row group of a file: its number, its first row, how many it has."""

    number: int
    first: int
    rows: int


def row_groups(file: BinaryIO) -> list[RowGroup]:
    """Those of a file. Raises :class:`DataMissing` if it is damaged."""
    import pyarrow.parquet as pq

    from daskflow.store.serializers.arrow_files import arrow_file

    with undamaged():
        metadata = pq.ParquetFile(arrow_file(file)).metadata
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    firsts = accumulate(rows, initial=0)
    return [
        RowGroup(number, first, count)
        for number, (first, count) in enumerate(zip(firsts, rows, strict=False))
    ]


def head(info: Mapping[str, Any], open_file: OpenFile, rows: int) -> Any:
    """The first rows of a table, as its type; of the file the row groups are read that have them.

    Not for a file that polars wrote (:func:`daskflow.store.tables.head_by_polars`). Raises :class:`DataMissing` if the file
    is damaged.
    """
    with open_file() as file:
        tables = [read_head(file, rows, info.get("row_group"))]
    return _restored(tables, _within(info, 0, min(rows, info["rows"])))


def read_group(info: Mapping[str, Any], open_file: OpenFile, group: RowGroup) -> Any:
    """The rows of a row group, as the type of the table. Not for a file that polars wrote.

    Raises :class:`DataMissing` if the file is damaged.
    """
    with open_file() as file:
        tables = [read_table(file, group.number)]
    return _restored(tables, _within(info, group.first, group.rows))


def _within(info: Mapping[str, Any], first: int, rows: int) -> Mapping[str, Any]:
    """What is known of a table, for some of its rows: an index that counts is not in the file."""
    spec = info.get("pandas")
    if spec is None or "range" not in spec["index"]:
        return info
    start, _, step = spec["index"]["range"]
    index = spec["index"] | {"range": [start + step * first, start + step * (first + rows), step]}
    return {**info, "pandas": spec | {"index": index}}


def _restored(tables: list[pa.Table], info: Mapping[str, Any]) -> Any:
    """What was stored as the one table, which is let go as soon as possible."""
    kind, table = info["producer"], tables.pop()
    if kind.startswith("polars"):
        from daskflow.store.serializers import polars_frames

        frame = polars_frames.of_arrow(table)
        return frame if kind == "polars.DataFrame" else frame.to_series()
    if kind == "pyarrow.Table":
        from daskflow.store.serializers import arrow_tables

        return arrow_tables.restore(table, info)
    from daskflow.store.serializers import pandas_frames

    columns, metadata = list(table.columns), table.schema.metadata
    del table  # each column is let go as soon as it is converted
    return pandas_frames.restore(columns, metadata, info)


def plan_of(value: Any, kind: str) -> TablePlan | str:
    """How Arrow writes a table of this kind, or why the round trip would not be exact."""
    if kind.startswith("polars"):
        from daskflow.store.serializers import polars_frames

        return polars_frames.plan(value if kind == "polars.DataFrame" else value.to_frame())
    from daskflow.store.serializers import arrow_tables, pandas_frames

    return arrow_tables.plan(value) if kind == "pyarrow.Table" else pandas_frames.plan(value)


def read_table(file: BinaryIO, row_group: int | None = None) -> pa.Table:
    """What is in a Parquet file, or in one row group of it. Raises :class:`DataMissing` if it is damaged."""
    import pyarrow.parquet as pq

    from daskflow.store.serializers.arrow_files import arrow_file

    with undamaged():
        found = pq.ParquetFile(arrow_file(file))
        return found.read() if row_group is None else found.read_row_group(row_group)


def read_head(file: BinaryIO, rows: int, row_group: int | None = None) -> pa.Table:
    """The first rows of a Parquet file, or of one row group of it. Raises :class:`DataMissing` if it is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from daskflow.store.serializers.arrow_files import arrow_file

    with undamaged():
        found = pq.ParquetFile(arrow_file(file), pre_buffer=True)
        groups, there = [], 0
        for group in range(found.num_row_groups) if row_group is None else [row_group]:
            if there >= rows:
                break
            groups.append(group)
            there += found.metadata.row_group(group).num_rows
        batches, left = [], rows
        for batch in found.iter_batches(max(1, min(rows, 65_536)), groups) if groups else ():
            batches.append(batch.slice(0, left))
            left -= len(batches[-1])
            if not left:
                break
        return pa.Table.from_batches(batches, found.schema_arrow)


@contextlib.contextmanager
def undamaged() -> Iterator[None]:
    """Raises :class:`DataMissing` if what is read in it is damaged."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:  # the system's, not Arrow's: the file can't be reached
            raise
        raise DataMissing(f"The file of a table is damaged: {error}") from error


def read_columns(
    open_file: OpenFile, info: Mapping[str, Any], labels: Sequence[Any], group: RowGroup | None = None
) -> Any:
    """Some columns of a pandas frame, or of a row group of it, without reading the others.

    None if they can't be told apart in the file.

    Raises :class:`DataMissing` if the file is damaged.
    """
    import pyarrow.parquet as pq

    from daskflow.store.serializers import pandas_frames
    from daskflow.store.serializers.arrow_files import arrow_file

    with open_file() as file, undamaged():
        found = pq.ParquetFile(arrow_file(file))
        about = info if group is None else _within(info, group.first, group.rows)
        names, less = pandas_frames.some_columns(found.schema_arrow, about, labels)
        groups = range(found.num_row_groups) if group is None else [group.number]
        table = None if names is None else found.read_row_groups(list(groups), columns=names)
    if table is None or table.column_names != names:
        return None
    return pandas_frames.restore(list(table.columns), *less)[list(labels)]


def kind_of(value: Any) -> str | None:
    """Which of ``KINDS`` a value is, None if it is no table; imports nothing."""
    for kind in KINDS:
        package, _, name = kind.partition(".")
        module: ModuleType | None = sys.modules.get(package)
        found = getattr(module, name, None)
        if isinstance(found, type) and isinstance(value, found):
            return kind
    return None


def table_info(kind: str, columns: list[list[str]], rows: int) -> dict[str, Any]:
    """What readers like to know of a table, and what tells which library made it."""
    version = getattr(sys.modules[kind.partition(".")[0]], "__version__", "")
    return {"producer": kind, "version": version, "rows": rows, "schema": columns}


class _ParquetFile:
    """The file as Parquet writers want it; they may close it, the caller's file stays open."""

    closed = False

    def __init__(self, create: Create) -> None:
        self._spool = Spool(create, "parquet", 0)

    @property
    def size(self) -> int:
        return self._spool.size

    @property
    def error(self) -> Exception | None:
        return self._spool.error

    def write(self, data: Any) -> int:
        return self._spool.write_aside(data)

    def tell(self) -> int:
        return self._spool.size

    def flush(self) -> None:
        """Nothing is held back here."""

    def close(self) -> None:
        """The file is the caller's to close."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False
