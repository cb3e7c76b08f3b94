"""Tables of neighbouring items of a foreach in one Parquet file an artifact, a row group an item.

A hundred thousand small files would be slow to write and slower to read. Each item's reference names its row group; to
any other tool the file is one table of all items, in their order.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, BinaryIO

from daskflow.store.serializers.base import Encoded, type_name
from daskflow.store.serializers.parquet import kind_of, plan_of, table_info

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from daskflow.store.serializers.table_file import TablePlan

LARGE_BYTES = 1 << 20
"""A table that takes more in memory gets a file of its own."""


MOST_SCHEMAS = 8
"""Files of one artifact that are open at once; a table of yet another schema gets a file of its own."""


class SharedTables:
    """The files of one chunk.

    Parameters
    ----------
    create
        Makes a file: the artifact's name in, its path and the open file out. The file is closed here.
    """

    def __init__(
        self, create: Callable[[str], tuple[str, contextlib.AbstractContextManager[BinaryIO]]]
    ) -> None:
        self._create = create
        self._files: dict[tuple[str, Any], _File] = {}
        self._opened = contextlib.ExitStack()

    def save(self, name: str, value: Any) -> tuple[Encoded, str] | None:
        """Add a table to the file of its artifact and its schema; None if it is none, or must have a file of its own."""
        kind = kind_of(value)
        if kind is None or kind != type_name(value):
            return None
        from daskflow.store.serializers.table_file import TablePlan
        from daskflow.store.serializers.table_hash import BLOCK, TableHash

        plan = plan_of(value, kind)
        if not isinstance(plan, TablePlan) or plan.rows > BLOCK:
            return None
        table = plan.rows_of(0, plan.rows)
        if not len(table) or table.nbytes > LARGE_BYTES:  # without rows for Arrow, be it for want of columns
            return None
        identity = TableHash(plan.about)
        identity.add(table.columns)
        file = self._file_for(name, plan, table)
        if file is None:
            return None
        group, size = file.add(table)
        columns = [[field.name, str(field.type)] for field in plan.schema]
        info = table_info(kind, columns, plan.rows) | plan.info | {"row_group": group}
        return Encoded("parquet", identity.hexdigest(), size, kind, file="parquet", info=info), file.path

    def _file_for(self, name: str, plan: TablePlan, table: pa.Table) -> _File | None:
        metadata = {key: value for key, value in (plan.schema.metadata or {}).items() if key != b"pandas"}
        key = (name, (plan.schema.remove_metadata(), tuple(sorted(metadata.items()))))
        if key not in self._files:
            others = sum(known == name for known, _ in self._files)
            if others >= MOST_SCHEMAS:
                return None
            path, opened = self._create(f"{name}.{others}" if others else name)
            self._files[key] = _File(path, self._opened.enter_context(opened), plan, table)
        return self._files[key]

    def close(self) -> None:
        """Complete the files: what was saved can be read from now on."""
        try:
            for file in self._files.values():
                file.writer.close()
        finally:
            self._files.clear()
            self._opened.close()


class _File:
    """One file, and how many row groups it has."""

    def __init__(self, path: str, file: BinaryIO, plan: TablePlan, table: pa.Table) -> None:
        import pyarrow.parquet as pq

        from daskflow.store.serializers.table_file import best_options

        self.path = path
        self.writer = pq.ParquetWriter(file, plan.schema, **best_options(table))
        self._schema = plan.schema
        self._file = file
        self._groups = 0

    def add(self, table: pa.Table) -> tuple[int, int]:
        """Write a row group; its number and its bytes."""
        before = self._file.tell()
        self.writer.write_table(table.cast(self._schema), row_group_size=len(table))
        self._groups += 1
        return self._groups - 1, self._file.tell() - before
