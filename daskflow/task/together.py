"""Several items of a foreach, one after the other in one process.

What one of them changes of the process is put back before the next: working directory, environment, signal handlers,
``sys.path``, random state. What can't be put back, a thread, a child process or a socket that is still there, ends the
sharing; so does an item that fails, which is tried again alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import sys
import threading
import time
from _signal import getsignal  # type: ignore[import-not-found] # the public one makes a member of an enumeration of each number
from typing import TYPE_CHECKING, Any

from daskflow.store.artifacts import shared_tables
from daskflow.store.chunks import differences
from daskflow.task import attempt, randomness, wire
from daskflow.task.processes import has_children

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.flow.spec import FlowSpec
    from daskflow.store.shared_tables import SharedTables
    from daskflow.task.spec import Together


def run(work: Together, flow_class: type[FlowSpec], tell: Callable[[bytes], None]) -> int:
    """Run as many of the items as can share this process; the status to exit with.

    Tells of each chunk the record of its first item (:data:`wire.FIRST`), of each item what differs from that
    (:data:`wire.ITEM`), and why no more follows if some are left (:data:`wire.GUILTY`, :data:`wire.APART`).
    """
    store = attempt.own_store(work.specs[0])
    begun = time.monotonic()
    surroundings = Surroundings()
    left = work.count
    for spec in work.specs:
        with contextlib.ExitStack() as chunk:
            tables = shared_tables(store, spec.tasks, spec.execution) if spec.count > 1 else None
            if tables is not None:
                chunk.callback(_complete, tables, tell)
            first: dict[str, Any] = {}
            for index in range(spec.count):
                began = time.time()
                outcome, _ = attempt.run(spec.item(index), flow_class, tell, store, tables)
                surroundings.end_output(work.mark)
                if error := outcome.get("error"):  # also one that a decorator has dealt with
                    tell(wire.GUILTY + _bytes(f"{error['type']}: {error['exception']}"))
                    return 0
                if not index:
                    first, chunk_began = outcome, began
                    tell(wire.FIRST + json.dumps(first).encode())
                item = {"at": round(began - chunk_began, 6), "took": round(time.time() - began, 6)}
                tell(wire.ITEM + json.dumps(item | differences(first, outcome)).encode())
                left -= 1
                why = surroundings.put_back()
                if left and (why or time.monotonic() - begun > work.seconds):
                    tell(wire.APART + _bytes(why))
                    return 0
    return 0


def _complete(tables: SharedTables, tell: Callable[[bytes], None]) -> None:
    tables.close()
    tell(wire.WHOLE)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


class Surroundings:
    """What of a process an item may change, as it was before."""

    def __init__(self) -> None:
        self._cwd = os.getcwd()
        self._environ = _environ().copy()
        self._path = list(sys.path)
        self._streams = (sys.stdin, sys.stdout, sys.stderr)
        self._outlets = {number: os.dup(number) for number in (1, 2)}
        self._led_to = {number: _place(number) for number in (1, 2)}
        self._umask = _umask()
        self._handlers = _handlers()
        self._open_files = _open_files()
        self._sockets = _sockets()
        self._threads = set(threading.enumerate())

    def end_output(self, mark: bytes) -> None:
        """All that the item wrote is in the pipes, and then the mark; what is written from now on goes there too."""
        for stream in {sys.stdout, sys.stderr, *self._streams[1:]}:
            with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none at all
                stream.flush()
        wire.libc().fflush(None)
        for number, kept in self._outlets.items():
            os.write(kept, mark)
            if _place(number) != self._led_to[number]:
                os.dup2(kept, number)

    def put_back(self) -> str:
        """Undo what was changed; what can't be undone, in words."""
        try:
            moved = os.getcwd() != self._cwd
        except FileNotFoundError:
            moved = True
        if moved:
            os.chdir(self._cwd)
        if _environ() != self._environ:
            os.environ.clear()
            for name, value in self._environ.items():
                os.environb[name] = value
        if sys.path != self._path:
            sys.path[:] = self._path
        sys.stdin, sys.stdout, sys.stderr = self._streams
        if _umask() != self._umask:
            os.umask(self._umask)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if (handlers := _handlers()) != self._handlers:
            for number, was, now in zip(_SIGNALS, self._handlers, handlers, strict=True):
                if now is not was:
                    signal.signal(number, was)
        randomness.freshen()
        return self._left_behind()

    def _left_behind(self) -> str:
        if any(stream.closed for stream in self._streams[1:]):
            return "it closed its output"
        threads = [thread for thread in threading.enumerate() if thread not in self._threads]
        if threads:
            return f"thread {threads[0].name!r} is still running"
        if has_children():
            return "a child process is still there"
        if self._open_files and _open_files() == self._open_files:
            return ""
        return "a socket is still open" if _sockets() - self._sockets else ""


def _place(number: int) -> tuple[int, int] | None:
    """Where a descriptor leads."""
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def _environ() -> dict[bytes, bytes]:
    """What is behind ``os.environ``: to compare that itself would take as long as many an item."""
    found: dict[bytes, bytes] = os.environb._data  # type: ignore[attr-defined] # there is no public way
    return found


def _handlers() -> list[Any]:
    return list(map(getsignal, _SIGNALS))


_SIGNALS = sorted(map(int, signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))


def _open_files() -> int:
    """How many files are open; 0 where Linux does not tell, as before 6.2."""
    return os.stat("/proc/self/fd").st_size


def _sockets() -> set[int]:
    """The open ones by what they are. A descriptor's number says nothing: it may be another file's by now."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            status = os.fstat(int(descriptor))
            if stat.S_ISSOCK(status.st_mode):
                found.add(status.st_ino)
    return found
