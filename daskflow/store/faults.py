"""Faults put into a store on purpose: by tests, and by ``daskflow chaos``.

If the environment variable ``DASKFLOW_CHAOS_STORE_ERRORS`` is ``RATE:SEED``, such as ``0.05:7``, that part of all operations
of every store that the process opens goes wrong, in one of the ways of :data:`FAULTS`. Workers and tasks inherit it, as
they do all variables. The seed, any text, and the number of the process decide which.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeVar

from daskflow.errors import SettingsError, StoreError
from daskflow.store.around import Around

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from daskflow.store.storage import Storage

VARIABLE = "DASKFLOW_CHAOS_STORE_ERRORS"
LATE_SECONDS = 0.02

Fault = Literal["refused", "unanswered", "twice", "late"]
FAULTS: tuple[Fault, ...] = ("refused", "unanswered", "twice", "late")
"""Nothing is done, and an error tells; it is done, and an error tells otherwise; it is done twice, the second answer
counts; it is done late."""
Plan = Callable[[str, str], Fault | None]
"""What goes wrong with an operation of that name on that path, if anything."""

T = TypeVar("T")


class Faulty(Around):
    """A storage whose operations go wrong as planned."""

    def __init__(self, storage: Storage, plan: Plan) -> None:
        super().__init__(storage)
        self._plan = plan

    def read(self, path: str) -> bytes:
        """The whole content of a file."""
        return self._do("read", path, lambda: self._storage.read(path))

    def appended(self, path: str) -> bytes:
        """All that was appended to a file."""
        return self._do("appended", path, lambda: self._storage.appended(path))

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return self._do("exists", path, lambda: self._storage.exists(path))

    def made_by(self, path: str) -> int | None:
        """By when the file was there at the latest."""
        return self._do("made_by", path, lambda: self._storage.made_by(path))

    def names(self, path: str) -> list[str]:
        """Names directly below ``path``."""
        return self._do("names", path, lambda: self._storage.names(path))

    def create(self, path: str, data: bytes) -> bool:
        """Publish a file if there is none."""
        return self._do("create", path, lambda: self._storage.create(path, data))

    def replace(self, path: str, data: bytes) -> None:
        """Put ``data`` in the place of what is under ``path``, if anything."""
        self._do("replace", path, lambda: self._storage.replace(path, data))

    def append(self, path: str, data: bytes, size: int = 0) -> None:
        """Add to a file that no one else writes."""
        self._do("append", path, lambda: self._storage.append(path, data, size))

    def open(self, path: str, version: str | None = None) -> BinaryIO:
        """A seekable reader."""
        if self._begin("open", path) == "unanswered":
            raise self._trouble("open", path)
        return self._storage.open(path, version)

    @contextlib.contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        """A writer for a file that no one else writes."""
        fault = self._begin("writer", path)
        with self._storage.writer(path) as file:
            yield file
        if fault == "unanswered":
            raise self._trouble("writer", path)

    def _do(self, verb: str, path: str, work: Callable[[], T]) -> T:
        fault = self._begin(verb, path)
        found = work()
        if fault == "twice":
            found = work()
        if fault == "unanswered":
            raise self._trouble(verb, path)
        return found

    def _begin(self, verb: str, path: str) -> Fault | None:
        fault = self._plan(verb, path)
        if fault == "refused":
            raise self._trouble(verb, path)
        if fault == "late":
            time.sleep(LATE_SECONDS)
        return fault

    def _trouble(self, verb: str, path: str) -> StoreError:
        error = StoreError(f"Can't {verb} {self.locate(path)}: {os.strerror(errno.EIO)} (injected).")
        error.__cause__ = OSError(errno.EIO, os.strerror(errno.EIO))
        return error


def at_random(rate: float, seed: str, faults: Sequence[Fault] = FAULTS) -> Plan:
    """A plan by which so many of all operations go wrong, from 0 to 1.

    By the same seed, the n-th try of an operation on a path goes the same way each time.
    """
    seen: Counter[tuple[str, str]] = Counter()

    def plan(verb: str, path: str) -> Fault | None:
        seen[verb, path] += 1
        draw = random.Random(f"{seed} {verb} {path} {seen[verb, path]}")
        return draw.choice(faults) if draw.random() < rate else None

    return plan


def as_asked_for(storage: Storage) -> Storage:
    """``storage``, with the faults that the environment asks for. Raises :class:`SettingsError`."""
    asked = os.environ.get(VARIABLE)
    if not asked:
        return storage
    rate, _, seed = asked.partition(":")
    try:
        share = float(rate)
    except ValueError:
        share = -1
    if not 0 <= share < 1:
        raise SettingsError(f"{VARIABLE} is '{asked}'; it must be RATE:SEED, the rate from 0 to less than 1.")
    return Faulty(storage, at_random(share, f"{seed} {os.getpid()}"))
