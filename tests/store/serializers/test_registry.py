"""How a value finds its serializer, and what is said if there is none."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conformance import Files, roundtrip

from daskflow.errors import DataException, UnpicklableArtifactException
from daskflow.store.serializers import SERIALIZERS, decode, encode, type_name

ROOT = Path(__file__).parents[3]


class Outer:
    class Inner:
        """Nested."""


@pytest.mark.parametrize(
    ("value", "encoding", "suffix"),
    [
        (1, "json", None),
        ([1, "a", None], "json", None),
        ((1,), "typed-json", None),
        (np.float64(1), "typed-json", None),
        ({1: 1j}, "pickle", None),
        (np.zeros(10), "pickle", None),
        (np.zeros(10**6), "pickle", "pickle"),
        (pd.DataFrame({"a": [1]}), "parquet", "parquet"),
        (pd.Series([1]), "parquet", "parquet"),
        (pl.DataFrame({"a": [1]}), "parquet", "parquet"),
        (pl.Series([1]), "parquet", "parquet"),
        (pa.table({"a": [1]}), "parquet", "parquet"),
        (pd.DataFrame({"a": [1j]}), "pickle", None),
        ([pd.DataFrame()], "pickle", None),
    ],
)
def test_the_first_serializer_that_is_exact_takes_a_value(
    value: Any, encoding: str, suffix: str | None
) -> None:
    encoded, _, files = roundtrip(value)

    assert encoded.encoding == encoding
    assert encoded.file == suffix
    assert files.created == ([suffix] if suffix else [])
    assert len(encoded.hash) == 32


def test_each_pickle_says_why_it_is_one_and_nothing_else_does() -> None:
    for value in (1, (1,), pd.DataFrame({"a": [1]})):
        assert "why" not in roundtrip(value)[0].info
    assert roundtrip(pd.DataFrame({"a": [1j]}))[0].info["why"] == "column 'a' has dtype complex128"
    assert roundtrip({1: 1j})[0].info["why"] == "it is or holds a value of type complex"
    assert roundtrip(Outer())[0].info["why"] == f"values of type {__name__}.Outer have no other form"


@pytest.mark.parametrize(
    "value", [pd.DataFrame({"a": [1], "b": [1j]}), pd.DataFrame([[1, 2]], columns=["a", "a"])]
)
def test_no_file_is_made_by_a_serializer_that_refuses(value: Any) -> None:
    files = Files()

    encode(value, files.create)

    assert files.created == []


def test_the_record_of_a_value_is_json() -> None:
    for value in (1, {1}, pd.DataFrame({"a": [1]}), pl.Series([1]), pa.table({"a": [1]}), np.zeros(10**6)):
        encoded = roundtrip(value)[0]
        assert json.loads(json.dumps([encoded.info, encoded.inline])) == [encoded.info, encoded.inline]


def test_an_encoding_of_a_newer_version_is_refused_by_name() -> None:
    with pytest.raises(
        DataException,
        match=r"'zarr'; this version of daskflow knows json, typed-json, parquet, dask, pickle\.",
    ):
        decode("zarr", {}, None, io.BytesIO)


def test_pickle_is_last_because_it_takes_everything() -> None:
    assert [serializer.encoding for serializer in SERIALIZERS] == [
        "json",
        "typed-json",
        "parquet",
        "dask",
        "pickle",
    ]
    assert SERIALIZERS[-1].takes(object())


def test_an_error_in_the_storage_is_not_taken_for_one_of_the_value() -> None:
    def full(_suffix: str) -> Any:
        raise OSError(28, "No space left on device")

    for value in (pd.DataFrame({"a": [1]}), pl.DataFrame({"a": [1]}), np.zeros(10**6), "x" * 50_000):
        with pytest.raises(OSError, match="No space left") as caught:
            encode(value, full)
        assert not isinstance(caught.value, UnpicklableArtifactException)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (1, "int"),
        (None, "NoneType"),
        (pd.DataFrame(), "pandas.DataFrame"),
        (pd.Series(dtype=int), "pandas.Series"),
        (pl.DataFrame(), "polars.DataFrame"),
        (pa.table({}), "pyarrow.Table"),
        (np.zeros(1), "numpy.ndarray"),
        (Outer(), f"{__name__}.Outer"),
        (Outer.Inner(), f"{__name__}.Outer.Inner"),
        (Path(), "pathlib.PosixPath"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_type_is_called_by_the_name_people_know(value: Any, name: str) -> None:
    assert type_name(value) == name


def test_plain_values_need_neither_pandas_nor_pyarrow() -> None:
    program = """
import io, sys
from daskflow.store.serializers import decode, encode, fingerprint
for value in (1, [1], (1,), {1}, object):
    encoded = encode(value, lambda suffix: io.BytesIO())
    decode(encoded.encoding, encoded.info, encoded.inline, io.BytesIO)
    fingerprint(value)
print([name for name in ("numpy", "pandas", "pyarrow", "polars") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout.strip() == "[]"
