"""Queries of polars, datasets of Arrow, and pandas' indexes: stored as tables, they come back as what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from daskflow.pathspec import TaskName
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.flows import new_run
from daskflow.store.serializers import fingerprint
from daskflow.store.storage import storage_at

if TYPE_CHECKING:
    from pathlib import Path

    from daskflow.store.runs import RunStore


@pytest.fixture(params=["folder", "bucket"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunStore:
    place = tmp_path / "store" if request.param == "folder" else request.getfixturevalue("bucket").url()
    return new_run(storage_at(str(place)), "F", lambda number: {"run": number, "flow": "F"})


@pytest.fixture
def writer(run: RunStore) -> ArtifactWriter:
    return ArtifactWriter(run, TaskName("s", "0"), "0.a")


def test_a_lazy_frame_of_polars_is_computed_when_stored_and_lazy_again(
    run: RunStore, writer: ArtifactWriter, tmp_path: Path
):
    source = tmp_path / "source.parquet"
    pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]}).write_parquet(source)
    ref = writer.save("lazy", pl.scan_parquet(source).filter(pl.col("a") > 1))
    source.unlink()

    found = run.load("lazy", ref)

    assert (ref.type, ref.encoding, ref.info["rows"]) == ("polars.LazyFrame", "parquet", 2)
    assert isinstance(found, pl.LazyFrame)
    assert found.collect().equals(pl.DataFrame({"a": [2, 3], "b": ["y", "z"]}))
    assert found.select("b").collect().to_series().to_list() == ["y", "z"]


def test_a_dataset_of_arrow_is_one_again(run: RunStore, writer: ArtifactWriter, tmp_path: Path):
    for number in range(2):
        pq.write_table(pa.table({"a": pa.array([number] * 3, pa.int16())}), tmp_path / f"{number}.parquet")
    ref = writer.save("dataset", ds.dataset([str(tmp_path / f"{n}.parquet") for n in range(2)]))

    found = run.load("dataset", ref)

    assert (ref.type, ref.encoding) == ("pyarrow.Dataset", "parquet")
    assert isinstance(found, ds.Dataset)
    assert found.to_table(filter=ds.field("a") > 0)["a"].to_pylist() == [1, 1, 1]
    assert found.schema.field("a").type == pa.int16()


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([3, 1, 2], name="n"),
        pd.Index(["a", "b", None], name=7),
        pd.RangeIndex(2, 20, 3, name="r"),
        pd.date_range("1850-01-01", periods=4, freq="D", tz="Europe/Berlin"),
        pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["x", None]),
        pd.CategoricalIndex(["u", "v", "u"], ordered=True),
        pd.Index([]),
    ],
    ids=lambda index: type(index).__name__,
)
def test_an_index_of_pandas_is_a_table(run: RunStore, writer: ArtifactWriter, index: pd.Index):
    ref = writer.save("index", index)

    found = run.load("index", ref)

    assert ref.encoding == "parquet", ref.info
    assert type(found) is type(index)
    assert ref.type == f"pandas.{type(index).__name__}"
    pd.testing.assert_index_equal(found, index, exact="equiv")
    assert getattr(found, "freq", None) == getattr(index, "freq", None)


def test_what_can_not_be_a_table_is_a_pickle_with_the_reason(run: RunStore, writer: ArtifactWriter):
    index = pd.Index([1, "a", (2,)])
    ref = writer.save("index", index)

    assert ref.encoding == "pickle"
    assert "the index" in ref.info["why"]
    pd.testing.assert_index_equal(run.load("index", ref), index)


@pytest.mark.parametrize("kind", ["polars", "pyarrow"])
def test_what_is_lazy_and_can_not_be_a_table_is_computed_all_the_same(
    run: RunStore, writer: ArtifactWriter, tmp_path: Path, kind: str
):
    table = pa.table({"a": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), "b": [1]})
    source = tmp_path / "source.parquet"
    pq.write_table(table if kind == "pyarrow" else table.select(["b"]), source)
    big = pl.lit(2**100).cast(pl.Int128).alias("big")
    value = ds.dataset(source) if kind == "pyarrow" else pl.scan_parquet(source).with_columns(big)
    ref = writer.save("x", value)
    source.unlink()

    found = run.load("x", ref)

    assert ref.encoding == "pickle" or kind == "polars"
    rows = found.to_table()["b"].to_pylist() if kind == "pyarrow" else found.collect()["b"].to_list()
    assert rows == [1]
    assert ref.type == ("pyarrow.Dataset" if kind == "pyarrow" else "polars.LazyFrame")


def test_a_dataset_that_is_read_is_not_written_again(run: RunStore, writer: ArtifactWriter):
    ref = writer.save("x", ds.dataset(pa.table({"a": [1, 2, 3]})))
    found = run.load("x", ref)
    before = fingerprint(found)

    assert found.count_rows() == 3
    assert fingerprint(found) == before
