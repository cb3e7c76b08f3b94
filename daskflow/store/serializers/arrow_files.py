"""Files for Arrow to read from its threads.

Such a thread may let go of a file, and of bytes read from it, after the table has been handed over. If these are
Python's and the interpreter ends just then, the thread can't have the interpreter's lock any more and the process
aborts ("terminate called without an active exception", https://github.com/apache/arrow/issues/34314). So Arrow opens
local files by itself; of all others we know what it still holds, and the interpreter's end waits for that.
"""

from __future__ import annotations

import atexit
import time
import weakref
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.fs as pafs

if TYPE_CHECKING:
    from daskflow.store.storage import Storage

_lent: weakref.WeakValueDictionary[int, object] = weakref.WeakValueDictionary()
"""What Arrow holds of Python's, by its ``id``."""
LONGEST_WAIT = 1.0
"""Seconds that the interpreter's end waits; threads need microseconds."""


class _Lent:
    """A Python file as Arrow reads it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.closed = False
        _lent[id(self)] = self

    def read(self, count: int) -> pa.Buffer:
        """So many bytes, fewer at the end."""
        buffer = pa.py_buffer(self._file.read(count))
        _lent[id(buffer)] = buffer
        return buffer

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
        self._file.close()


def arrow_file(file: BinaryIO) -> pa.NativeFile:
    """An open file for Arrow: local ones are opened anew, by their name."""
    name = getattr(file, "name", None)
    return pa.OSFile(name) if isinstance(name, str) else pa.PythonFile(_Lent(file), "r")


def arrow_filesystem(storage: Storage) -> pafs.FileSystem:
    """What Arrow reads the files of a storage with."""
    if not storage.remote:
        return pafs.LocalFileSystem()
    import s3fs

    return pafs.PyFileSystem(_Handler(s3fs.S3FileSystem(**storage.storage_options)))


class _Handler(pafs.FSSpecHandler):  # type: ignore[misc] # pyarrow has no types
    """Opens each file without looking first whether there is one, since opening it tells."""

    def open_input_file(self, path: str) -> pa.NativeFile:
        return pa.PythonFile(_Lent(self.fs.open(path, "rb")), "r")

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self.open_input_file(path)


@atexit.register
def _wait() -> None:
    until = time.monotonic() + LONGEST_WAIT
    while len(_lent) and time.monotonic() < until:
        time.sleep(0.001)
