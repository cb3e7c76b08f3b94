"""Where a task's flow stands: in the driver's folder where that is to be seen, else in a copy of the run's package.

A copy belongs to an account of a machine and to a content; all workers and runs there use it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskflow.errors import PackageError
from daskflow.store import packages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from daskflow.store.runs import RunStore

UNUSED_DAYS = 30
"""A copy, or an environment of requirements, that nobody has used for so long makes room."""
_SHARED_KINDS = frozenset({"beegfs", "gpfs", "wekafs"})
"""File systems of many machines whose source does not look like one of another machine."""
_NOTE, _FILES = "files.json", "files"


@dataclass(frozen=True)
class Place:
    """Where a flow's folder and the working directory of its tasks are."""

    root: str
    cwd: str


def identity(root: str) -> dict[str, Any]:
    """What tells the driver's folder from others, also if they have its path."""
    root = os.path.realpath(root)
    about = os.stat(root)
    return {"root": root, "cwd": os.getcwd(), "machine": _boot(), "device": about.st_dev} | {
        "number": about.st_ino,
        "shared": shared_source(about.st_dev, Path("/proc/self/mountinfo").read_text()),
    }


def is_here(folder: Mapping[str, Any]) -> bool:
    """Whether this process sees the driver's folder, under its path: on the driver's machine, or by the network."""
    try:
        here = identity(folder["root"])
    except OSError:
        return False
    if here["number"] != folder["number"]:
        return False
    if here["machine"] == folder["machine"]:
        return bool(here["device"] == folder["device"])
    return here["shared"] is not None and here["shared"] == folder["shared"]


def shared_source(device: int, mounts: str) -> str | None:
    """From where a device of ``/proc/self/mountinfo`` is mounted, if it is one that many machines share."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        mount, _, system = line.partition(" - ")
        if mount.split()[2] != wanted:
            continue
        kind, source = system.split()[:2]
        if ":" in source or source.startswith("//") or kind in _SHARED_KINDS:
            return source
    return None


def place(store: RunStore, snapshot: int, folder: Mapping[str, Any]) -> Place | None:
    """Where the flow of a run stands that is not in the driver's folder; None if it is, or has no package.

    Parameters
    ----------
    store, snapshot
        The run, and the driver session whose code it runs.
    folder
        The driver's, see :func:`identity`.

    Raises :class:`PackageError` if there is no place for a copy, :class:`StoreError` if the package can't be had.
    """
    if is_here(folder):
        return None
    told = store.code(snapshot)
    if "package" not in told:
        return None
    root, cwd = folder["root"], folder["cwd"]
    below = (
        os.path.relpath(root, cwd) if _is_in(root, cwd) else "."
    )  # so that paths from there lead to the same
    files = unpack(store, told["package"], below)
    copy = os.path.normpath(os.path.join(files, below))
    if _is_in(root, cwd):
        return Place(copy, files)
    at = os.path.normpath(os.path.join(copy, os.path.relpath(cwd, root) if _is_in(cwd, root) else "."))
    os.makedirs(at, exist_ok=True)
    return Place(copy, at)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def unpack(store: RunStore, told: Mapping[str, Any], below: str = ".") -> str:
    """The folder that holds, at ``below``, the files of a package as they were packed; made if it is not there.

    Of several that want it at once one makes it. What a task has changed in it is made anew, elsewhere.

    Raises :class:`PackageError` if it can't be made, :class:`StoreError` if the package can't be had.
    """
    try:
        return _unpack(store, told, below)
    except OSError as error:
        raise PackageError(
            f"The run's code can't be laid out in {tempfile.gettempdir()}: {error.strerror or error}. Make room there, or start the "
            "workers with another TMPDIR."
        ) from error


def _unpack(store: RunStore, told: Mapping[str, Any], below: str) -> str:
    shelf = _shelf()
    name = told["hash"]
    if below != ".":
        name += f"-{hashlib.sha256(below.encode()).hexdigest()[:8]}"
    entry = shelf / name
    if not _is_whole(entry):
        with _locked(shelf / f"{name}.lock"):
            if not _is_whole(entry):  # nobody was faster
                new = shelf / f"{name}.{secrets.token_hex(4)}"
                _lay_out(packages.read(store.storage, store.layout, told), new, below)
                with contextlib.suppress(FileNotFoundError):  # tasks that are in the old one can stay there
                    entry.rename(shelf / f"{new.name}.old")
                new.rename(entry)
                make_room(shelf)
    with contextlib.suppress(FileNotFoundError):  # it is being made anew just now
        os.utime(entry)
    return str(entry / _FILES)


def _shelf() -> Path:
    """The account's folder of copies on this machine. Raises :class:`PackageError` if another could write there."""
    home = Path(tempfile.gettempdir(), f"daskflow-{os.getuid()}")
    home.mkdir(mode=0o700, exist_ok=True)
    about = home.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise PackageError(
            f"{home} is not a folder of this account alone, so the run's code can't be laid out there. Remove it, or start the workers with another "
            "TMPDIR."
        )
    shelf = home / "packages"
    shelf.mkdir(mode=0o700, exist_ok=True)
    return shelf


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_whole(entry: Path) -> bool:
    """Whether the files are as they were laid out: a task may have changed them, or who cleans temporary folders."""
    try:
        noted = json.loads((entry / _NOTE).read_text())
        files = f"{entry}/{_FILES}/"
        return all(_seen(files + path) == seen for path, seen in noted.items())
    except (OSError, ValueError):
        return False


def _seen(path: str) -> list[int]:
    about = os.stat(path)
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns]


def _lay_out(package: packages.Package, entry: Path, below: str) -> None:
    try:
        files, noted = f"{entry}/{_FILES}/", {}
        for folder in {os.path.dirname(path) for path in package.files} | {""}:
            os.makedirs(os.path.join(files, below, folder), exist_ok=True)
        for path, content in package.files.items():
            inside = os.path.normpath(os.path.join(below, path))
            with open(files + inside, "wb") as file:
                file.write(content)
            if path in package.programs:
                os.chmod(files + inside, 0o755)
            noted[inside] = _seen(files + inside)
        (entry / _NOTE).write_text(json.dumps(noted))
    except BaseException:
        shutil.rmtree(entry, ignore_errors=True)
        raise


def make_room(shelf: Path) -> None:
    """Remove the folders in ``shelf`` that nobody has used for long, as the times tell that they were changed at."""
    oldest = time.time() - UNUSED_DAYS * 24 * 3600
    for each in shelf.iterdir():
        with contextlib.suppress(OSError):  # another worker does so too
            if each.is_dir() and each.stat().st_mtime < oldest:
                shutil.rmtree(each, ignore_errors=True)


def _boot() -> str:
    """What tells a running machine from others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
