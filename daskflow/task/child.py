"""A task's own process: from its first message to its exit."""

from __future__ import annotations

import _io  # its base class is a plain one: a look at an abstract one costs microseconds for every new class
import atexit
import contextlib
import errno
import gc
import io
import json
import os
import pickle
import stat
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

from daskflow.task import dask_client, randomness, surroundings, wire
from daskflow.task.guard import silence

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from daskflow.flow.spec import FlowSpec
    from daskflow.task.spec import TaskSpec


_inherited: list[io.IOBase] = []
"""Files that were open for writing before this process was forked: what the task writes to them is flushed."""


def prepare_fork() -> None:
    """In the fork server, once the flow is loaded: all that is better done once than in every child."""
    from daskflow.store import shared_tables  # noqa: F401 - it would be loaded in every child
    from daskflow.task import attempt, together  # noqa: F401 - as above

    if not sys.modules.keys().isdisjoint(("pandas", "polars", "pyarrow")):
        import pyarrow.parquet  # noqa: F401 - as above

        from daskflow.store.serializers import pandas_frames, table_fingerprint  # noqa: F401 - as above
    gc.collect()
    wire.libc().fflush(None)  # else every child would print what the loading left in a buffer
    _inherited[:] = [value for value in gc.get_objects() if type(value) in _BUFFERS]
    for file in _inherited:
        _settle(file, "flush")
    randomness.note_generators()
    gc.freeze()  # a full collection in a child would else touch, and so copy, every page


def settle_after_fork() -> None:
    """In a child of the fork server: random state and finalizers of its own."""
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined] # there is no public way
        finalizer.atexit = False  # a temporary directory of the flow's file must not go with the first task
    randomness.freshen()


def prepare_streams() -> None:
    """New ``sys.stdout`` and ``sys.stderr`` on the task's pipes: UTF-8, and a line leaves as soon as it is complete.

    The objects of before stay in use where the flow's file kept them, as a logging handler does.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        if isinstance(before, io.TextIOWrapper):
            before.reconfigure(line_buffering=True)
            _inherited.append(before)
        stream = open(number, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """What is written to descriptors 1 and 2 goes nowhere meanwhile."""
    kept = [os.dup(1), os.dup(2)]
    silence(1, 2)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        wire.libc().fflush(None)
        for number, descriptor in enumerate(kept, 1):
            os.dup2(descriptor, number)
            os.close(descriptor)


def run(connection: socket.socket, flow_class: type[FlowSpec]) -> NoReturn:
    """Take the work, run it, send how it went, and leave as an interpreter leaves."""
    try:
        status = _run(connection, flow_class)
        connection.close()
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.ENOTSOCK):
            raise
        text = (
            "[daskflow] the step closed files that it had not opened; how it went can't be told any more.\n"
        )
        for stream in (sys.stdout, sys.stderr):
            _settle(stream, "flush")
        with contextlib.suppress(OSError):
            os.write(2, text.encode())
        os._exit(1)
    leave(status)


def _run(connection: socket.socket, flow_class: type[FlowSpec]) -> int:
    from daskflow.task import attempt, together
    from daskflow.task.spec import Together

    def tell(message: bytes) -> None:
        wire.send(connection, message)

    work: TaskSpec | Together = pickle.loads(wire.receive(connection))
    spec = work.specs[0] if isinstance(work, Together) else work
    surroundings.prepare(spec)
    with dask_client.offered(spec, tell):
        if isinstance(work, Together):
            return together.run(work, flow_class, tell)
        outcome, status = attempt.run(work, flow_class, tell)
    tell(json.dumps(outcome).encode())
    return status


def leave(status: int) -> NoReturn:
    """End this process as an interpreter ends, without taking its modules apart.

    Joins threads that are no daemons, runs ``atexit`` and multiprocessing's finalizers, flushes the streams of Python
    and of C, and closes files that are still open.
    """
    threading._shutdown()  # type: ignore[attr-defined] # what the interpreter calls, there is no public name
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr, *_inherited):
        _settle(stream, "flush")
    for file in sorted(_open_files(), key=_layer):
        _settle(file, "close")
    wire.libc().fflush(None)
    os._exit(status)


_BUFFERS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


def _open_files() -> list[io.IOBase]:
    """Files that this process opened for writing and still holds; not pipes and sockets, which may block."""
    return [
        value
        for value in gc.get_objects()
        if issubclass(type(value), _io._IOBase) and _is_written_file(value)
    ]


def _is_written_file(value: io.IOBase) -> bool:
    try:
        return (
            not isinstance(value, io.RawIOBase)
            and not value.closed
            and value.writable()
            and stat.S_ISREG(os.fstat(value.fileno()).st_mode)
        )
    except Exception:  # noqa: BLE001 - a class of the user's, which may do anything, and is no file then
        return False


def _layer(file: io.IOBase) -> int:
    """Text before what compresses it before the buffer of the file itself: each writes to the next when closed."""
    return 0 if isinstance(file, io.TextIOWrapper) else 2 if type(file) in _BUFFERS else 1


def _settle(file: Any, method: str) -> None:
    with contextlib.suppress(
        Exception
    ):  # closed already, or nobody reads it any more; nowhere left to say so
        getattr(file, method)()
