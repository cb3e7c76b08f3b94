"""Packages: what a flow's folder held when a run started, so that it can be laid out elsewhere.

Runs of a flow share them: there is one archive for each content, and it is never written twice.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from daskflow.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daskflow.store.layout import Layout
    from daskflow.store.storage import Storage

LEVEL = 3
"""Of compression: sources become hardly smaller by more."""
_WHEN = (1980, 1, 1, 0, 0, 0)
"""The time of all files in an archive: that of the disk is no part of the content."""
_PROGRAM, _FILE = 0o755, 0o644


@dataclass(frozen=True)
class Package:
    """Files of a folder.

    Attributes
    ----------
    files
        Content by path relative to the folder, with ``/`` between the parts.
    programs
        Those of them that may be executed.
    """

    files: Mapping[str, bytes]
    programs: frozenset[str] = frozenset()

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file, by path, sorted."""
        return {path: hashlib.sha256(self.files[path]).hexdigest() for path in sorted(self.files)}

    @cached_property
    def hash(self) -> str:
        """Identity of the content: of paths, bytes and what may be executed."""
        lines = (json.dumps([path, digest, path in self.programs]) for path, digest in self.hashes.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]

    def describe(self) -> dict[str, Any]:
        """What goes into the run's record; ``size`` in bytes."""
        return {"hash": self.hash, "size": sum(map(len, self.files.values())), "files": self.hashes}


def save(package: Package, storage: Storage, layout: Layout) -> None:
    """Keep a package among those of its flow, unless it is there already."""
    path = layout.package(package.hash)
    if not storage.exists(path):
        storage.create(path, _archive(package))


def read(storage: Storage, layout: Layout, told: Mapping[str, Any]) -> Package:
    """The package of which a run's record tells ``told``.

    Raises :class:`StoreError` if it is missing, or is not what the record says.
    """
    import zipfile

    path = layout.package(told["hash"])
    where = storage.locate(path)
    if outside := [each for each in told["files"] if each.startswith("/") or ".." in each.split("/")]:
        raise StoreError(f"The record of the run's code, for {where}, has a file outside: {outside[0]}.")
    try:
        with zipfile.ZipFile(io.BytesIO(storage.read(path))) as archive:
            files = {each: archive.read(each) for each in told["files"]}
            programs = {each for each in files if archive.getinfo(each).external_attr >> 16 & 0o100}
    except FileNotFoundError:
        raise StoreError(f"{where}, the package of the run's code, is missing.") from None
    except (zipfile.BadZipFile, KeyError, NotImplementedError, EOFError) as error:
        raise StoreError(f"{where}, the package of the run's code, is damaged: {error}.") from error
    package = Package(files, frozenset(programs))
    if package.hash != told["hash"] or package.hashes != told["files"]:
        raise StoreError(f"{where}, the package of the run's code, was changed by hand.")
    return package


def _archive(package: Package) -> bytes:
    import zipfile

    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for path in package.hashes:
            about = zipfile.ZipInfo(path, _WHEN)
            about.create_system = 3  # where the bits below mean something
            about.external_attr = (0o100000 | (_PROGRAM if path in package.programs else _FILE)) << 16
            archive.writestr(about, package.files[path], zipfile.ZIP_DEFLATED, LEVEL)
    return written.getvalue()
