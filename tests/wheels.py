"""Packages small enough to be made by a test, in a folder that pip takes for an index."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def wheel(folder: Path, name: str, version: str, needs: Iterable[str] = (), source: str = "") -> Path:
    """Make a package of one module, which says its version."""
    folder.mkdir(parents=True, exist_ok=True)
    about = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {each}" for each in needs]
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", f"version = {version!r}\n{source}")
        file.writestr(f"{about}/METADATA", "\n".join(metadata) + "\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    return path


def stuck(folder: Path, port: int) -> str:
    """Make a package whose build connects to a port of this machine and then waits for ever; returns its file's name."""
    backend = f"import socket\n\nsocket.create_connection(('127.0.0.1', {port})).recv(1)\n"
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    with tarfile.open(folder / "stuck-1.0.tar.gz", "w:gz") as file:
        for name, text in (("backend.py", backend), ("pyproject.toml", project)):
            about = tarfile.TarInfo(f"stuck-1.0/{name}")
            about.size = len(text)
            file.addfile(about, io.BytesIO(text.encode()))
    return "stuck-1.0.tar.gz"


def asked_for(file: Path, *lines: str, wheels: str = "wheels") -> str:
    """Write a requirements file that looks in a folder beside it, and nowhere else; returns its name."""
    file.write_text("\n".join([f"--no-index --find-links {wheels}", *lines]) + "\n")
    return file.name
