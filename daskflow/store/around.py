"""What all storages have in common that stand around another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daskflow.store.storage import Storage


class Around:
    """Says what the storage within it says of itself; what it does with files is left to subclasses."""

    def __init__(self, storage: Storage) -> None:
        self.url = storage.url
        self.remote = storage.remote
        self.append_bytes, self.append_seconds = storage.append_bytes, storage.append_seconds
        self._storage = storage

    def locate(self, path: str) -> str:
        """The path or URL by which any other program opens the file."""
        return self._storage.locate(path)

    @property
    def storage_options(self) -> dict[str, Any]:
        """What fsspec needs beside what :meth:`locate` says."""
        return self._storage.storage_options

    def polars_options(self) -> dict[str, Any]:
        """The arguments that polars needs beside what :meth:`locate` says."""
        return self._storage.polars_options()

    def prepare_fork(self) -> None:
        """To be called in a process whose forks will use it."""
        self._storage.prepare_fork()
