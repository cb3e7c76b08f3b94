"""Messages between a worker, its fork server and a task's process: a length, then the bytes."""

from __future__ import annotations

import ctypes
import struct
import sys
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

BEGINS, ENDS = b"begins", b"ends"
"""What a task says before its outcome, if the time of its step is limited."""
FIRST, ITEM, WHOLE, GUILTY, APART = b"F", b"I", b"W", b"G", b"A"
"""How messages of a process begin that runs several items: the record of a chunk's first item; in what an item's record
differs from that; that the files which the chunk's items share are complete; why the item that runs must be tried alone; why the
items that are left need another process."""
DASK = b"dask"
"""What a task says when it is about to use Dask itself: its slot is not needed meanwhile."""
KILL, STAND_STILL, GO_ON = b"K", b"S", b"C"
"""What the worker asks for on a task's status socket; its end is as good as the first."""
_LENGTH = struct.Struct("!Q")
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def send(connection: socket.socket, data: bytes) -> None:
    """Send one message."""
    connection.sendall(_LENGTH.pack(len(data)) + data)


def receive(connection: socket.socket) -> bytes:
    """The next message. Raises ``EOFError`` if the other side has gone."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return bytes(data)


class Inbox:
    """Takes bytes as they come and gives the messages that are complete."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes; the messages that they complete."""
        self._data += data
        complete = []
        while len(self._data) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._data)
            end = _LENGTH.size + length
            if len(self._data) < end:
                break
            complete.append(bytes(memoryview(self._data)[_LENGTH.size : end]))
            del self._data[:end]
        return complete


def die_with_parent(signal: int) -> None:
    """Get ``signal`` when the thread that started this process ends; 0 for none. Survives ``exec``."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends. Survives ``exec``."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        libc().prctl(option, value, 0, 0, 0)


@lru_cache(maxsize=1)
def libc() -> ctypes.CDLL:
    """The C library of this process."""
    return ctypes.CDLL(None, use_errno=True)
