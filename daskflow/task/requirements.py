"""What a run's tasks need beside the worker's own packages: the file of ``--requirements``, as it was when the run started."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from daskflow.errors import RequirementsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PINNED = ("daskflow", "cloudpickle", "pyarrow", "dask", "distributed")
"""What the driver and the tasks speak and store by: the tasks have the driver's versions."""

_INCLUDES = re.compile(
    r"(?:-(?P<short>[rce])\s*=?\s*|--(?P<long>requirement|constraint|editable)(?:\s+|\s*=\s*))(?P<value>\S.*)"
)
_FOLDER_OF_LINKS = re.compile(r"(?P<before>(?:^|\s)(?:-f\s*|--find-links(?:\s+|=)))(?P<path>\S+)")
_ARCHIVES = (".whl", ".tar.gz", ".zip")
_FILE_URL = re.compile(r"(?:^|[\s@])file://(?:localhost)?(?P<path>/[^\s#;]+)(?![^\s;]*#)")
_EXTRAS = re.compile(r"(.*?)(\[[^\[\]]*\])?")
_NAME = re.compile(r".*?(?=-\d|$)")
"""What a file's name begins with: that of the package."""
_COMMENT = re.compile(r"(^|\s+)#.*$")
_OPTIONS_OF_LINE = re.compile(r"\s--?[a-z].*$")


@dataclass(frozen=True)
class Requirements:
    """A requirements file with those that it includes.

    Attributes
    ----------
    file
        Its name, for messages.
    text
        Its lines, comments left out, local paths absolute, included files in the place of the lines that include them.
    constraints
        The same of the files that it includes as constraints.
    """

    file: str
    text: str
    constraints: str = ""

    @property
    def hash(self) -> str:
        """Identity of all that it asks for."""
        return hashlib.sha256(f"{self.text}\0{self.constraints}".encode()).hexdigest()[:32]

    def describe(self) -> dict[str, Any]:
        """What goes into the run's record."""
        return {
            "file": self.file,
            "hash": self.hash,
            "text": self.text,
            "constraints": self.constraints,
        }


def read(path: str) -> Requirements:
    """The requirements in a file. Raises :class:`RequirementsError`."""
    found: dict[bool, list[str]] = {False: [], True: []}
    for line, is_constraint in _lines(path, False, ()):
        found[is_constraint].append(line + "\n")
    return Requirements(os.path.basename(path), "".join(found[False]), "".join(found[True]))


def of_record(record: Mapping[str, Any]) -> Requirements | None:
    """Those that a run's record tells, None if it has none."""
    told = record.get("requirements")
    return Requirements(told["file"], told["text"], told["constraints"]) if told else None


def pins() -> tuple[str, ...]:
    """What has to be the same for driver and tasks, as this process has it: ``dask==2025.9.1`` and the like."""
    found = []
    for name in PINNED:
        try:
            found.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found)


def check(requirements: Requirements, fixed: Sequence[str]) -> None:
    """See that the file itself does not ask for another version of what is pinned; what it asks for may still, as pip finds out.

    Raises :class:`RequirementsError`.
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    versions = dict(pin.split("==") for pin in fixed)
    for line in (requirements.text + requirements.constraints).splitlines():
        try:
            asked = Requirement(_OPTIONS_OF_LINE.sub("", line))
        except InvalidRequirement:  # an option, a path, or what pip will complain of
            continue
        version = versions.get(canonicalize_name(asked.name))
        if version is None or asked.specifier.contains(version, prereleases=True):
            continue
        if asked.marker is None or asked.marker.evaluate():
            raise RequirementsError(
                f"{requirements.file} asks for {asked.name}{asked.specifier}, but tasks must have {asked.name} {version}, as "
                "the command that starts the run has it: leave it out, or install the other version here."
            )


def _lines(path: str, is_constraint: bool, within: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """What a file asks for, line by line, and whether as a constraint."""
    place = os.path.realpath(path)
    if place in within:
        raise RequirementsError(f"{path} includes itself.")
    folder = os.path.dirname(place)
    for line in _joined(_text(path)):
        found = _INCLUDES.fullmatch(line)
        kind = (found["short"] or found["long"][0]) if found else ""
        if kind == "e":
            raise _is_folder(path, line)
        if found and "://" not in found["value"]:
            inner = os.path.join(folder, found["value"].strip())
            yield from _lines(inner, is_constraint or kind == "c", (*within, place))
        else:
            yield _absolute(line, folder, path), is_constraint


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except OSError as error:
        raise RequirementsError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise RequirementsError(f"{path} is no text in UTF-8.") from error


def _joined(text: str) -> Iterator[str]:
    """Its lines as pip sees them: without comments, those that end with a backslash with the next."""
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        if bare := _COMMENT.sub("", line).strip():
            yield bare


def _absolute(line: str, folder: str, file: str) -> str:
    """A line of ``file`` that means the same wherever it stands, and as long as the run goes on."""

    def links(found: re.Match[str]) -> str:
        place = os.path.join(folder, found["path"])
        return found["before"] + (place if os.path.exists(place) else found["path"])

    first, options = line.partition(" ")[::2]
    path, extras = _EXTRAS.fullmatch(first).groups("")  # type: ignore[union-attr] # it matches all there is
    if not line.startswith("-") and (os.sep in path or path in (".", "..") or path.endswith(_ARCHIVES)):
        place = os.path.join(folder, path)
        if os.path.isdir(place):
            raise _is_folder(file, line)
        if os.path.isfile(place):
            name = f"{_NAME.match(os.path.basename(path))[0]}{extras} @ " if extras else ""  # type: ignore[index] # as above
            return f"{name}{Path(os.path.abspath(place)).as_uri()}{_fragment(place)} {options}".strip()
        if not (os.path.isabs(path) or ":" in path or "$" in path):
            raise RequirementsError(f"{file} asks for '{line}', but there is no {place}.")
    if (found := _FILE_URL.search(line)) and not line.startswith("-"):
        place = unquote(found["path"])
        if os.path.isdir(place):
            raise _is_folder(file, line)
        if os.path.isfile(place):
            return line[: found.end()] + _fragment(place) + line[found.end() :]
    return _FOLDER_OF_LINKS.sub(links, line)


def _fragment(place: str) -> str:
    """What tells the content of a file, which pip checks: built again, it is another requirement."""
    with open(place, "rb") as file:
        return f"#sha256={hashlib.file_digest(file, 'sha256').hexdigest()}"


def _is_folder(file: str, line: str) -> RequirementsError:
    return RequirementsError(
        f"{file} asks for the folder of '{line}' as it will be: tasks of a run have one version of everything. Build a "
        "wheel of it (pip wheel), or let the flow import its modules from beside its file."
    )
