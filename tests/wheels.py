"""Packages small enough to be made by a test, in a folder that pip takes for an index."""

from __future__ import annotations

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


def asked_for(file: Path, *lines: str, wheels: str = "wheels") -> str:
    """Write a requirements file that looks in a folder beside it, and nowhere else; returns its name."""
    file.write_text("\n".join([f"--no-index --find-links {wheels}", *lines]) + "\n")
    return file.name
