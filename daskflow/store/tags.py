"""Tags of a run: fixed ones that say where it is from, and the user's, which may change at any time.

A store has create-only writes alone, so the user's tags are a chain of files: ``tags/0.json``, ``tags/1.json``, each with
the complete set, each made only if there is none of that number. The highest counts; before the first, the tags in
``run.json`` do. Who finds a number taken has lost a race, reads what the other wrote and starts from there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskflow.errors import StoreError, TaggingError
from daskflow.store import records

if TYPE_CHECKING:
    from collections.abc import Iterable

    from daskflow.store.runs import RunStore

LONGEST_TAG = 500
"""Characters of a tag."""
MOST_TAGS = 50
"""Tags that a user may give a run."""

_VERSION = re.compile(r"([0-9]+)\.json")


@dataclass(frozen=True)
class Tags:
    """The tags of a run at one moment.

    Attributes
    ----------
    user
        Those that users gave it.
    system
        Those that it was started with and that nobody can change.
    """

    user: frozenset[str]
    system: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        """Both."""
        return self.user | self.system


def check_tags(tags: Iterable[str] | str) -> tuple[str, ...]:
    """The tags a run may be started with, each once, in their order; a string alone is one tag.

    Raises :class:`TaggingError` if one is no text of 1 to :data:`LONGEST_TAG` characters that UTF-8 can hold, or there
    are more than :data:`MOST_TAGS`.
    """
    found = _checked(tags)
    _check_number(found)
    return found


def system_tags(user: str, versions: dict[str, str]) -> list[str]:
    """The fixed tags of a run that ``user`` starts.

    ``versions`` are those in ``run.json``: ``{"python": "3.11.7", ...}`` gives ``python_version:3.11.7`` and so on.
    """
    return [f"user:{user}", "runtime:dev", *(f"{name}_version:{found}" for name, found in versions.items())]


def read_tags(run: RunStore, record: dict[str, Any]) -> Tags:
    """The tags of a run as they are now.

    ``record`` is the content of its ``run.json``; the system tags of one without follow from who started it.
    Raises :class:`StoreError` if the latest set is damaged.
    """
    return _latest(run, record)[1]


def change_tags(run: RunStore, *, remove: Iterable[str] | str = (), add: Iterable[str] | str = ()) -> Tags:
    """First remove tags of a run, then add some, as one change; returns what the tags are then.

    Of any number of processes that do this at once, each has its effect. To remove a tag that is not there, or to add
    one that is, changes nothing.

    Raises :class:`TaggingError`, and changes nothing, if a tag is none (see :func:`check_tags`), if one to remove is
    a system tag, or if there were to be too many.
    """
    removed, added = frozenset(_checked(remove)), frozenset(_checked(add))
    record = run.record()
    while True:
        version, tags = _latest(run, record)
        if fixed := removed & tags.system:
            raise TaggingError(
                f"{_listed(fixed)} can't be removed from {run.flow}/{run.run}: system tags are fixed. "
                f"Its user tags are {_listed(tags.user) or 'none'}."
            )
        changed = (tags.user - removed) | (added - tags.system)
        if changed == tags.user:
            return tags
        _check_number(changed)
        content = records.encode({"format": records.FORMAT, "tags": sorted(changed)})
        if run.storage.create(run.layout.tags(version + 1), content):
            return Tags(changed, tags.system)


def _latest(run: RunStore, record: dict[str, Any]) -> tuple[int, Tags]:
    """The number of the latest change, -1 if there was none, and the tags it left."""
    found = map(_VERSION.fullmatch, run.storage.names(run.layout.tags()))
    version = max((int(match[1]) for match in found if match), default=-1)
    path, latest = run.layout.run_record, record.get("tags", [])
    if version >= 0:
        path = run.layout.tags(version)
        latest = (run.read(path) or {}).get("tags")
    if not isinstance(latest, list) or not all(isinstance(tag, str) for tag in latest):
        raise StoreError(f"{run.storage.locate(path)} is damaged: 'tags' is no list of strings.")
    system = frozenset(
        record.get("system_tags") or system_tags(record.get("user", ""), record.get("versions", {}))
    )
    return version, Tags(frozenset(latest) - system, system)


def _checked(tags: Iterable[str] | str) -> tuple[str, ...]:
    try:
        found = tuple(dict.fromkeys([tags] if isinstance(tags, str) else tags))
    except TypeError:
        raise TaggingError(f"Tags are strings; {tags!r} is none, nor a list of some.") from None
    for tag in found:
        if not isinstance(tag, str):
            raise TaggingError(f"A tag is a string; {tag!r} is of type {type(tag).__name__}.")
        if not tag:
            raise TaggingError("A tag is empty; give it at least one character.")
        if len(tag) > LONGEST_TAG:
            raise TaggingError(f"A tag has at most {LONGEST_TAG} characters; '{tag[:20]}...' has {len(tag)}.")
        try:
            tag.encode()
        except UnicodeEncodeError:
            raise TaggingError(f"A tag is text that UTF-8 can hold; {tag!r} is not.") from None
    return found


def _check_number(tags: Iterable[str]) -> None:
    number = len(list(tags))
    if number > MOST_TAGS:
        raise TaggingError(
            f"A run has at most {MOST_TAGS} user tags; it would have {number}. Remove some first."
        )


def _listed(tags: frozenset[str]) -> str:
    return ", ".join(map(repr, sorted(tags)))
