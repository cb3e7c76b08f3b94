"""The Parquet file: read by any tool, in the encoding that makes each column small, in bounded pieces."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import string
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conformance import check_roundtrip, roundtrip

from daskflow.store.serializers.table_file import MAX_GROUP, SAMPLE, group_rows
from daskflow.store.serializers.table_hash import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = SAMPLE + 1_000
NUMBERS = np.random.default_rng(7)
_LETTERS = np.array(list(string.ascii_letters))
WORDS = NUMBERS.choice(_LETTERS, (ROWS, 9)).view("U9").ravel()
FEW = NUMBERS.choice(["red", "green", "blue"], ROWS)
TIMES = np.arange(ROWS) * 1_000_000

TALL: dict[str, Callable[[], pa.Array]] = {
    "running int": lambda: pa.array(np.arange(ROWS)),
    "random int": lambda: pa.array(NUMBERS.integers(-(2**63), 2**63 - 1, ROWS)),
    "uint64": lambda: pa.array(NUMBERS.integers(0, 2**64 - 1, ROWS, dtype="uint64")),
    "int8": lambda: pa.array(NUMBERS.integers(-128, 127, ROWS, dtype="int8")),
    "int32 with gaps": lambda: pa.array(np.arange(ROWS, dtype="int32"), mask=NUMBERS.random(ROWS) < 0.5),
    "random float": lambda: pa.array(NUMBERS.random(ROWS)),
    "float32": lambda: pa.array(NUMBERS.random(ROWS).astype("float32")),
    "half": lambda: pa.array(NUMBERS.random(ROWS).astype("float16")),
    "floats of three digits": lambda: pa.array(NUMBERS.integers(0, 10**6, ROWS) / 1000),
    "bool": lambda: pa.array(NUMBERS.random(ROWS) < 0.1),
    "random words": lambda: pa.array(WORDS),
    "few words": lambda: pa.array(FEW),
    "periodic words": lambda: pa.array(["x", "y", "z"] * (ROWS // 3 + 1))[:ROWS],
    "large string": lambda: pa.array(WORDS).cast(pa.large_string()),
    "string view": lambda: pa.array(WORDS).cast(pa.string_view()),
    "words with gaps": lambda: pa.array(WORDS.astype(object), mask=NUMBERS.random(ROWS) < 0.5),
    "binary": lambda: pa.array([word.encode() for word in WORDS]),
    "fixed binary": lambda: pa.array([word.encode() for word in WORDS], pa.binary(9)),
    "dictionary of few": lambda: pa.array(FEW).dictionary_encode(),
    "dictionary, periodic": lambda: pa.array(["x", "y", "z"] * (ROWS // 3 + 1))[:ROWS].dictionary_encode(),
    "dictionary of many": lambda: pa.array(WORDS).dictionary_encode(),
    "timestamp": lambda: pa.array(TIMES, pa.timestamp("us", "UTC")),
    "timestamp ns": lambda: pa.array(TIMES, pa.timestamp("ns")),
    "date": lambda: pa.array(np.arange(ROWS, dtype="int32"), pa.date32()),
    "time": lambda: pa.array(np.arange(ROWS), pa.time64("us")),
    "duration": lambda: pa.array(TIMES, pa.duration("us")),
    "decimal": lambda: pa.array(np.arange(ROWS)).cast(pa.decimal128(21, 2)),
    "list of int": lambda: pa.array([[i, i + 1] if i % 3 else None for i in range(ROWS)]),
    "list of words": lambda: pa.array([[a, b] for a, b in zip(WORDS, FEW, strict=True)]),
    "struct": lambda: pa.array([{"n": i, "w": w} for i, w in enumerate(WORDS)]),
    "list of dictionaries": lambda: pa.ListArray.from_arrays(
        pa.array(np.arange(ROWS + 1, dtype="int32")), pa.array(FEW).dictionary_encode()
    ),
    "struct of a dictionary": lambda: pa.StructArray.from_arrays([pa.array(FEW).dictionary_encode()], ["d"]),
    "null": lambda: pa.nulls(ROWS),
}


@pytest.mark.parametrize("name", TALL)
def test_a_tall_arrow_column_comes_back_exactly_whatever_encoding_it_gets(name: str) -> None:
    table = pa.table({"x.y": TALL[name](), "n": np.arange(ROWS)})

    assert check_roundtrip(table).encoding == "parquet"


PANDAS_KINDS = {
    "string view",
    "list of int",
    "list of words",
    "struct",
    "list of dictionaries",
    "struct of a dictionary",
}


@pytest.mark.parametrize("name", [name for name in TALL if name not in PANDAS_KINDS])
def test_a_tall_pandas_column_comes_back_exactly_whatever_encoding_it_gets(name: str) -> None:
    column = TALL[name]().to_pandas()

    assert check_roundtrip(pd.DataFrame({"x": column})).encoding == "parquet"


def _frame(rows: int = 3) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "n": np.arange(rows),
            "f": np.arange(rows) / 3,
            "s": [f"word {i}" for i in range(rows)],
            "b": np.arange(rows) % 2 == 0,
            "t": pd.date_range("2024-01-01", periods=rows, freq="s"),
            "c": pd.Categorical(["x", "y", "x"] * (rows // 3)),
        }
    )


@pytest.mark.parametrize("rows", [3, 3 * (SAMPLE // 2)], ids=["small", "with chosen encodings"])
def test_plain_pandas_polars_and_pyarrow_read_the_file(rows: int) -> None:
    frame = _frame(rows)
    frame.index = pd.Index(np.arange(rows)[::-1], name="key")
    _, _, files = roundtrip(frame)

    pd.testing.assert_frame_equal(pd.read_parquet(files.open()), frame)
    assert pq.read_table(files.open()).column("s").to_pylist() == frame["s"].tolist()
    read_by_polars = pl.read_parquet(files.open())
    assert read_by_polars.columns == [*frame.columns, "key"]
    assert read_by_polars["n"].to_list() == frame["n"].tolist()
    assert read_by_polars["c"].cast(pl.String).to_list() == frame["c"].tolist()
    lazily = pl.scan_parquet(files.open()).select(pl.col("f").sum()).collect().item()
    assert lazily == pytest.approx(frame["f"].sum())


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(5, 9, 2, name="r")),
        pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([("x", 1)], names=["k", "l"])),
        pd.DataFrame({"a": pd.Series([dt.date(2024, 1, 1), None], dtype=object)}),
        pd.DataFrame({"a": pd.array([1, None], dtype="Int64")}),
        pd.DataFrame({"a": pd.date_range("2024", periods=2, tz="Europe/Berlin")}),
        pd.DataFrame({"a": pd.Series([decimal.Decimal("1.50")], dtype=object)}),
    ],
    ids=["range", "levels", "dates", "nullable", "zone", "Decimal"],
)
def test_plain_pandas_restores_what_pandas_itself_would_have_written(frame: pd.DataFrame) -> None:
    _, _, files = roundtrip(frame)

    pd.testing.assert_frame_equal(pd.read_parquet(files.open()), frame, check_freq=False)


def test_a_series_is_a_file_of_one_column() -> None:
    _, _, files = roundtrip(pd.Series([1, 2], name="x"))
    assert pl.read_parquet(files.open()).to_dict(as_series=False) == {"x": [1, 2]}

    _, _, files = roundtrip(pd.Series([1, 2]))
    assert pl.read_parquet(files.open()).columns == ["values"]


@pytest.mark.parametrize(
    "value",
    [_frame(), pl.DataFrame({"a": ["x"] * 100}), pa.table({"a": ["x"] * 100})],
    ids=["pandas", "polars", "pyarrow"],
)
def test_files_are_compressed_with_zstd(value: Any) -> None:
    _, _, files = roundtrip(value)

    group = pq.ParquetFile(files.open()).metadata.row_group(0)
    assert {group.column(i).compression for i in range(group.num_columns)} == {"ZSTD"}


def test_each_column_gets_the_encoding_that_makes_it_small() -> None:
    table = pa.table(
        {name: TALL[name]() for name in ("running int", "random float", "few words", "random words")}
    )
    encoded, _, files = roundtrip(table)

    default = io.BytesIO()
    pq.write_table(table, default, compression="zstd")
    assert encoded.size < 0.8 * len(default.getvalue())
    group = pq.ParquetFile(files.open()).metadata.row_group(0)
    found = {group.column(i).path_in_schema: group.column(i).encodings for i in range(group.num_columns)}
    assert "DELTA_BINARY_PACKED" in found["running int"]
    assert "BYTE_STREAM_SPLIT" in found["random float"]
    assert "RLE_DICTIONARY" in found["few words"]
    assert "RLE_DICTIONARY" not in found["random words"]


@pytest.mark.parametrize(
    ("rows", "nbytes", "expected"),
    [(0, 0, MAX_GROUP), (10, 80, MAX_GROUP), (10**7, 8 * 10**7, MAX_GROUP), (10**6, 10**12, BLOCK)],
)
def test_a_row_group_has_about_a_million_rows_and_fewer_if_they_are_wide(
    rows: int, nbytes: int, expected: int
) -> None:
    assert group_rows(rows, nbytes) == expected


def test_row_groups_are_whole_blocks_of_the_hash() -> None:
    for width in (1, 7, 100, 333, 1_000, 10_000):
        assert group_rows(10**8, width * 10**8) % BLOCK == 0


@pytest.mark.parametrize("keep", [0, 0.5, 0.9])
@pytest.mark.parametrize(
    "value",
    [_frame(999), pl.DataFrame({"a": range(9_999)}), pa.table({"a": range(9_999)})],
    ids=["pandas", "polars", "pyarrow"],
)
def test_a_file_that_was_cut_is_reported_as_damaged(value: Any, keep: float) -> None:
    from daskflow.errors import DataMissing
    from daskflow.store.serializers import decode

    encoded, _, files = roundtrip(value)
    data = files.file.getvalue()

    with pytest.raises(DataMissing, match="The file of a table is damaged"):
        decode(encoded.encoding, encoded.info, None, lambda: io.BytesIO(data[: int(len(data) * keep)]))


def test_a_file_that_can_not_be_reached_is_not_called_damaged() -> None:
    from daskflow.store.serializers import decode

    class Unreachable(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            return 1_000

        def tell(self) -> int:
            return 1_000

        def readinto(self, buffer: Any) -> int:
            raise PermissionError(13, "Permission denied")

    for value in (_frame(), pl.DataFrame({"a": [1]}), pa.table({"a": [1]})):
        encoded, _, _ = roundtrip(value)
        with pytest.raises(PermissionError):
            decode(encoded.encoding, encoded.info, None, Unreachable)
