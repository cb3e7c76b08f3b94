"""How values become bytes: an ordered registry, the first serializer that takes a value wins.

``json`` small plain values, in the record itself. ``typed-json`` small values that plain JSON would change, there too.
``parquet`` tables. ``dask`` tables in parts. ``pickle`` everything else.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, BinaryIO

from daskflow.errors import DataException, InternalError
from daskflow.store.serializers import lazy_tables
from daskflow.store.serializers.base import INLINE_LIMIT, Encoded, Refused, Serializer, type_name
from daskflow.store.serializers.dask_frames import DaskSerializer
from daskflow.store.serializers.json_value import JsonSerializer
from daskflow.store.serializers.parquet import ParquetSerializer
from daskflow.store.serializers.pickles import PickleSerializer, pickle_fingerprint
from daskflow.store.serializers.typed_json import TypedJsonSerializer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = [
    "INLINE_LIMIT",
    "SERIALIZERS",
    "Encoded",
    "Refused",
    "Serializer",
    "decode",
    "encode",
    "fingerprint",
    "type_name",
]

SERIALIZERS: tuple[Serializer, ...] = (
    JsonSerializer(),
    TypedJsonSerializer(),
    ParquetSerializer(),
    DaskSerializer(),
    PickleSerializer(),  # takes everything, so it is last
)

_IMMUTABLE = (type(None), bool, int, float, complex, str, bytes, range, type(Ellipsis))


def encode(value: Any, create: Callable[[str], BinaryIO], *, inline_limit: int = INLINE_LIMIT) -> Encoded:
    """Store a value.

    Parameters
    ----------
    value
        Anything; it is not changed.
    create
        Makes the file for the value: called with its suffix, at most once, and only if a file is needed. The
        file stays open and belongs to the caller.
    inline_limit
        Bytes up to which a value goes into the record instead (never a table).

    Raises
    ------
    UnpicklableArtifactException
        If nothing can hold the value; the cause is chained. A file may have been created by then: discard it.
    """
    why = ""
    lazy: dict[str, str] = {}
    for serializer in SERIALIZERS:
        if not serializer.takes(value):
            continue
        answer = serializer.encode(value, create, inline_limit)
        if isinstance(answer, Encoded):
            found = replace(answer, info=answer.info | {"why": why}) if why else answer
            return replace(found, type=lazy["lazy"], info=found.info | lazy) if lazy else found
        why = why or answer.why
        if answer.instead is not None:
            lazy, value = {"lazy": str(lazy_tables.kind_of(value))}, answer.instead
    raise InternalError(f"No serializer takes a value of type {type_name(value)}: {why}")


def decode(encoding: str, info: Mapping[str, Any], inline: Any, open_file: Callable[[], BinaryIO]) -> Any:
    """Load a value.

    Parameters
    ----------
    encoding, info, inline
        As :func:`encode` returned them.
    open_file
        Opens the value's file, seekable; called only if the value is not inline.

    Raises
    ------
    DataException
        If no serializer has this encoding, or what the value needs to be loaded is not to be had here.
    DataMissing
        If the file is damaged.
    """
    for serializer in SERIALIZERS:
        if serializer.encoding == encoding:
            value = serializer.decode(info, inline, open_file)
            if "lazy" in info and lazy_tables.kind_of(value) is None:
                return lazy_tables.over(info["lazy"], value)
            return value
    known = ", ".join(serializer.encoding for serializer in SERIALIZERS)
    raise DataException(
        f"The value has encoding {encoding!r}; this version of daskflow knows {known}. Install a newer one."
    )


def fingerprint(value: Any) -> str | None:
    """Identity of a value within this process, for finding what was changed in place.

    Two calls on an unchanged value give the same text, a changed value gives another. If that can't be told
    each call gives a new text. None stands for a type whose values can't be changed in place. Never raises
    for a value that can't be stored.
    """
    try:
        if _is_immutable(value):
            return None
        serializer = next(each for each in SERIALIZERS if each.takes(value))
        own: Callable[[Any], str | None] = getattr(serializer, "fingerprint", pickle_fingerprint)
        return own(value)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - "can't tell" counts as changed, and then storing the value says why
        return f"unknown-{uuid.uuid4().hex}"


def _is_immutable(value: Any) -> bool:
    if type(value) in (tuple, frozenset):
        return all(map(_is_immutable, value))
    return type(value) in _IMMUTABLE
