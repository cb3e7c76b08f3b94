"""A task's output as it is kept: lines with their time, the middle left out if there is too much.

A stored line is ``<ISO time> <text>``. Short logs stand in the task's record; a log that grows, or whose task runs on,
goes into a file that can be read meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from daskflow.errors import StoreError
from daskflow.store.records import Log
from daskflow.store.retries import retried

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from daskflow.store.storage import Storage

INLINE_BYTES = 4096
LEAST_BYTES = 512
TRUNCATED = "[TRUNCATED - MAXIMUM LOG FILE SIZE REACHED]"


class LogWriter:
    """Keeps one stream of one execution.

    Parameters
    ----------
    storage, path
        The file that is made if the log does not stay small.
    max_bytes
        Of a log that would take more as it is stored, times included, the first and the last half of so many bytes are
        kept, with a marker between them. A line longer than half is first cut into several. At least 512.
    """

    def __init__(self, storage: Storage, path: str, max_bytes: int) -> None:
        self._storage = storage
        self._path = path
        self._max = max(max_bytes, LEAST_BYTES)
        self._half = self._max // 2
        self._size = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._head_bytes = 0
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._dropped = False
        self._stored = 0
        self._refused = False
        self._flushed = time.monotonic()

    def add(self, when: str, lines: Iterable[str]) -> None:
        """Take complete lines, without their ends."""
        stamp = f"{when} ".encode()
        longest = self._half - len(stamp) - 1
        for line in lines:
            raw = line.encode("utf-8", "backslashreplace")
            self._size += len(raw) + 1
            if len(raw) <= longest and b"\n" not in raw:
                self._keep(b"%b%b\n" % (stamp, raw))
                continue
            for part in raw.split(b"\n"):
                for piece in _pieces(part, longest):
                    self._keep(b"%b%b\n" % (stamp, piece))
        if self._pending_bytes > self._storage.append_bytes and not self._refused:
            self._try_to_flush()
        else:
            self.tick()

    def tick(self) -> None:
        """Make what there is readable if the task has been running for a while."""
        if self._pending and time.monotonic() - self._flushed > self._storage.append_seconds:
            self._try_to_flush()

    def close(self) -> Log:
        """Everything that was added, in the record or in the file.

        Raises :class:`StoreError` if it can't be written. That is told only here: a task is not disturbed by the
        trouble of its log, and what the store refused to take is kept until it does.
        """
        if self._dropped:
            self._pending.append(b"%b %b\n" % (self._tail[0].partition(b" ")[0], TRUNCATED.encode()))
        self._pending += self._tail
        self._pending_bytes += self._tail_bytes
        self._tail.clear()
        if not self._stored and self._pending_bytes <= INLINE_BYTES:
            return Log(self._size, text=b"".join(self._pending).decode())
        retried(self._flush)
        return Log(self._size, path=self._path)

    def _keep(self, stored: bytes) -> None:
        size = len(stored)
        if not self._tail and self._head_bytes + size <= self._half:
            self._head_bytes += size
            self._pending.append(stored)
            self._pending_bytes += size
            return
        self._tail.append(stored)
        self._tail_bytes += size
        while self._head_bytes + self._tail_bytes > self._max:
            self._tail_bytes -= len(self._tail.popleft())
            self._dropped = True

    def _try_to_flush(self) -> None:
        self._flushed = time.monotonic()
        try:
            self._flush()
            self._refused = False
        except StoreError:  # the next try takes it along; at the end it is told
            self._refused = True

    def _flush(self) -> None:
        data = b"".join(self._pending)
        self._storage.append(self._path, data, self._stored)
        self._stored += len(data)
        self._pending.clear()
        self._pending_bytes = 0


class Lines:
    """Bytes in, complete lines of text out; an unfinished last line is held back until the end.

    However the bytes are cut into feeds, the lines are the same. One longer than ``max_line`` bytes becomes several.
    """

    def __init__(self, max_line: int = 1 << 20) -> None:
        self._rest = b""
        self._max_line = max_line

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now."""
        *complete, rest = (self._rest + data).split(b"\n")
        lines = [piece for line in complete for piece in _pieces(line, self._max_line)]
        *full, self._rest = _pieces(rest, self._max_line)
        return [line.decode("utf-8", "replace") for line in lines + full]

    def end(self) -> list[str]:
        """The unfinished line, if there is one."""
        rest, self._rest = self._rest, b""
        return [rest.decode("utf-8", "replace")] if rest else []


def _pieces(line: bytes, longest: int) -> Iterator[bytes]:
    """A line in parts of at most ``longest`` bytes, no character of UTF-8 cut in two; an empty line is one part."""
    start = 0
    while len(line) - start > longest:
        end = start + longest
        for back in range(min(4, longest)):
            if line[end - back] & 0xC0 != 0x80:  # a character begins here
                end -= back
                break
        yield line[start:end]
        start = end
    yield line[start:]


def texts(storage: Storage, log: Log) -> list[str]:
    """The lines of a stored log without their times. Raises ``FileNotFoundError`` if its file is gone."""
    stored = log.text if log.text is not None else storage.appended(str(log.path)).decode("utf-8", "replace")
    return [line.partition(" ")[2] for line in stored.split("\n")[:-1]]
