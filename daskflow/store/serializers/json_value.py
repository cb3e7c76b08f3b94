"""Small plain values, kept in the record itself as JSON where the round trip is exact."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import xxhash

from daskflow.store.serializers.base import Create, Encoded, OpenFile, Refused, Serializer, type_name

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_DEPTH = 50
"""Nesting that any JSON reader copes with."""
MAX_INT_BITS = 8_192
"""Longer integers are refused by Python's own JSON reader (4,300 digits)."""

_SCALARS = (type(None), bool, int, float, str)


class JsonSerializer(Serializer):
    """None, bool, int, finite float, str, and lists and dicts (with str keys) of exactly these types.

    Refused, because JSON would give something else back: subclasses, tuples, NaN, strings that are no valid
    Unicode, anything shared or cyclic. Refused as well: what is too large for the record.
    """

    encoding = "json"

    def takes(self, value: Any) -> bool:
        """Whether the outermost type is one of JSON's."""
        return type(value) in _SCALARS or type(value) in (list, dict)

    def encode(self, value: Any, create: Create, inline_limit: int) -> Encoded | Refused:
        """Store ``value`` inline; the order of a dict is part of it."""
        if not is_exact(value, inline_limit):
            return Refused()
        text = canonical(value)
        if len(text) > inline_limit:
            return Refused()
        digest = xxhash.xxh3_128(b"json\0" + text).hexdigest()
        return Encoded(self.encoding, digest, len(text), type_name(value), inline=_copy(value))

    def decode(self, info: Mapping[str, Any], inline: Any, open_file: OpenFile) -> Any:
        """A copy, so that a change of the value never reaches the record it came from."""
        return _copy(inline)


def canonical(value: Any) -> bytes:
    """The one JSON text of an exact value: no spaces, UTF-8, dicts in their own order."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def is_exact(value: Any, limit: int) -> bool:
    """Whether JSON gives ``value`` back exactly; may say yes to a text somewhat longer than ``limit``."""
    return _Check(limit).passes(value, 0)


class _Check:
    """One walk over a value that stops as soon as the answer is no or the text is too long."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._seen: set[int] = set()

    def passes(self, value: Any, depth: int) -> bool:
        kind = type(value)
        self._budget -= 1
        if kind in _SCALARS:
            return self._scalar(value)
        if kind not in (list, dict) or depth >= MAX_DEPTH or self._budget < 0:
            return False
        if id(value) in self._seen:  # JSON would make two of it, or never end
            return False
        self._seen.add(id(value))
        if kind is list:
            return all(self.passes(item, depth + 1) for item in value)
        return all(
            type(key) is str and self._scalar(key) and self.passes(item, depth + 1)
            for key, item in value.items()
        )

    def _scalar(self, value: Any) -> bool:
        kind = type(value)
        if kind is str:
            self._budget -= len(value)
            return self._budget >= 0 and _is_unicode(value)
        if kind is float:
            return math.isfinite(value) and self._budget >= 0
        if kind is int:
            self._budget -= value.bit_length() // 4
            return value.bit_length() <= MAX_INT_BITS and self._budget >= 0
        return self._budget >= 0


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _copy(value: Any) -> Any:
    if type(value) is list:
        return [_copy(item) for item in value]
    if type(value) is dict:
        return {key: _copy(item) for key, item in value.items()}
    return value
