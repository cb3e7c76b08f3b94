"""One artifact of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskflow.client.base import OfRun, not_found

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from daskflow.client.tasks import Task
    from daskflow.store.records import ArtifactRef


class DataArtifact(OfRun[Any]):
    """One artifact: what is known of it without loading it, and its value."""

    parts = 5

    def _check(self) -> None:
        name = self.path_components[-1]
        refs = self.parent._refs
        if name not in refs:
            raise not_found("Artifact", self.pathspec, self._storage, sorted(refs))
        self._ref: ArtifactRef = self._store.resolve(name, refs[name])

    def _child(self, name: str) -> Any:
        raise not_found("Part", f"{self.pathspec}/{name}", self._storage, [])

    def _child_names(self) -> Iterable[str]:
        return []

    @property
    def parent(self) -> Task:
        """The task whose artifact it is."""
        from daskflow.client.tasks import Task

        return self._reach(Task, *self.path_components[:4], attempt=self._attempt)

    @property
    def data(self) -> Any:
        """The value. Loads a pickle if it is one; raises :class:`DataException` if that fails."""
        return self._store.load(self.id, self._ref)

    @property
    def sha(self) -> str:
        """Identity of the content: equal for equal content."""
        return self._ref.hash

    @property
    def size(self) -> int:
        """Bytes as stored."""
        return self._ref.size

    @property
    def type(self) -> str:
        """Name of the value's type."""
        return self._ref.type

    @property
    def encoding(self) -> str:
        """``json``, ``typed-json``, ``parquet`` or ``pickle``."""
        return self._ref.encoding

    @property
    def why(self) -> str | None:
        """Why it is a pickle, None for everything else."""
        why: str | None = self._ref.info.get("why")
        return why

    @property
    def path(self) -> str | None:
        """The file, as any program opens it; None if the value stands in the task's record.

        The tables of items that shared a process share a file too: see :attr:`row_group`.
        """
        return self._storage.locate(self._ref.path) if self._ref.path is not None else None

    @property
    def row_group(self) -> int | None:
        """Which row group of the file it is, if other items' tables are there too; None if the file is all its own."""
        group: int | None = self._ref.info.get("row_group")
        return group

    @property
    def rows(self) -> int | None:
        """Rows of a table, None for everything else."""
        rows: int | None = self._ref.info.get("rows")
        return rows

    @property
    def schema(self) -> Any:
        """Columns of a table with their types, None for everything else."""
        return self._ref.info.get("schema")

    @property
    def created_at(self) -> datetime:
        """When its task started."""
        return self.parent.created_at

    @property
    def finished_at(self) -> datetime | None:
        """When its task ended."""
        return self.parent.finished_at
