"""What all stored objects have in common: a pathspec, a parent, children."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from daskflow import settings
from daskflow.errors import DamagedRecordWarning, NotFound, StoreError
from daskflow.pathspec import parse
from daskflow.store.storage import storage_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from daskflow.store.storage import Storage

Child = TypeVar("Child")


def storage_of(store: str | None) -> Storage:
    """The storage at ``store``, or where the settings say it is."""
    return storage_at(store or settings.datastore_root(settings.load()))


class Stored(ABC, Generic[Child]):
    """An object in the store, named by its pathspec.

    Parameters
    ----------
    pathspec
        ``Flow``, ``Flow/run``, ``Flow/run/step``, ``Flow/run/step/task`` or ``Flow/run/step/task/artifact``.
    store
        The directory of the store; None for the one the settings name.

    Raises :class:`InvalidPathspec` if the pathspec has another number of parts, :class:`NotFound` if there is no such
    object.
    """

    parts: ClassVar[int]

    def __init__(self, pathspec: str, store: str | None = None) -> None:
        self.path_components = list(parse(pathspec, self.parts))
        self.pathspec = pathspec
        self._storage = storage_of(store)
        self._check()

    @abstractmethod
    def _check(self) -> None:
        """Raise :class:`NotFound` if the object does not exist."""

    @abstractmethod
    def _child(self, name: str) -> Child:
        """The child of that name. Raises :class:`NotFound`."""

    @abstractmethod
    def _child_names(self) -> Iterable[str]:
        """Names of the children, newest first."""

    @property
    def id(self) -> str:
        """The last part of the pathspec."""
        return self.path_components[-1]

    def __iter__(self) -> Iterator[Child]:
        """Children, newest first. One whose record is damaged is left out, with a warning that names the file."""
        for name in self._child_names():
            try:
                yield self._child(name)
            except StoreError as error:
                warnings.warn(str(error), DamagedRecordWarning, stacklevel=2)

    def __getitem__(self, name: str) -> Child:
        try:
            return self._child(name)
        except NotFound as error:
            raise KeyError(str(error)) from None

    def __contains__(self, name: object) -> bool:
        try:
            self._child(str(name))
        except NotFound:
            return False
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}('{self.pathspec}')"

    def __eq__(self, other: object) -> bool:
        return (
            type(self) is type(other)
            and isinstance(other, Stored)
            and self.pathspec == other.pathspec
            and self._storage.url == other._storage.url
        )

    def __hash__(self) -> int:
        return hash((type(self), self.pathspec, self._storage.url))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.pathspec, self._storage.url)


def listed(names: Iterable[str]) -> str:
    """Names for a message."""
    shown = list(names)
    more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
    return (", ".join(shown[:10]) + more) or "none"


def not_found(kind: str, pathspec: str, storage: Storage, there: Iterable[str]) -> NotFound:
    """The error for something that is not there; it says what is."""
    return NotFound(f"{kind} '{pathspec}' does not exist in {storage.url}; there is: {listed(there)}.")
