"""What every serializer promises, checked on one value; third parties can run it on theirs."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

from daskflow.store.serializers import Encoded, decode, encode
from daskflow.store.shared_tables import SharedTables


class Files:
    """A store of one file: what ``create`` and ``open_file`` of the contract ask for."""

    def __init__(self) -> None:
        self.file = io.BytesIO()
        self.created: list[str] = []

    def create(self, suffix: str) -> io.BytesIO:
        self.created.append(suffix)
        return self.file

    def open(self) -> io.BytesIO:
        return io.BytesIO(self.file.getvalue())


def roundtrip(value: Any, inline_limit: int = 16_384) -> tuple[Encoded, Any, Files]:
    """Encode and decode through a record's JSON; returns what was stored, the value again, and its file."""
    files = Files()
    encoded = encode(value, files.create, inline_limit=inline_limit)
    record = json.loads(json.dumps({"info": encoded.info, "inline": encoded.inline}))
    return encoded, decode(encoded.encoding, record["info"], record["inline"], files.open), files


def check_roundtrip(value: Any, *, inline_limit: int = 16_384) -> Encoded:
    """The value comes back identical, its identity with it; returns how it was stored."""
    encoded, back, files = roundtrip(value, inline_limit)
    assert_identical(value, back)
    assert files.created == ([] if encoded.file is None else [encoded.file])
    if encoded.file is not None:
        assert encoded.inline is None
        assert encoded.size == len(files.file.getvalue())
    assert not files.file.closed
    again, _, _ = roundtrip(back, inline_limit)
    if encoded.encoding != "pickle" or not encoded.type.startswith(("pandas.", "polars.")):
        # The pickle of a frame also says how it lay in memory, which loading may change.
        assert again.hash == encoded.hash
    assert again.encoding == encoded.encoding
    assert again.type == encoded.type
    _check_shared(value, encoded)
    return encoded


def _check_shared(value: Any, alone: Encoded) -> None:
    """If it may share a file with the next one it comes back from there too, with the identity that it has alone."""
    file = io.BytesIO()
    tables = SharedTables(lambda name: (name, contextlib.nullcontext(file)))
    saved = [tables.save("x", value) for _ in range(2)]
    tables.close()

    for found in saved:
        assert (found is None) == (saved[0] is None)
        if found is not None:
            encoded, _ = found
            back = decode(
                encoded.encoding,
                json.loads(json.dumps(encoded.info)),
                None,
                lambda: io.BytesIO(file.getvalue()),
            )
            assert_identical(value, back)
            assert (encoded.hash, encoded.type) == (alone.hash, alone.type)
            assert encoded.info["schema"] == alone.info["schema"]


def assert_identical(one: Any, other: Any) -> None:
    """Equal, with the same types all the way down."""
    assert type(one) is type(other)
    package = type(one).__module__.partition(".")[0]
    if package in _COMPARE:
        _COMPARE[package](one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_identical(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_identical(left, right)
    elif isinstance(one, float):
        assert repr(one) == repr(other)
    else:
        assert one == other


def _pandas(one: Any, other: Any) -> None:
    import pandas as pd

    if not isinstance(one, (pd.DataFrame, pd.Series, pd.Index)):
        assert one is other or one == other
        return
    if isinstance(one, pd.Index):
        pd.testing.assert_index_equal(one, other, exact=True, check_exact=True)
        _levels(one, other)
        return
    check = pd.testing.assert_frame_equal if isinstance(one, pd.DataFrame) else pd.testing.assert_series_equal
    check(one, other, check_exact=True, check_freq=True, check_flags=True)
    columns = one.items() if isinstance(one, pd.DataFrame) else [(one.name, one)]
    for position, (_, column) in enumerate(columns):
        again = other.iloc[:, position] if isinstance(other, pd.DataFrame) else other
        assert repr(column.dtype) == repr(again.dtype)
        assert type(getattr(column.dtype, "tz", None)) is type(getattr(again.dtype, "tz", None))
        if column.dtype == object:
            assert list(map(type, column)) == list(map(type, again))
            assert list(map(repr, column)) == list(map(repr, again))
        if column.dtype == "float64":
            assert (column.isna() | (list(map(repr, column)) == again.map(repr))).all()
    assert_identical(one.attrs, other.attrs)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_index_equal(one.columns, other.columns, exact=True)
        assert list(map(type, one.columns)) == list(map(type, other.columns))
        _levels(one.columns, other.columns)
    _levels(one.index, other.index)


def _levels(one: Any, other: Any) -> None:
    """Of a MultiIndex also what its levels hold and no row says."""
    import pandas as pd

    for left, right in zip(getattr(one, "levels", ()), getattr(other, "levels", ()), strict=True):
        pd.testing.assert_index_equal(left, right, exact="equiv", check_exact=True)
        assert getattr(left, "freq", None) == getattr(right, "freq", None)


def _polars(one: Any, other: Any) -> None:
    import polars as pl

    if isinstance(one, pl.Series):
        assert one.name == other.name
        one, other = one.to_frame(), other.to_frame()
    assert one.schema == other.schema
    assert one.equals(other, null_equal=True)


def _pyarrow(one: Any, other: Any) -> None:
    if hasattr(one, "schema"):
        assert one.schema.equals(other.schema, check_metadata=True)
    else:
        assert one.type == other.type
    assert one.equals(other) or repr(one.to_pylist()) == repr(other.to_pylist())  # NaN equals nothing


def _numpy(one: Any, other: Any) -> None:
    import numpy as np

    assert one.dtype == other.dtype
    np.testing.assert_array_equal(one, other)


_COMPARE = {"pandas": _pandas, "polars": _polars, "pyarrow": _pyarrow, "numpy": _numpy}
