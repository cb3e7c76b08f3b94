"""Small values that JSON alone would change, kept in the record as JSON that also says their types.

Where plain JSON would give another value back stands an object with one key, ``$`` and the type's name::

    {"$float": "nan"}                     also "-nan", "inf", "-inf"
    {"$tuple": [1, 2]}
    {"$set": [1, 2]}                      sorted; also $frozenset
    {"$dict": [[1, "one"]]}               keys that are not text, or would look like a tag
    {"$bytes": "AAE="}                    base64
    {"$numpy.float64": 0.5}               and the others of NUMPY; not finite: "nan", ...
    {"$decimal.Decimal": "1.10"}
    {"$datetime.date": "2024-02-29"}      also $datetime.time
    {"$datetime.datetime": "2024-02-29T12:00:00+00:00"}
    {"$datetime.datetime": ["2024-02-29T12:00:00", "Asia/Tokyo"]}
    {"$datetime.timedelta": {"days": 1, "seconds": 0, "microseconds": 5}}
    {"$pandas.Timestamp": ["2024-02-29T12:00:00", "ns"]}
    {"$pandas.Timestamp": ["2024-02-29T12:00:00+09:00", "ns", "Asia/Tokyo"]}
    {"$pandas.Timedelta": ["P1DT0H0M0S", "ns"]}

Reading imports NumPy or pandas only for a tag of theirs, and calls nothing but what stands in this module.
"""

from __future__ import annotations

import base64
import binascii
import math
import pickle
import sys
from typing import TYPE_CHECKING, Any

import xxhash

from daskflow.errors import DataException, DataMissing
from daskflow.store.serializers.base import Create, Encoded, OpenFile, Refused, Serializer, type_name
from daskflow.store.serializers.json_value import MAX_DEPTH, MAX_INT_BITS, canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PLAIN = (type(None), bool, int, float, str)
_GROUPS = (list, dict, tuple, set, frozenset)

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_REALS = ("float16", "float32", "float64")
NUMPY = ("bool", *_INTEGERS, *_REALS, "str_")
"""Scalars of NumPy that have a tag."""


class TypedJsonSerializer(Serializer):
    """What :mod:`typed_json <daskflow.store.serializers.typed_json>` lists, nested as one likes.

    Refused, because it would come back as something else: subclasses (enums and named tuples are such), what is shared or
    cyclic, strings that are no valid Unicode, NaNs with a payload, times with a zone that has no name. Refused as well:
    what is too large for the record.
    """

    encoding = "typed-json"

    def takes(self, value: Any) -> bool:
        """Whether the outermost type has a form."""
        return type(value) in _PLAIN or type(value) in _GROUPS or _scalar(type(value)) is not None

    def encode(self, value: Any, create: Create, inline_limit: int) -> Encoded | Refused:
        """Store ``value`` inline. The order of a dict is part of it, that of a set is not."""
        try:
            inline = _Writer(inline_limit).form(value, 0)
            text = canonical(inline)
            if len(text) > inline_limit:
                raise _TooLarge
        except _TooLarge:
            return Refused(f"it is larger than {inline_limit:,} bytes of JSON")
        except _NoForm as reason:
            return Refused(str(reason))
        digest = xxhash.xxh3_128(b"typed-json\0" + text).hexdigest()
        return Encoded(self.encoding, digest, len(text), type_name(value), inline=inline)

    def decode(self, info: Mapping[str, Any], inline: Any, open_file: OpenFile) -> Any:
        """The value.

        Raises
        ------
        DataException
            If a tag is of a newer version, or its library or time zone is not to be had here.
        DataMissing
            If the record is damaged.
        """
        try:
            return _value(inline)
        except ImportError as error:
            raise DataException(f"The value needs a library that is not to be had here: {error}") from error
        except (TypeError, ValueError, KeyError, ArithmeticError) as error:
            raise DataMissing(f"The record of a value is damaged: {error!r}") from error


def is_single(form: Any) -> bool:
    """Whether a form is that of one value, be it a number, a text or a time, and of no collection."""
    if type(form) is dict:
        return _is_tagged(form) and next(iter(form))[1:] in _SCALARS
    return type(form) is not list


class _NoForm(Exception):
    """The reason why a value has no form."""


class _TooLarge(Exception):
    """The text would be longer than the record allows."""


class _Writer:
    """One walk over a value that ends as soon as it has no form or its text is too long."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._seen: set[int] = set()

    def form(self, value: Any, depth: int) -> Any:
        kind = type(value)
        self._spend(1)
        if kind in _PLAIN:
            return self._plain(value)
        if kind in _GROUPS:
            return self._group(value, kind, depth)
        scalar = _scalar(kind)
        if scalar is None:
            raise _NoForm(f"it is or holds a value of type {type_name(value)}")
        self._spend(len(value) if kind is bytes else 1)
        payload = scalar.exact_payload(value)
        if type(payload) is str:
            self._plain(payload)
        return {f"${scalar.tag}": payload}

    def _plain(self, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            self._spend(len(value))
            try:
                value.encode()
            except UnicodeEncodeError:
                raise _NoForm("it is or holds a string that is no valid Unicode") from None
        elif kind is int:
            self._spend(value.bit_length() // 4)
            if value.bit_length() > MAX_INT_BITS:
                raise _NoForm(f"it is or holds an integer of more than {MAX_INT_BITS:,} bits")
        elif kind is float and not math.isfinite(value):
            return {"$float": _FLOAT.exact_payload(value)}
        return value

    def _group(self, value: Any, kind: type, depth: int) -> Any:
        if depth >= MAX_DEPTH:
            raise _NoForm(f"it is nested more than {MAX_DEPTH} levels deep")
        if kind in (list, dict, set):
            if id(value) in self._seen:  # JSON would make two of it, or never end
                raise _NoForm(f"it holds the same {kind.__name__} twice, or itself")
            self._seen.add(id(value))
        if kind is dict:
            return self._dict(value, depth)
        if kind is list:
            return [self.form(item, depth + 1) for item in value]
        items = [self.form(item, depth + 2) for item in value]
        if kind is not tuple:
            items.sort(key=_order)
        return {f"${kind.__name__}": items}

    def _dict(self, value: dict[Any, Any], depth: int) -> Any:
        if all(type(key) is str for key in value) and not _is_tagged(value):
            return {self._plain(key): self.form(item, depth + 1) for key, item in value.items()}
        deeper = depth + 3
        return {"$dict": [[self.form(key, deeper), self.form(item, deeper)] for key, item in value.items()]}

    def _spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise _TooLarge


def _order(form: Any) -> tuple[bool, float, bytes]:
    """Sorts the members of a set: numbers by value, then the rest by its text."""
    if type(form) in (int, float):
        return False, form, b""
    return True, 0, canonical(form)


def _is_tagged(form: dict[Any, Any]) -> bool:
    return len(form) == 1 and next(iter(form)).startswith("$")


def _value(form: Any) -> Any:
    if type(form) is list:
        return [_value(item) for item in form]
    if type(form) is not dict:
        return form
    if not _is_tagged(form):
        return {key: _value(item) for key, item in form.items()}
    ((key, payload),) = form.items()
    tag = key[1:]
    if tag in _GROUP_OF:
        return _GROUP_OF[tag](_value(item) for item in payload)
    if tag == "dict":
        return {_value(key): _value(item) for key, item in payload}
    if tag not in _SCALARS:
        raise DataException(
            f"The value has a part of type {tag!r}, which this version of daskflow does not know. Install a newer one."
        )
    return _SCALARS[tag].value(payload)


_GROUP_OF: dict[str, Callable[[Any], Any]] = {"tuple": tuple, "set": set, "frozenset": frozenset}


class _Scalar:
    """A type that has a tag: how its values become what JSON has, and back."""

    def __init__(self, tag: str, payload: Callable[[Any], Any], value: Callable[[Any], Any]) -> None:
        self.tag = tag
        self.payload = payload
        self.value = value

    def exact_payload(self, value: Any) -> Any:
        """The payload, if the value that comes of it has the same pickle."""
        try:
            payload = self.payload(value)
            same = _is_safe(payload) or _is_same(self.value(payload), value)
        except Exception:  # noqa: BLE001 - a time zone is a class of anybody's
            same = False
        if not same:
            raise _NoForm(f"{_shortened(value)} of type {type_name(value)} would come back changed")
        return payload


def _is_safe(payload: Any) -> bool:
    """Whether it is one of the numbers that are exact in any case."""
    return type(payload) in (bool, int) or (type(payload) is float and math.isfinite(payload))


def _is_same(back: Any, value: Any) -> bool:
    if isinstance(value, str):  # NumPy's, whose pickles differ by how an empty one was made
        return bool(back == value)
    return pickle.dumps(back) == pickle.dumps(value)


def _shortened(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - as above
        text = "a value"
    return text if len(text) <= 60 else text[:60] + "..."


def _scalar(kind: type) -> _Scalar | None:
    """What is known of a type; None of a class that only has the name of a known one."""
    package, name = kind.__module__.partition(".")[0], kind.__name__
    if getattr(sys.modules.get(package), name, None) is not kind:
        return None
    name = "bool" if name == "bool_" else name  # before NumPy 2
    return _SCALARS.get(name if package == "builtins" else f"{package}.{name}")


def _real_payload(value: Any) -> Any:
    number = float(value)
    if math.isfinite(number):
        return number
    sign = "-" if math.copysign(1, number) < 0 else ""
    return f"{sign}nan" if math.isnan(number) else f"{sign}inf"


def _numpy(name: str) -> _Scalar:
    payload = (
        bool if name == "bool" else str if name == "str_" else int if name in _INTEGERS else _real_payload
    )

    def value(payload: Any) -> Any:
        import numpy as np

        kind = getattr(np, "bool_" if name == "bool" else name)
        return kind(float(payload) if name in _REALS else payload)

    return _Scalar(f"numpy.{name}", payload, value)


def _zone(name: str) -> Any:
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except zoneinfo.ZoneInfoNotFoundError as error:
        raise DataException(f"The value needs the time zone {name}, which is not to be had here.") from error


def _zone_name(value: Any) -> str | None:
    """The name of a time's zone, None if its text says all there is to say."""
    zone = value.tzinfo
    return zone.key if type_name(zone) == "zoneinfo.ZoneInfo" else None


def _datetime_payload(value: Any) -> Any:
    name = _zone_name(value)
    return value.isoformat() if name is None else [value.replace(tzinfo=None).isoformat(), name]


def _datetime_value(payload: Any) -> Any:
    import datetime

    if type(payload) is str:
        return datetime.datetime.fromisoformat(payload)
    text, name = payload
    return datetime.datetime.fromisoformat(text).replace(tzinfo=_zone(name))


def _iso_value(name: str) -> Callable[[Any], Any]:
    def value(payload: Any) -> Any:
        import datetime

        return getattr(datetime, name).fromisoformat(payload)

    return value


def _duration_payload(value: Any) -> Any:
    return {name: getattr(value, name) for name in ("days", "seconds", "microseconds")}


def _duration_value(payload: Any) -> Any:
    import datetime

    return datetime.timedelta(payload["days"], payload["seconds"], payload["microseconds"])


def _decimal_value(payload: Any) -> Any:
    import decimal

    return decimal.Decimal(payload)


def _timestamp_payload(value: Any) -> Any:
    name = _zone_name(value)
    return [value.isoformat(), value.unit, *([] if name is None else [name])]


def _timestamp_value(payload: Any) -> Any:
    import pandas as pd

    text, unit, *name = payload
    found = pd.Timestamp(text).as_unit(unit)
    return found.tz_convert(_zone(name[0])) if name else found


def _pandas_duration_value(payload: Any) -> Any:
    import pandas as pd

    text, unit = payload
    return pd.Timedelta(text).as_unit(unit)


_FLOAT = _Scalar("float", _real_payload, float)
_SCALARS = {
    scalar.tag: scalar
    for scalar in (
        _FLOAT,
        _Scalar("bytes", lambda value: base64.b64encode(value).decode(), binascii.a2b_base64),
        _Scalar("datetime.datetime", _datetime_payload, _datetime_value),
        _Scalar("datetime.date", str, _iso_value("date")),
        _Scalar("datetime.time", lambda value: value.isoformat(), _iso_value("time")),
        _Scalar("datetime.timedelta", _duration_payload, _duration_value),
        _Scalar("decimal.Decimal", str, _decimal_value),
        _Scalar("pandas.Timestamp", _timestamp_payload, _timestamp_value),
        _Scalar("pandas.Timedelta", lambda value: [value.isoformat(), value.unit], _pandas_duration_value),
        *map(_numpy, NUMPY),
    )
}
