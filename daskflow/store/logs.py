"""A task's output as it is kept: lines with their time, the middle left out if there is too much.

A stored line is ``<ISO time> <text>``. Short logs stand in the task's record; a log that grows, or whose task runs on,
goes into a file that can be read meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from daskflow.store.records import Log

if TYPE_CHECKING:
    from collections.abc import Iterable

    from daskflow.store.storage import Storage

INLINE_BYTES = 4096
FLUSH_SECONDS = 1.0
TRUNCATED = "[TRUNCATED - MAXIMUM LOG FILE SIZE REACHED]"


class LogWriter:
    """Keeps one stream of one execution.

    Parameters
    ----------
    storage, path
        The file that is made if the log does not stay small.
    max_bytes
        Of a longer log the first and the last half of so many bytes are kept, with a marker between them.
    """

    def __init__(self, storage: Storage, path: str, max_bytes: int) -> None:
        self._storage = storage
        self._path = path
        self._half = max_bytes // 2
        self._size = 0
        self._pending: list[str] = []
        self._pending_bytes = 0
        self._head_bytes = 0
        self._tail: deque[str] = deque()
        self._tail_bytes = 0
        self._dropped = False
        self._in_file = False
        self._born = time.monotonic()

    def add(self, when: str, lines: Iterable[str]) -> None:
        """Take complete lines, without their ends."""
        for line in lines:
            text = f"{when} {line}\n"
            size = len(text.encode("utf-8", "surrogatepass"))
            self._size += len(line.encode("utf-8", "surrogatepass")) + 1
            if not self._tail and self._head_bytes + size <= self._half:
                self._head_bytes += size
                self._pending.append(text)
                self._pending_bytes += size
            else:
                self._keep_in_tail(text, size)
        if self._pending_bytes > INLINE_BYTES:
            self._flush()

    def tick(self) -> None:
        """Make what there is readable if the task has been running for a while."""
        if self._pending and time.monotonic() - self._born > FLUSH_SECONDS:
            self._born = time.monotonic()
            self._flush()

    def close(self) -> Log:
        """Everything that was added, in the record or in the file."""
        if self._tail:
            if self._dropped:
                self._pending.append(f"{self._tail[0].partition(' ')[0]} {TRUNCATED}\n")
            self._pending += self._tail
            self._pending_bytes += self._tail_bytes
            self._tail.clear()
        if not self._in_file and self._pending_bytes <= INLINE_BYTES:
            return Log(self._size, text="".join(self._pending))
        self._flush()
        return Log(self._size, path=self._path)

    def _keep_in_tail(self, text: str, size: int) -> None:
        if size > self._half:  # one line longer than all that may be kept
            text = text[: self._half] + "\n"
            size = len(text.encode("utf-8", "surrogatepass"))
            self._dropped = True
        self._tail.append(text)
        self._tail_bytes += size
        while self._tail_bytes > self._half and len(self._tail) > 1:
            self._tail_bytes -= len(self._tail.popleft().encode("utf-8", "surrogatepass"))
            self._dropped = True

    def _flush(self) -> None:
        if self._pending:
            self._storage.append(self._path, "".join(self._pending).encode("utf-8", "surrogatepass"))
            self._in_file = True
        self._pending.clear()
        self._pending_bytes = 0


class Lines:
    """Bytes in, complete lines of text out; an unfinished last line is held back until the end."""

    def __init__(self, max_line: int = 1 << 20) -> None:
        self._rest = b""
        self._max_line = max_line

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete now; one that grows beyond ``max_line`` bytes is cut there."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > self._max_line:
            lines.append(self._rest)
            self._rest = b""
        return [line.decode("utf-8", "replace") for line in lines]

    def end(self) -> list[str]:
        """The unfinished line, if there is one."""
        rest, self._rest = self._rest, b""
        return [rest.decode("utf-8", "replace")] if rest else []
