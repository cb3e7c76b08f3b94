"""Whether a pandas column comes back from Arrow exactly: by its dtype where that decides, else by its values.

Values are tried slice by slice, so the second copy is never more than a slice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskflow.store.serializers.arrow_tables import overflows
from daskflow.store.serializers.pandas_types import arrow_type, describe, from_arrow, to_arrow, values_of
from daskflow.store.serializers.table_hash import BLOCK, can_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

MAX_CATEGORIES = 8 * 1024 * 1024
"""Bytes of categories; they are kept in the footer of the file, which every reader loads."""


def column_refusal(values: Any, kind: pa.DataType | str) -> str:
    """Why a column with these values is not exact as Arrow ``kind``; empty if it is."""
    import pandas as pd
    import pyarrow as pa

    if describe(values.dtype) is None:
        return f"has dtype {values.dtype}"
    if isinstance(kind, str):
        return kind
    if not can_hash(kind):
        return f"has dtype {values.dtype}"
    if isinstance(values.dtype, pd.CategoricalDtype):
        return _category_refusal(values.categories)
    try:
        return _value_refusal(values, kind)
    except (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError) as error:
        return f"can't be held by Arrow: {error}"


def _category_refusal(categories: Any) -> str:
    if categories.memory_usage(deep=True) > MAX_CATEGORIES:
        return f"has {len(categories):,} categories"
    if categories.name is not None or getattr(categories, "freq", None) is not None:
        return "has categories that have a name or a frequency"
    labels = values_of(categories)
    reason = column_refusal(labels, arrow_type(labels))
    return f"has categories of which the set {reason}" if reason else ""


def _value_refusal(values: Any, kind: pa.DataType) -> str:
    import pyarrow as pa

    spec = describe(values.dtype)
    if pa.types.is_timestamp(kind) and kind.unit == "s" and overflows(to_arrow(values, kind)):
        return "holds times that milliseconds can't express"
    same = _comparison(spec, kind)
    if same is None and not _may_fail(spec):
        return ""
    for start in range(0, len(values), BLOCK):
        part = values[start : start + BLOCK]
        arrow = to_arrow(part, kind)
        if same is not None and not same(part, from_arrow(pa.chunked_array([arrow]), spec, None)):
            return "holds values that Arrow changes"
    return ""


def _comparison(spec: Any, kind: pa.DataType) -> Callable[[Any, Any], bool] | None:
    """How to tell whether values came back the same, None if all that Arrow takes do."""
    import pyarrow as pa

    if spec == "object":
        return _same_objects if pa.types.is_decimal(kind) or pa.types.is_time(kind) else None
    if spec == "arrow" or (isinstance(spec, str) and spec.startswith(("Float", "interval"))):
        return _same_array
    return None


def _may_fail(spec: Any) -> bool:
    """Whether Arrow refuses some values: integers that are too large, strings that are no valid Unicode."""
    return spec == "object" or (isinstance(spec, dict) and spec.get("string") == "python")


def _same_objects(part: Any, back: Any) -> bool:
    # repr and not ==: Decimal("1.0") == Decimal("1"), and a time of day has a fold.
    return all(
        one is other or (type(one) is type(other) and repr(one) == repr(other))
        for one, other in zip(part, back, strict=True)
    )


def _same_array(part: Any, back: Any) -> bool:
    return bool(part.equals(back))
