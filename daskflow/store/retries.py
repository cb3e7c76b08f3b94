"""A store that refuses is asked again for a while, with growing pauses, and whoever looks can see it.

Asked again is after what may pass by itself: a network that does not answer, a server that is busy, a disk that is full
(what other tasks clear away makes room, and who reads the line can make some). A missing right, a read-only file system
or a damaged record are told at once.
"""

from __future__ import annotations

import contextlib
import errno
import math
import random
import sys
import time
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from daskflow.errors import StoreError, Unavailable
from daskflow.store.around import Around

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


PATIENCE_SECONDS = 30.0
"""How long an operation is tried before its error counts."""
HURRIED_SECONDS = 1.0
"""How long at least, whoever waits."""
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
"""Pauses double from the first to the longest; each is cut by up to half at random, so that many don't come at once."""
TRANSIENT = frozenset(
    {
        *(errno.EIO, errno.EREMOTEIO, errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT),
        *(errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.ENOTCONN, errno.EPIPE),
        *(errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
        *(errno.ENOSPC, errno.EDQUOT),
    }
)
"""Errors of the system that may pass."""

T = TypeVar("T")

_jitter = random.SystemRandom()  # a step's own random numbers stay as they would be


def to_stderr(text: str) -> None:
    """A line on standard error: in a task's process that is its log and the run's console."""
    with contextlib.suppress(OSError, ValueError):  # it is closed, or its reader has gone
        print(f"[daskflow] {text}", file=sys.stderr, flush=True)  # noqa: T201 - to be seen


tell: Callable[[str], None] = to_stderr
"""Is told of each refusal after which the store is asked again. A process may put another function here."""


_deadline = math.inf


def hurry(seconds: float) -> None:
    """After so long nothing is tried for more than a second in this process: whoever waits for it has asked it to end."""
    global _deadline  # noqa: PLW0603 - as `tell`, it is one for the process
    _deadline = time.monotonic() + seconds


def retried(work: Callable[[], T]) -> T:
    """What ``work`` returns, called again as long as it raises :class:`StoreError` for what may pass.

    ``work`` must be such that to do it twice is as good as once. After :data:`PATIENCE_SECONDS`, or what :func:`hurry`
    leaves of them, its last error is raised.
    """
    begun = time.monotonic()
    longest = FIRST_PAUSE_SECONDS
    while True:
        try:
            return work()
        except StoreError as error:
            pause = longest * _jitter.uniform(0.5, 1)
            if not may_pass(error) or time.monotonic() + pause > _end(begun):
                raise
            tell(f"{error.message} It is tried again in {pause:.2g} s.")
        time.sleep(pause)
        longest = min(2 * longest, LONGEST_PAUSE_SECONDS)


def _end(begun: float) -> float:
    """When what was begun then is given up."""
    return min(begun + PATIENCE_SECONDS, max(_deadline, begun + HURRIED_SECONDS))


def may_pass(error: StoreError) -> bool:
    """Whether it is worth a try to ask the store again."""
    cause = error.__cause__
    return isinstance(error, Unavailable) or (isinstance(cause, OSError) and cause.errno in TRANSIENT)


class Retrying(Around):
    """A storage each operation of which is tried again if it fails for what may pass.

    Not so ``open``, ``writer`` and ``append``: only who has the whole content, or needs it, can start again. They are to
    be called within :func:`retried`.
    """

    def read(self, path: str) -> bytes:
        """The whole content of a file."""
        return retried(lambda: self._storage.read(path))

    def appended(self, path: str) -> bytes:
        """All that was appended to a file."""
        return retried(lambda: self._storage.appended(path))

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return retried(lambda: self._storage.exists(path))

    def made_by(self, path: str) -> int | None:
        """By when the file was there at the latest."""
        return retried(lambda: self._storage.made_by(path))

    def names(self, path: str) -> list[str]:
        """Names directly below ``path``."""
        return retried(lambda: self._storage.names(path))

    def replace(self, path: str, data: bytes) -> None:
        """Put ``data`` in the place of what is under ``path``, if anything; not durable."""
        retried(lambda: self._storage.replace(path, data))

    def create(self, path: str, data: bytes) -> bool:
        """Publish a file if there is none; whether the one that is there then is ours.

        A try of which we know only that it failed, or a request that the network sent twice, may have made it. So it is
        ours if its content is; content that others may write as well has to say whose it is.
        """
        return retried(lambda: self._storage.create(path, data)) or self._is(path, data)

    def _is(self, path: str, data: bytes) -> bool:
        try:
            return self.read(path) == data
        except FileNotFoundError:
            return False

    def open(self, path: str, version: str | None = None) -> BinaryIO:
        """A seekable reader; tried once."""
        return self._storage.open(path, version)

    def writer(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A writer for a file that no one else writes; tried once."""
        return self._storage.writer(path)

    def append(self, path: str, data: bytes, size: int = 0) -> None:
        """Add to a file that no one else writes; tried once."""
        self._storage.append(path, data, size)
