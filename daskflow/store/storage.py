"""Bytes under one root: durable writes, create-only commits, listings. Here for a local directory."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from daskflow.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


class Storage(Protocol):
    """One root that holds files under relative paths with ``/`` between the parts.

    A missing file is ``FileNotFoundError``; every other trouble is :class:`StoreError` with the path and the
    system's own words.
    """

    url: str

    def read(self, path: str) -> bytes:
        """The whole content of a file."""
        ...

    def open(self, path: str) -> BinaryIO:
        """A seekable reader."""
        ...

    def create(self, path: str, data: bytes) -> bool:
        """Publish a complete, durable file if there is none; False if there is one already."""
        ...

    def writer(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A writer for a file that no one else writes; durable once the block is left."""
        ...

    def append(self, path: str, data: bytes) -> None:
        """Add to the end of a file that no one else writes; not durable until the system sees fit."""
        ...

    def names(self, path: str) -> list[str]:
        """Names of files and folders directly below ``path``; empty if there is no such folder."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        ...

    def locate(self, path: str) -> str:
        """The path or URL by which any other program opens the file."""
        ...


def storage_at(url: str) -> Storage:
    """The storage at a directory.

    Raises :class:`StoreError` for a URL of another kind.
    """
    if "://" in url and not url.startswith("file://"):
        raise StoreError(f"'{url}' is not a directory; only directories can hold a store.")
    return LocalStorage(url.removeprefix("file://"))


class LocalStorage:
    """A directory of a POSIX file system."""

    def __init__(self, root: str) -> None:
        self.url = os.path.abspath(os.path.expanduser(root))

    def locate(self, path: str) -> str:
        """The absolute path."""
        return f"{self.url}/{path}"

    def read(self, path: str) -> bytes:
        """The whole content of a file."""
        with self._explained("read", path):
            return Path(self.locate(path)).read_bytes()

    def open(self, path: str) -> BinaryIO:
        """A seekable reader."""
        with self._explained("open", path):
            return open(self.locate(path), "rb")

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        return os.path.exists(self.locate(path))

    def names(self, path: str) -> list[str]:
        """Names directly below ``path``, unfinished temporary files left out."""
        with self._explained("list", path):
            try:
                return [name for name in os.listdir(self.locate(path)) if not name.startswith(".tmp-")]
            except (FileNotFoundError, NotADirectoryError):
                return []

    def create(self, path: str, data: bytes) -> bool:
        """Publish ``data`` under ``path`` unless something is there.

        A complete and fsynced temporary file is hard-linked to its name, which fails if the name is taken, and
        the folder is fsynced: after a crash there is all of the file or none of it.
        """
        final = self.locate(path)
        folder = os.path.dirname(final)
        with self._explained("create", path):
            make_folder(folder)
            temporary = f"{folder}/.tmp-{secrets.token_hex(8)}"
            try:
                write_durably(temporary, data)
                created = publish(temporary, final)
            finally:
                with contextlib.suppress(OSError):  # renamed away, or never made: nothing to clean
                    os.unlink(temporary)
            if created:
                sync_folder(folder)
            return created

    @contextlib.contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        """A writer whose file is durable once the block is left; an error leaves no file."""
        final = self.locate(path)
        folder = os.path.dirname(final)
        with self._explained("write", path):
            make_folder(folder)
            try:
                with open(final, "wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
            except BaseException:
                with contextlib.suppress(OSError):  # the disk may be the very thing that failed
                    os.unlink(final)
                raise
            sync_folder(folder)

    def append(self, path: str, data: bytes) -> None:
        """Add to the end of a file."""
        final = self.locate(path)
        with self._explained("append to", path):
            make_folder(os.path.dirname(final))
            with open(final, "ab") as file:
                file.write(data)

    @contextlib.contextmanager
    def _explained(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            if (
                error.errno is None
            ):  # raised by a library about its own affairs, not by the system about this file
                raise
            reason = error.strerror or str(error)
            raise StoreError(f"Can't {verb} {self.locate(path)}: {reason}.") from error


def make_folder(folder: str) -> None:
    """Make a folder and its parents; each new one is recorded durably in its parent."""
    try:
        os.mkdir(folder)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_folder(os.path.dirname(folder))
        make_folder(folder)
        return
    sync_folder(os.path.dirname(folder))


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
        return False
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
