"""Storing what one execution of a task set."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from daskflow.store.items import save_items
from daskflow.store.records import ArtifactRef
from daskflow.store.retries import retried
from daskflow.store.serializers import INLINE_LIMIT, encode
from daskflow.store.serializers.base import Folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from daskflow.pathspec import TaskName, TaskRange
    from daskflow.store.runs import RunStore
    from daskflow.store.serializers import Encoded
    from daskflow.store.shared_tables import SharedTables


class ArtifactWriter:
    """Writes the artifacts of one execution, under names that no other execution can use.

    Parameters
    ----------
    store, task, execution
        The run, the task in it, and the name of its execution.
    tables
        Where its tables go, if the task shares files with others.
    """

    def __init__(
        self, store: RunStore, task: TaskName, execution: str, tables: SharedTables | None = None
    ) -> None:
        self._tables = tables
        self._store = store
        self._task = task
        self._execution = execution

    def save(self, name: str, value: Any, inline_limit: int = INLINE_LIMIT) -> ArtifactRef:
        """Store one value; one of which the JSON is not longer than the limit stays in the reference and so in the record.

        Raises :class:`UnpicklableArtifactException` if nothing can hold it, :class:`StoreError` if the store refuses.
        """

        def once() -> tuple[Encoded, str | None]:
            with self._file(name) as file:
                encoded = encode(value, file, inline_limit=inline_limit)
            return replace(encoded, info=encoded.info | file.version()), file.path

        shared = self._tables.save(name, value) if self._tables is not None else None
        encoded, path = shared or retried(once)
        return ArtifactRef(
            hash=encoded.hash,
            encoding=encoded.encoding,
            size=encoded.size,
            type=encoded.type,
            inline=encoded.inline,
            path=path,
            info=encoded.info,
        )

    def save_items(self, items: list[Any]) -> dict[str, Any]:
        """Store the items of a foreach; what goes into the split's record."""

        def once() -> dict[str, Any]:
            with self._file("_foreach") as file:
                stored = save_items(items, file)
            return stored | ({"path": file.path} if file.path else {})

        return retried(once)

    @contextlib.contextmanager
    def _file(self, name: str) -> Iterator[_LateFile]:
        file = _LateFile(self, name)
        with file.opened:
            yield file

    def _open(self, name: str, suffix: str, opened: contextlib.ExitStack) -> tuple[str, BinaryIO]:
        path = self._path(name, suffix)
        return path, opened.enter_context(self._store.storage.writer(path))

    def _path(self, name: str, suffix: str) -> str:
        return self._store.layout.artifact(self._task, self._execution, name, suffix)


class _LateFile:
    """A file, or a folder, that is made only if something has to be written into one."""

    def __init__(self, writer: ArtifactWriter, name: str) -> None:
        self.path: str | None = None
        self.opened = contextlib.ExitStack()
        self._writer = writer
        self._name = name
        self._file: BinaryIO | None = None

    def __call__(self, suffix: str) -> BinaryIO:
        self.path, self._file = self._writer._open(self._name, suffix, self.opened)
        return self._file

    def folder(self, suffix: str) -> Folder:
        """A folder in its place."""
        self.path = self._writer._path(self._name, suffix)
        return Folder(self._writer._store.storage.url, self.path)

    def version(self) -> dict[str, str]:
        """Which version the file is, where versions are kept, once it is complete."""
        version = getattr(self._file, "version", None)
        return {} if version is None else {"version_id": version}


def shared_tables(store: RunStore, tasks: TaskRange, execution: str) -> SharedTables:
    """The files for the tables of a chunk."""
    from daskflow.store.shared_tables import SharedTables

    def create(name: str) -> tuple[str, contextlib.AbstractContextManager[BinaryIO]]:
        path = store.layout.shared_artifact(tasks, execution, name, "parquet")
        return path, store.storage.writer(path)

    return SharedTables(create)
