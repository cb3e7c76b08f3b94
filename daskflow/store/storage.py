"""Bytes under one root: durable writes, create-only commits, listings. Here for a local directory; S3 is in ``s3.py``."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from daskflow.errors import StoreError
from daskflow.store import faults
from daskflow.store.retries import Retrying

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

TEMPORARY = ".tmp-"
"""How the names of unfinished files begin."""
MAX_REMEMBERED = 1000
TICK_NANOSECONDS = 20_000_000
"""By how much the time of a file may lag behind the clock."""
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


class Storage(Protocol):
    """One root that holds files under relative paths with ``/`` between the parts.

    A missing file is ``FileNotFoundError``; every other trouble is :class:`StoreError` with the path and the
    system's own words.

    Attributes
    ----------
    url
        What :func:`storage_at` needs to open it elsewhere.
    remote
        Each operation takes a round trip, so what is known is better handed over than read again.
    append_bytes, append_seconds
        How much, and what is how old, is worth an :meth:`append`.
    """

    url: str
    remote: bool
    append_bytes: int
    append_seconds: float

    def read(self, path: str) -> bytes:
        """The whole content of a file."""
        ...

    def open(self, path: str, version: str | None = None) -> BinaryIO:
        """A seekable reader; of that version, where versions are kept."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Publish a complete, durable file if there is none; False if there is one already."""
        ...

    def writer(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A writer for a file that no one else writes; durable once the block is left.

        Where versions are kept its attribute ``version`` tells then which one it is.
        """
        ...

    def replace(self, path: str, data: bytes) -> None:
        """Put ``data`` in the place of what is under ``path``, if anything; not durable."""
        ...

    def append(self, path: str, data: bytes, size: int = 0) -> None:
        """Put ``data`` behind the first ``size`` bytes of a file that no one else writes, as its new end.

        Not durable until the system sees fit. To do it twice is as good as once.
        """
        ...

    def appended(self, path: str) -> bytes:
        """All that was appended to a file."""
        ...

    def names(self, path: str) -> list[str]:
        """Names of files and folders directly below ``path``; empty if there is no such folder."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        ...

    def made_by(self, path: str) -> int | None:
        """By when the file was there at the latest, in nanoseconds of the epoch by the store's clock; None if it is not."""
        ...

    def locate(self, path: str) -> str:
        """The path or URL by which any other program opens the file."""
        ...

    @property
    def storage_options(self) -> dict[str, Any]:
        """What fsspec, and so pandas, Dask and others, need beside what :meth:`locate` says. Nothing is opened for it."""
        ...

    def polars_options(self) -> dict[str, Any]:
        """The arguments that polars needs beside what :meth:`locate` says."""
        ...

    def prepare_fork(self) -> None:
        """To be called in a process whose forks will use it, once that itself has done so."""
        ...


def storage_at(url: str) -> Storage:
    """The storage at a directory or at ``s3://bucket/prefix``.

    What may pass by itself is tried again (see :mod:`daskflow.store.retries`).
    Raises :class:`StoreError` for a URL of another kind, :class:`SettingsError` for one of S3 that is not right.
    """
    if url.startswith("s3://"):
        from daskflow.store.s3 import s3_storage_at

        return Retrying(faults.as_asked_for(s3_storage_at(url)))
    if ("://" in url and not url.startswith("file://")) or url.startswith("s3:"):
        raise StoreError(
            f"'{url}' is neither a directory nor s3://bucket/prefix; only those can hold a store."
        )
    return Retrying(faults.as_asked_for(LocalStorage(url.removeprefix("file://"))))


class LocalStorage:
    """A directory of a POSIX file system."""

    remote = False
    append_bytes, append_seconds = 4096, 1.0

    def __init__(self, root: str) -> None:
        self.url = os.path.abspath(os.path.expanduser(root))
        self._durable: set[str] = set()

    def prepare_fork(self) -> None:
        """A directory needs nothing of the kind."""

    @property
    def storage_options(self) -> dict[str, Any]:
        """A path is all it takes."""
        return {}

    def polars_options(self) -> dict[str, Any]:
        """A path is all it takes."""
        return {}

    def locate(self, path: str) -> str:
        """The absolute path."""
        return f"{self.url}/{path}"

    def read(self, path: str) -> bytes:
        """The whole content of a file."""
        with _explained("read", self.locate(path), passing=FileNotFoundError):
            return Path(self.locate(path)).read_bytes()

    def open(self, path: str, version: str | None = None) -> BinaryIO:
        """A seekable reader."""
        with _explained("open", self.locate(path), passing=FileNotFoundError):
            return io.BufferedReader(_File(self.locate(path), "rb"))

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        with _explained("look for", self.locate(path)):
            try:
                os.stat(self.locate(path))
            except (FileNotFoundError, NotADirectoryError):
                return False
            return True

    def made_by(self, path: str) -> int | None:
        """By when the file was there at the latest: the system's clock for files goes on in ticks."""
        with _explained("look for", self.locate(path)):
            try:
                return os.stat(self.locate(path)).st_ctime_ns + TICK_NANOSECONDS
            except (FileNotFoundError, NotADirectoryError):
                return None

    def names(self, path: str) -> list[str]:
        """Names directly below ``path``, unfinished temporary files left out."""
        with _explained("list", self.locate(path)):
            try:
                return [name for name in os.listdir(self.locate(path)) if not name.startswith(TEMPORARY)]
            except (FileNotFoundError, NotADirectoryError):
                return []

    def create(self, path: str, data: bytes) -> bool:
        """Publish ``data`` under ``path`` unless something is there.

        A complete and fsynced temporary file is hard-linked to its name, which fails if the name is taken, and
        the folder is fsynced: after a crash there is all of the file or none of it.
        """
        final = self.locate(path)
        folder = os.path.dirname(final)
        with _explained("create", self.locate(path)):
            self._make_folder(folder)
            temporary = f"{folder}/{TEMPORARY}{secrets.token_hex(8)}"
            try:
                write_durably(temporary, data)
                created = publish(temporary, final)
            finally:
                with contextlib.suppress(OSError):  # renamed away, or never made: nothing to clean
                    os.unlink(temporary)
            sync_folder(folder)  # also if it was there: who made it may not have come so far
            return created

    @contextlib.contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        """A writer whose file is durable once the block is left; an error leaves no file."""
        final = self.locate(path)
        folder = os.path.dirname(final)
        with _explained("write", self.locate(path)):
            self._make_folder(folder)
            file = io.BufferedWriter(_File(final, "wb"))
        try:
            with file:
                yield file
                file.flush()
                with _explained("write", self.locate(path)):
                    os.fsync(file.fileno())
            with _explained("write", self.locate(path)):
                sync_folder(folder)
        except BaseException:
            with contextlib.suppress(OSError):  # the disk may be the very thing that failed
                os.unlink(final)
            raise

    def replace(self, path: str, data: bytes) -> None:
        """Put ``data`` in the place of what is under ``path``, if anything. Readers see the one or the other."""
        final = self.locate(path)
        temporary = f"{os.path.dirname(final)}/{TEMPORARY}{secrets.token_hex(8)}"
        with _explained("replace", self.locate(path)):
            try:
                Path(temporary).write_bytes(data)
                os.replace(temporary, final)
            finally:
                with contextlib.suppress(OSError):  # it has its name
                    os.unlink(temporary)

    def append(self, path: str, data: bytes, size: int = 0) -> None:
        """Put ``data`` behind the first ``size`` bytes of a file; what a try that failed left there is overwritten."""
        final = self.locate(path)
        with _explained("append to", self.locate(path)):
            os.makedirs(os.path.dirname(final), exist_ok=True)
            with open(final, "ab") as file:
                file.truncate(size)
                file.write(data)

    def appended(self, path: str) -> bytes:
        """The file's content."""
        return self.read(path)

    def _make_folder(self, folder: str) -> None:
        try:
            self._make_durably(folder)
        except FileNotFoundError:  # a folder that was made durable has been removed since
            self._durable.clear()
            self._make_durably(folder)

    def _make_durably(self, folder: str) -> None:
        """Make a folder and its parents.

        The name of each is forced to the disk even if the folder is there already: who made it may have died
        before that. The parents are remembered, so that it costs one fsync a folder.
        """
        parent = os.path.dirname(folder)
        above_the_store = len(folder) <= len(self.url)
        if parent not in self._durable and not (above_the_store and os.path.isdir(parent)):
            self._make_durably(parent)
            if len(self._durable) >= MAX_REMEMBERED:
                self._durable.clear()
            self._durable.add(parent)
        try:
            os.mkdir(folder)
        except FileExistsError:
            if above_the_store and not os.access(parent, os.R_OK):
                return  # it was there before us, in a folder that is not ours to sync
        sync_folder(parent)


class _File(io.FileIO):
    """A file that says its name when the system refuses to take or give more.

    Whoever uses it (a pickler, a Parquet writer) can then tell the disk's trouble from the value's.
    """

    def write(self, data: Any, /) -> int:
        with _explained("write", str(self.name)):
            return super().write(data)

    def readinto(self, buffer: Any, /) -> int:
        with _explained("read", str(self.name)):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with _explained("read", str(self.name)):
            return super().readall()


@contextlib.contextmanager
def _explained(verb: str, place: str, passing: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    try:
        yield
    except passing:
        raise
    except OSError as error:
        raise StoreError(f"Can't {verb} {place}: {error.strerror or error}.") from error


def sync_folder(folder: str) -> None:
    """Make names made in ``folder`` survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: str, data: bytes) -> None:
    """Write a new file and force it to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(temporary: str, final: str) -> bool:
    """Give a complete file its name unless the name is taken.

    By a hard link, or where the file system has none by a rename that refuses to replace
    (Linux ``renameat2(RENAME_NOREPLACE)``). Raises ``OSError`` if it can do neither.
    """
    try:
        os.link(temporary, final)
    except FileExistsError:
        # A network file system that sends a request twice reports the success of the first as this error.
        return os.stat(temporary).st_nlink > 1
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_exclusively(temporary, final)
    return True


def _rename_exclusively(temporary: str, final: str) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        raise OSError(
            errno.ENOSYS, "neither hard links nor an exclusive rename: this file system can't hold a store"
        )
    if (
        libc.renameat2(_AT_FDCWD, os.fsencode(temporary), _AT_FDCWD, os.fsencode(final), _RENAME_NOREPLACE)
        == 0
    ):
        return True
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        return False
    if code in _NO_LINKS:
        raise OSError(code, "neither hard links nor an exclusive rename: this file system can't hold a store")
    raise OSError(code, os.strerror(code))
