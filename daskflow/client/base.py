"""What all stored objects have in common: a pathspec, a parent, children."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from daskflow import settings
from daskflow._current import current
from daskflow.client.namespaces import get_namespace
from daskflow.errors import DamagedRecordWarning, NamespaceMismatch, NotFound, StoreError
from daskflow.pathspec import parse
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.store.tags import Tags, read_tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from daskflow.store.storage import Storage

Child = TypeVar("Child")
Other = TypeVar("Other", bound="Stored[Any]")


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
    object, :class:`NamespaceMismatch` if there is one that the current namespace does not show. Parents and children of
    an object are in the namespace that held when it was made.
    """

    parts: ClassVar[int]
    _attempt: int | None = None
    """For a task and its artifacts: which attempt they show, None for the one that counts."""

    def __init__(self, pathspec: str, store: str | None = None) -> None:
        self._open(pathspec, storage_of(store), get_namespace())
        self._require_visible()

    def _open(self, pathspec: str, storage: Storage, namespace: str | None) -> None:
        self.path_components = list(parse(pathspec, self.parts))
        self.pathspec = pathspec
        self._storage = storage
        self._namespace = namespace
        self._check()

    def _reach(self, kind: type[Other], *names: str, attempt: int | None = None) -> Other:
        """Another object of this one's storage and namespace, which is as visible as this one."""
        found = kind.__new__(kind)
        found._attempt = attempt
        self._share_with(found, names)
        found._open("/".join(names), self._storage, self._namespace)
        return found

    def _share_with(self, other: Stored[Any], names: tuple[str, ...]) -> None:
        """Let an object that is about to be opened have what this one has read."""

    @abstractmethod
    def _check(self) -> None:
        """Raise :class:`NotFound` if the object does not exist."""

    def _require_visible(self) -> None:
        """Raise :class:`NamespaceMismatch` if its namespace does not show it."""
        if self._namespace is not None and not self._is_visible():
            raise self._mismatch()

    def _mismatch(self) -> NamespaceMismatch:
        return NamespaceMismatch(
            f"{type(self).__name__} '{self.pathspec}' is not in namespace '{self._namespace}'; "
            "namespace(None) shows all there is."
        )

    @abstractmethod
    def _is_visible(self) -> bool:
        """Whether its namespace, which is not None, shows it."""

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
        """Visible children, newest first. One whose record is damaged is left out, with a warning that names the file."""
        for name in self._child_names():
            try:
                yield self._child(name)
            except NamespaceMismatch:
                continue
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
        except (NotFound, NamespaceMismatch):
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
        return reopen, (type(self), self.pathspec, self._storage.url, self._namespace, self._attempt)


class OfRun(Stored[Child]):
    """A run, or a part of one: its tags are those of the run."""

    @cached_property
    def _store(self) -> RunStore:
        return RunStore(self._storage, *self.path_components[:2])

    def _share_with(self, other: Stored[Any], names: tuple[str, ...]) -> None:
        if isinstance(other, OfRun) and "/".join(names).split("/")[:2] == self.path_components[:2]:
            other.__dict__["_store"] = self._store

    @property
    def tags(self) -> frozenset[str]:
        """The tags of its run: those that users gave it, and system tags."""
        return self._tags().all

    @property
    def user_tags(self) -> frozenset[str]:
        """The tags that users gave its run."""
        return self._tags().user

    @property
    def system_tags(self) -> frozenset[str]:
        """The tags that its run was started with and that nobody can change, such as ``user:ada``."""
        return self._tags().system

    def _tags(self) -> Tags:
        return read_tags(self._store, self._store.record())

    def _is_visible(self) -> bool:
        return self._is_running_here() or self._namespace in self.tags

    def _is_running_here(self) -> bool:
        """Whether it is of the run of the task that asks, which may always see its own run."""
        running = [current.get("flow_name"), current.get("run_id")]
        return bool(current.get("is_running_flow")) and running == self.path_components[:2]


def reopen(
    kind: type[Other], pathspec: str, store: str, namespace: str | None, attempt: int | None = None
) -> Other:
    """The object as one sees it in ``namespace``, whichever holds here. Not checked: who has its name may have it."""
    found = kind.__new__(kind)
    found._attempt = attempt
    found._open(pathspec, storage_of(store), namespace)
    return found


def listed(names: Iterable[str]) -> str:
    """Names for a message."""
    shown = list(names)
    more = f" and {len(shown) - 10} more" if len(shown) > 10 else ""
    return (", ".join(shown[:10]) + more) or "none"


def not_found(kind: str, pathspec: str, storage: Storage, there: Iterable[str]) -> NotFound:
    """The error for something that is not there; it says what is."""
    return NotFound(f"{kind} '{pathspec}' does not exist in {storage.url}; there is: {listed(there)}.")
