"""Which files of a flow's folder travel with a run, and their content as it was at one moment.

Never among them: what is hidden (its name begins with a dot), ``__pycache__`` and what else tools fill, virtual environments, the
store, and what ``.daskflowignore`` names.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskflow.errors import PackageError
from daskflow.store.packages import Package

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from daskflow.task.code import Code

IGNORE_FILE = ".daskflowignore"
"""Beside the flow: patterns of what stays behind, in the syntax of ``.gitignore``."""
SUFFIXES = (
    ".py",
    ".sql",
    ".json",
    ".yaml",
    ".yml",
    ".toml",
    ".ini",
    ".cfg",
    ".txt",
    ".md",
    ".csv",
    ".tsv",
    ".html",
    ".jinja",
    ".j2",
)
"""What travels without being asked for: code, and what code reads."""
ANY = "*"
"""Stands for every suffix."""
MOST_FILES = 10_000
_NEVER = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")
"""One of these stands in a folder that is a virtual environment."""
LOOKS = 4
"""How often the folder is looked at, to find that nothing changed since the last time."""
_TOLD = 5
_Signature = tuple[int, int, int, int]


@dataclass(frozen=True)
class Selection:
    """What of a folder is to travel.

    Attributes
    ----------
    suffixes
        Beside :data:`SUFFIXES`; :data:`ANY` for whatever there is.
    most_bytes
        Largest size of all files together.
    store
        The store, which is left out where it is a directory.
    """

    suffixes: tuple[str, ...] = ()
    most_bytes: int = 100_000_000
    store: str | None = None

    @property
    def endings(self) -> tuple[str, ...]:
        """How the names of files end that are wanted."""
        return ("",) if ANY in self.suffixes else (*SUFFIXES, *self.suffixes)


def pack(code: Code, selection: Selection) -> Package:
    """The files of the folder of a flow, the modules that it imports as they are in ``code``.

    They are read until no file has changed since it was read, so what is packed has been there at one moment.

    Raises :class:`PackageError` if they are too large or too many (nothing is read then), if one can't be read, or if one
    changes all the time.
    """
    read: dict[str, tuple[_Signature, bytes]] = {}
    changed: list[str] = []
    for _ in range(LOOKS):
        found = choose(code.root, selection)
        changed = [path for path in found if path not in read or read[path][0] != _signature(found[path])]
        if not changed:
            programs = {path for path, about in found.items() if about.st_mode & stat.S_IXUSR}
            files = {path: read[path][1] for path in found} | dict(code.files)
            return Package(files, frozenset(programs))
        for path in changed:
            read[path] = _read(code.root, path)
    raise PackageError(
        f"{os.path.join(code.root, changed[0])} changes while it is packed for the workers. Wait until it is written, or name it in "
        f"{os.path.join(code.root, IGNORE_FILE)}."
    )


def choose(root: str, selection: Selection) -> dict[str, os.stat_result]:
    """The files that travel, by path relative to ``root``; nothing is read of them.

    Raises :class:`PackageError` if they are too large or too many, or if a folder can't be read.
    """
    found: dict[str, os.stat_result] = {}
    for path, about in _files(root, selection):
        found[path] = about
        if len(found) > MOST_FILES:
            raise PackageError(_too_many(root, found))
    size = sum(about.st_size for about in found.values())
    if size > selection.most_bytes:
        raise PackageError(_too_large(root, found, size, selection.most_bytes))
    return found


def _files(root: str, selection: Selection) -> Iterator[tuple[str, os.stat_result]]:
    ignored = _ignored(root)
    endings = selection.endings
    store = selection.store
    store = None if store is None or "://" in store else os.path.realpath(store)
    waiting: list[tuple[str, tuple[tuple[int, int], ...]]] = [("", ())]
    while waiting:
        folder, above = waiting.pop()
        place = os.path.join(root, folder) if folder else root
        about = _explained(place, os.stat)
        me = (about.st_dev, about.st_ino)
        if me in above or (folder and os.path.realpath(place) == store):  # a link that leads upwards
            continue
        entries = _explained(place, _entries)
        if folder and any(each in entries for each in _ENVIRONMENTS):
            continue
        for name, entry in sorted(entries.items()):
            path = f"{folder}/{name}" if folder else name
            if name.startswith(".") or name in _NEVER:
                continue
            if _is_folder(entry):
                if ignored is None or not ignored.match_file(path + "/"):
                    waiting.append((path, (*above, me)))
            elif name.endswith(endings) and (ignored is None or not ignored.match_file(path)):
                file = _file(entry)
                if file is not None:
                    yield _as_text(root, path), file


def _entries(place: str) -> dict[str, os.DirEntry[str]]:
    with os.scandir(place) as entries:
        return {entry.name: entry for entry in entries}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _file(entry: os.DirEntry[str]) -> os.stat_result | None:
    """A file's size and times; None if it is a link to nowhere, a socket and the like."""
    try:
        about = entry.stat()
    except OSError:
        return None
    return about if stat.S_ISREG(about.st_mode) else None


def _explained(path: str, look: Any) -> Any:
    try:
        return look(path)
    except OSError as error:
        raise PackageError(
            f"{path} can't be read: {error.strerror}. Workers elsewhere get what is beside the flow; name what they don't need in "
            f"{IGNORE_FILE}."
        ) from error


def _as_text(root: str, path: str) -> str:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise PackageError(
            f"The name of {os.path.join(root, path)!r} is not UTF-8, so it can't be packed for the workers. Rename it."
        ) from None
    return path


def _ignored(root: str) -> Any:
    """What matches paths that stay behind, None if there is no ignore file."""
    file = Path(root, IGNORE_FILE)
    if not os.path.lexists(file):
        return None
    from pathspec import GitIgnoreSpec

    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise PackageError(
            f"{file} can't be read: {error.strerror}. It names what stays behind, in the syntax of .gitignore: mend or remove it."
        ) from error
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise PackageError(f"{file} has a pattern that is none: {error}.") from error


def _signature(about: os.stat_result) -> _Signature:
    return about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _read(root: str, path: str) -> tuple[_Signature, bytes]:
    """A file as it is now; what is told of it is older than its content, so that a change in between shows."""

    def look(place: str) -> tuple[_Signature, bytes]:
        with open(place, "rb") as file:
            about = os.fstat(file.fileno())
            return _signature(about), file.read(about.st_size + 1)

    try:
        return look(os.path.join(root, path))
    except FileNotFoundError:  # it has just gone, which the next look shows
        return (0, 0, 0, 0), b""
    except OSError:
        result: tuple[_Signature, bytes] = _explained(os.path.join(root, path), look)
        return result


def _too_large(root: str, found: Mapping[str, os.stat_result], size: int, most: int) -> str:
    largest = sorted(found, key=lambda path: -found[path].st_size)[:_TOLD]
    told = ", ".join(f"{path} ({_megabytes(found[path].st_size)})" for path in largest)
    folders: Counter[str] = Counter()
    for path, about in found.items():
        folders[path.rpartition("/")[0] or "."] += about.st_size
    in_all = ", ".join(f"{folder} ({_megabytes(of)})" for folder, of in folders.most_common(_TOLD))
    return (
        f"Workers elsewhere get the files beside the flow, but those in {root} have {_megabytes(size)}, more than {_megabytes(most)}. The largest: "
        f"{told}; by folder: {in_all}. Name what the steps don't read in {os.path.join(root, IGNORE_FILE)}, which has the syntax of .gitignore, or raise "
        "DASKFLOW_MAX_PACKAGE_SIZE (megabytes)."
    )


def _too_many(root: str, found: Mapping[str, os.stat_result]) -> str:
    folders = Counter(path.rpartition("/")[0] or "." for path in found).most_common(_TOLD)
    told = ", ".join(f"{folder} ({count:,})" for folder, count in folders)
    return (
        f"Workers elsewhere get the files beside the flow, but {root} has more than {MOST_FILES:,}. Most of those seen are in: {told}. "
        f"Name what the steps don't read in {os.path.join(root, IGNORE_FILE)}, which has the syntax of .gitignore."
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
