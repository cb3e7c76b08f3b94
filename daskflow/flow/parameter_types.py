"""The types a parameter may have, and what text and which values they take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from daskflow.settings import BOOLEANS

if TYPE_CHECKING:
    from collections.abc import Callable


class JSONTypeClass:
    """The type of a parameter whose text is JSON. Use its one instance, :data:`JSONType`."""

    def __repr__(self) -> str:
        return "JSONType"

    def __reduce__(self) -> str:
        return "JSONType"


JSONType = JSONTypeClass()
"""``Parameter("grid", type=JSONType)`` takes any JSON value: ``--grid '{"depth": [3, 5]}'``."""


def _parse_int(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a valid integer.") from None


def _parse_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"'{text}' is not a valid float.") from None


def _parse_bool(text: str) -> bool:
    try:
        return BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ValueError(f"'{text}' is not a valid boolean: give True or False.") from None


def _parse_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"'{text}' is not a valid JSON object: {error}.") from None


PARSERS: dict[object, Callable[[str], Any]] = {
    str: str,
    int: _parse_int,
    float: _parse_float,
    bool: _parse_bool,
    JSONType: _parse_json,
}
"""How a text of each type is read; a type that is not here is click's business."""

TYPE_NAMES: dict[object, str] = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    JSONType: "a JSON value",
}
"""The types as messages call them."""


def parse_value(text: str, kind: object) -> Any:
    """The value that ``text`` stands for, whether it came from the command line or the environment.

    Parameters
    ----------
    text
        As the user wrote it.
    kind
        ``str``, ``int``, ``float``, ``bool`` or :data:`JSONType`.

    Raises
    ------
    ValueError
        If ``text`` is none of that kind; the message names both.
    """
    return PARSERS[kind](text)


def fits(value: object, kind: Any) -> bool:
    """Whether ``value``, a default, is of the type ``kind``. An int does for a float, a bool for no number."""
    if kind is JSONType:
        return value is not None and _is_json(value)
    if isinstance(value, bool):  # an int for Python, not for whoever declared a number
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
