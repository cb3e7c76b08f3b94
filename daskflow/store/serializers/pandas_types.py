"""One pandas column to Arrow and back, and the JSON description of its dtype that makes this exact."""

from __future__ import annotations

import base64
import datetime
import decimal
import uuid
import zoneinfo
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

BY_NAME = (
    "BaseMaskedDtype",
    "NumericDtype",
    "BooleanDtype",
    "PeriodDtype",
    "IntervalDtype",
    "DatetimeTZDtype",
)
"""Classes of pandas dtypes whose ``str`` says all about them."""


def describe(dtype: Any) -> Any:
    """JSON description of a dtype that :func:`from_arrow` understands; None if it can't be restored."""
    import numpy as np
    import pandas as pd

    if isinstance(dtype, np.dtype):
        plain = (dtype.kind in "biuf" and dtype.itemsize <= 8) or dtype.kind in "mM"
        return dtype.name if dtype.kind == "O" or (plain and dtype.isnative) else None
    if isinstance(dtype, pd.CategoricalDtype):
        of = None if dtype.categories is None else dtype.categories.dtype
        simple = isinstance(of, (np.dtype, pd.StringDtype, pd.DatetimeTZDtype)) and describe(of) is not None
        return {"category": describe(of), "ordered": bool(dtype.ordered)} if simple else None
    if isinstance(dtype, pd.StringDtype):
        return {"string": dtype.storage, "na": "NA" if getattr(dtype, "na_value", pd.NA) is pd.NA else "nan"}
    if isinstance(dtype, pd.ArrowDtype):
        return "arrow"
    if isinstance(dtype, pd.DatetimeTZDtype) and isinstance(dtype.tz, zoneinfo.ZoneInfo):
        # By name pandas would make another class of "UTC", which is what Arrow gives.
        return {"zone": dtype.tz.key, "unit": dtype.unit} if dtype.tz.key else None
    if not any(cls.__name__ in BY_NAME for cls in type(dtype).__mro__):
        return None
    try:
        again = pd.api.types.pandas_dtype(str(dtype))
    except TypeError:  # a zone that has no name, say
        return None
    return str(dtype) if is_same_dtype(again, dtype) else None


def is_same_dtype(one: Any, other: Any) -> bool:
    """Whether two dtypes are equal, down to the class of a timezone and the order of categories."""
    import pandas as pd

    if type(one) is not type(other) or one != other or repr(one) != repr(other):
        return False
    if isinstance(one, pd.CategoricalDtype):
        left, right = one.categories, other.categories
        return bool(is_same_dtype(left.dtype, right.dtype) and left.equals(right))
    return type(getattr(one, "tz", None)) is type(getattr(other, "tz", None))


def values_of(column: Any) -> Any:
    """What a Series or Index holds: a NumPy array, or pandas' extension array."""
    import numpy as np

    return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array


def arrow_type(values: Any) -> pa.DataType | str:
    """The Arrow type of a whole column, or why it has none that keeps it exact."""
    import pandas as pd
    import pyarrow as pa

    if values.dtype == object:
        return object_type(values)
    if isinstance(values.dtype, pd.StringDtype):
        return pa.large_string()
    if isinstance(values.dtype, pd.CategoricalDtype):
        of = arrow_type(values_of(values.categories))
        if isinstance(of, str):
            return f"has categories of which the set {of}"
    try:
        return pa.array(values[:0], from_pandas=True).type
    except (pa.ArrowException, TypeError, ValueError) as error:
        return f"Arrow can't hold dtype {values.dtype}: {error}"


def object_type(values: Any) -> pa.DataType | str:
    """The Arrow type of a column of Python objects: they must be of exactly one type, beside None."""
    import pyarrow as pa

    found = {type(value) for value in values} - {type(None)}
    if len(found) > 1:
        return f"holds objects of several types ({', '.join(sorted(kind.__name__ for kind in found))})"
    kind = next(iter(found), type(None))
    if kind is decimal.Decimal:
        return _decimal_type(values)
    if kind is uuid.UUID:
        return _uuid_type(values)
    known = {
        type(None): pa.null(),
        str: pa.large_string(),
        bytes: pa.large_binary(),
        bool: pa.bool_(),
        int: pa.int64(),
        float: pa.float64(),
        datetime.date: pa.date32(),
        datetime.time: pa.time64("us"),
    }
    return known.get(kind, f"holds objects of type {kind.__name__}")


def _uuid_type(values: Any) -> pa.DataType | str:
    import pyarrow as pa

    plain = all(value is None or value.is_safe is uuid.SafeUUID.unknown for value in values)
    if not plain or not hasattr(pa, "uuid"):  # since pyarrow 18
        return "holds objects of type UUID that Arrow changes"
    return pa.uuid()


def _decimal_type(values: Any) -> pa.DataType | str:
    import pyarrow as pa

    digits, exponents = 1, set()
    for value in values:
        if value is not None:
            _, number, exponent = value.as_tuple()
            exponents.add(exponent)
            digits = max(digits, len(number))
    (exponent,) = exponents if len(exponents) == 1 else ("several",)
    if not isinstance(exponent, int) or not 0 <= -exponent <= 38 or max(digits, -exponent) > 38:
        return "holds decimals of different scales, or of more than 38 digits"
    return pa.decimal128(max(digits, -exponent), -exponent)


def to_arrow(values: Any, kind: pa.DataType) -> pa.Array:
    """Some rows of a column; for NumPy numbers without a copy."""
    import pyarrow as pa

    # NaN is "no value" in pandas' own columns, but a value among Python objects.
    found = pa.array(values, type=kind, from_pandas=values.dtype != object)
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def from_arrow(column: pa.ChunkedArray, spec: Any, categories: pa.Array | None) -> Any:
    """The column again: an array that pandas takes without a copy, and that may be changed in place."""
    import numpy as np
    import pandas as pd

    if spec == "object":
        return _objects(column)
    if spec == "arrow":
        return pd.arrays.ArrowExtensionArray(column)
    if isinstance(spec, dict) and "string" in spec:
        return string_dtype(spec).__from_arrow__(column)
    if isinstance(spec, dict) and "category" in spec:
        return _categorical(column, spec, categories)
    dtype = zone_dtype(spec) if isinstance(spec, dict) else pd.api.types.pandas_dtype(spec)
    if not isinstance(dtype, np.dtype):
        found = dtype.__from_arrow__(column)
        return found.copy()  # pandas gives a read-only view of Arrow's memory where it can
    values = _take_over(column, dtype)
    if values is None:
        values = column.to_numpy().astype(dtype, copy=False)
    return values if values.flags.writeable else values.copy()


def _take_over(column: pa.ChunkedArray, dtype: Any) -> Any | None:
    """The column's own memory as a NumPy array, writable if nobody forbids; None if it must be converted.

    What was read from a file belongs to nobody else. ``to_numpy`` forbids writing, so it takes a copy.
    """
    import numpy as np
    import pyarrow as pa

    if (
        dtype.kind == "b"
        or column.num_chunks != 1
        or column.null_count
        or column.type != pa.from_numpy_dtype(dtype)
    ):
        return None
    chunk = column.chunk(0)
    memory = chunk.buffers()[1]
    if memory is None:
        return None
    return np.frombuffer(memory, dtype, count=len(chunk), offset=chunk.offset * dtype.itemsize)


def _objects(column: pa.ChunkedArray) -> Any:
    import numpy as np

    values = np.empty(len(column), dtype=object)
    at = 0
    for chunk in column.chunks:
        values[at : at + len(chunk)] = chunk.to_pylist()
        at += len(chunk)
    return values


def string_dtype(spec: dict[str, str]) -> Any:
    """The string dtype of a description."""
    import numpy as np
    import pandas as pd

    return pd.StringDtype(spec["string"], **({"na_value": np.nan} if spec["na"] == "nan" else {}))


def zone_dtype(spec: dict[str, str]) -> Any:
    """The dtype of times in a zone, of a description."""
    import pandas as pd

    return pd.DatetimeTZDtype(spec["unit"], zoneinfo.ZoneInfo(spec["zone"]))


def _categorical(column: pa.ChunkedArray, spec: dict[str, Any], categories: pa.Array | None) -> Any:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.compute as pc

    assert categories is not None
    labels = pd.Index(from_arrow(pa.chunked_array([categories]), spec["category"], None), copy=False)
    if spec["category"] == "object":
        labels = labels.astype(object)
    codes = []
    for chunk in column.chunks:
        if isinstance(chunk, pa.DictionaryArray):
            # Every row group may have a dictionary of its own, in the order in which it met the values.
            places = pc.index_in(chunk.dictionary.cast(categories.type), value_set=categories)
            codes.append(places.take(chunk.indices))
        else:
            codes.append(pc.index_in(chunk.cast(categories.type), value_set=categories))
    whole = pa.chunked_array(codes, type=pa.int32()).fill_null(-1).to_numpy()
    return pd.Categorical.from_codes(whole, dtype=pd.CategoricalDtype(labels, spec["ordered"]))


def pack_array(array: pa.Array) -> bytes:
    """An array as text for the metadata of a file (which some readers want to be UTF-8)."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    batch = pa.record_batch([array], names=["categories"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return base64.b64encode(sink.getvalue())


def unpack_array(text: bytes) -> pa.Array:
    """The inverse of :func:`pack_array`."""
    import pyarrow as pa

    table = pa.ipc.open_stream(base64.b64decode(text)).read_all()
    return table.column(0).combine_chunks()
