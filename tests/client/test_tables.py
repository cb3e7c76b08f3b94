"""Tables are read in part and lazily, as what they were, and also by programs that know nothing of daskflow."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import dask
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from daskflow import Task
from daskflow.client.sql import query
from daskflow.errors import DataException, DataMissing
from daskflow.pathspec import TaskName, TaskRange
from daskflow.store.artifacts import ArtifactWriter, shared_tables
from daskflow.store.records import TaskRecord, timestamp

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Past

    from daskflow import DataArtifact

DAYS = pd.DataFrame(
    {"kind": pd.Categorical(["a", "b"] * 50), "x": range(100)},
    index=pd.date_range("2026-01-01", periods=100, freq="D", name="day"),
)
TABLES = {
    "plain": pd.DataFrame({"x": range(100), "y": ["text"] * 100}),
    "counted": pd.DataFrame({"x": range(100)}, index=pd.RangeIndex(10, 210, 2, name="n")),
    "days": DAYS,
    "series": pd.Series(range(100), name="s", index=list(range(100))),
    "polars": pl.DataFrame({"x": range(100), "e": pl.Series(["b"] * 100, dtype=pl.Enum(["a", "b"]))}),
    "column": pl.Series("c", range(100)),
    "arrow": pa.table({"x": pa.array(range(100), pa.int16())}),
}


@pytest.fixture
def artifacts(past: Past):
    store = past.run()
    others = {"number": 3, "thing": bytearray(b"x"), "odd": pd.DataFrame({"x": [1, "one"]})}
    lazy = {
        "lazy": pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]}).lazy(),
        "set": ds.dataset(TABLES["arrow"]),
    }
    past.task(store, "start/0", artifacts=TABLES | others | lazy)
    return Task("F/1/start/0").artifacts


def first(value, n: int):
    return (
        value.slice(0, n)
        if isinstance(value, pa.Table)
        else value.iloc[:n]
        if hasattr(value, "iloc")
        else value.head(n)
    )


def assert_same(one, other) -> None:
    assert type(one) is type(other)
    if isinstance(one, pd.DataFrame):
        pd.testing.assert_frame_equal(one, other)
    elif isinstance(one, pd.Series):
        pd.testing.assert_series_equal(one, other)
    else:
        assert one.equals(other)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("n", [0, 1, 7, 1000])
def test_the_first_rows_are_of_the_type_that_was_set(artifacts, name: str, n: int):
    assert_same(getattr(artifacts, name).head(n), first(TABLES[name], n))


def test_ten_rows_are_shown_unless_told_otherwise(artifacts):
    assert len(artifacts.plain.head()) == 10
    with pytest.raises(ValueError, match="no fewer than 0 rows"):
        artifacts.plain.head(-1)


def test_a_query_of_polars_and_a_dataset_of_arrow_are_over_the_file(artifacts):
    query = artifacts.plain.scan().filter(pl.col("x") > 97).select("x")
    assert isinstance(query, pl.LazyFrame)
    assert query.collect()["x"].to_list() == [98, 99]

    found = artifacts.days.dataset().to_table(columns=["x", "day"], filter=ds.field("x") >= 98)
    assert found.column("x").to_pylist() == [98, 99]
    assert artifacts.polars.dataset().count_rows() == 100
    assert artifacts.arrow.dataset().schema.names == ["x"]


@pytest.mark.parametrize("ask", ["head", "scan", "dataset"])
def test_what_is_no_table_says_what_it_is(artifacts, ask: str):
    with pytest.raises(
        DataException, match=r"is for tables; .*number' is of type int, kept as json\. Use \.data"
    ):
        getattr(artifacts.number, ask)()
    with pytest.raises(
        DataException, match="odd' is of type pandas.DataFrame, kept as a pickle, because column 'x'"
    ):
        getattr(artifacts.odd, ask)()


def test_a_table_whose_file_is_gone_or_damaged_is_named(artifacts):
    with open(artifacts.plain.path, "wb") as file:
        file.write(b"nothing")

    with pytest.raises(DataMissing, match="'plain' of F/1 .* was cut off or replaced.* `resume start`"):
        artifacts.plain.head()


@pytest.mark.parametrize("name", ["polars", "column", "lazy"])
@pytest.mark.parametrize("damage", ["gone", "cut off", "overwritten"])
def test_of_polars_too_a_file_that_is_gone_or_damaged_is_named(artifacts, name: str, damage: str):
    artifact = getattr(artifacts, name)
    with open(artifact.path, "r+b") as file:
        file.truncate(artifact.size // 2 if damage == "cut off" else 0)
        file.write(b"x" * artifact.size if damage == "overwritten" else b"")
    if damage == "gone":
        os.unlink(artifact.path)

    with pytest.raises(DataMissing, match=f"'{name}' of F/1 .*{artifact.path}"):
        artifact.head()
    if damage != "overwritten":
        with pytest.raises(DataMissing, match=f"'{name}' of F/1 .*{artifact.path}"):
            _ = artifact.data
    with pytest.raises(DataMissing, match=f"The file of a table is .*{artifact.path}"):
        artifact.dataset()
    with pytest.raises(DataMissing, match=f"The file of a table is .*{artifact.path}"):
        query(f"from start.{name}", "F")


def test_the_first_rows_of_what_was_lazy_are_those_of_its_frame(artifacts):
    assert artifacts.lazy.head(2).equals(pl.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
    assert artifacts.set.head(2).equals(TABLES["arrow"].slice(0, 2))


def test_what_a_pickle_is_is_told_without_loading_it(artifacts):
    thing = artifacts.thing

    assert (thing.type, thing.encoding) == ("bytearray", "pickle")
    assert thing.size > 0
    assert thing.why
    assert repr(thing) == f"DataArtifact('F/1/start/0/thing'): bytearray, pickle, {thing.size} bytes"


def test_a_directory_needs_no_options(artifacts):
    assert artifacts.plain.storage_options == {}
    pd.testing.assert_frame_equal(
        pd.read_parquet(artifacts.plain.path, storage_options=artifacts.plain.storage_options or None),
        TABLES["plain"],
    )


def shared(past: Past, values: list) -> list[DataArtifact]:
    """An artifact of each of several tasks, which is in a row group of a file."""
    store = past.run(("start", "work", "end"))
    tasks = TaskRange("work", (), 0, len(values))
    tables = shared_tables(store, tasks, "0.a")
    names = [TaskName("work", str(index)) for index in range(len(values))]
    refs = [
        ArtifactWriter(store, name, "0.a", tables).save("x", value)
        for name, value in zip(names, values, strict=True)
    ]
    tables.close()
    for name, ref in zip(names, refs, strict=True):
        now = timestamp()
        store.commit(
            TaskRecord("F", store.run, "work", name.task_id, 0, "0.a", "ok", now, now, artifacts={"x": ref})
        )
    return [Task(f"F/{store.run}/{name}")["x"] for name in names]


@pytest.mark.parametrize("make", [lambda n: pd.DataFrame({"x": n}), lambda n: pl.DataFrame({"x": n})])
def test_of_a_file_that_items_share_only_the_item_s_rows_are_there(past: Past, make):
    numbers = [[1, 2, 3], [4], [5, 6]]
    artifacts = shared(past, [make(each) for each in numbers])

    assert len({each.path for each in artifacts}) == 1
    for artifact, expected in zip(artifacts, numbers, strict=True):
        assert artifact.head(2)["x"].to_list() == expected[:2]
        assert artifact.scan().collect()["x"].to_list() == expected
        assert artifact.scan().filter(pl.col("x") > 2).collect()["x"].to_list() == [
            n for n in expected if n > 2
        ]
        assert artifact.dataset().to_table()["x"].to_pylist() == expected
        assert artifact.dataset().count_rows() == len(expected)
        assert artifact.dataset().filter(ds.field("x") > 1).count_rows() == sum(n > 1 for n in expected)


READERS = {
    "pandas": "import pandas; print(list(pandas.read_parquet({path!r})['x'])[:3])",
    "polars": "import polars; print(polars.read_parquet({path!r})['x'].to_list()[:3])",
    "pyarrow": "import pyarrow.parquet as pq; print(pq.read_table({path!r})['x'].to_pylist()[:3])",
    "duckdb": "import duckdb; print([x for x, in duckdb.sql('select x from ' + repr({path!r}) + ' limit 3').fetchall()])",
}


@pytest.mark.parametrize("library", READERS)
@pytest.mark.parametrize("name", ["plain", "days", "polars", "arrow"])
def test_where_daskflow_is_not_to_be_had_the_path_is_enough(artifacts, library: str, name: str, tmp_path):
    without = "import sys; sys.modules['daskflow'] = None\n"

    done = subprocess.run(
        [sys.executable, "-I", "-c", without + READERS[library].format(path=getattr(artifacts, name).path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.stdout == "[0, 1, 2]\n", done.stderr


LABELLED = {
    "numbers": pd.DataFrame({0: [1, 2], 1: ["a", "b"]}),
    "truths": pd.DataFrame({True: [1], False: [2]}),
    "levels": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
    "categories": pd.DataFrame({"a": [1, 2]}, index=pd.CategoricalIndex(["u", "v"])),
    "counted": pd.DataFrame({"a": [1, 2]}, index=pd.RangeIndex(0, 20, 10, name="r")),
    "pairs": pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("x", 1), ("y", 2)])),
    "objects": pd.DataFrame({"a": pd.Series(["x", None], dtype=object), "c": pd.Categorical(["x", "y"])}),
    "bare": pd.DataFrame(index=range(5)),
    "series": pd.Series([1, 2], name="s", index=["x", "y"]),
}


@pytest.mark.parametrize("name", LABELLED)
def test_what_dask_computes_of_a_table_is_the_table(past: Past, name: str):
    past.task(past.run(), "start/0", artifacts={name: LABELLED[name]})

    found = Task("F/1/start/0")[name].dask()

    with dask.config.set(scheduler="sync"):
        assert_same(found.compute(), LABELLED[name])
        assert_same(found._meta, LABELLED[name].iloc[:0])
        assert len(found) == len(LABELLED[name])


def test_what_other_libraries_made_is_lazy_in_dask_too(past: Past):
    table = pl.DataFrame({"x": [1, 2], "y": ["a", "b"]})
    values = {
        "lazy": table.lazy(),
        "arrow": table.to_arrow(),
        "set": ds.dataset(table.to_arrow()),
        "frame": table,
    }
    past.task(past.run(), "start/0", artifacts=values | {"column": table["x"], "index": pd.RangeIndex(5)})
    artifacts = Task("F/1/start/0").artifacts

    with dask.config.set(scheduler="sync"):
        for name in values:
            found = getattr(artifacts, name).dask()
            assert found.compute().to_dict("list") == {"x": [1, 2], "y": ["a", "b"]}
            assert (found.x.sum().compute(), len(found)) == (3, 2)
        assert artifacts.column.dask().sum().compute() == 3
        assert len(artifacts.index.dask()) == 5


def test_a_path_may_have_characters_that_others_take_for_patterns(past: Past, tmp_path: Path):
    past = type(past)(tmp_path / "a [1] ü*?")
    past.task(past.run(), "start/0", artifacts={"x": TABLES["plain"]})

    found = Task("F/1/start/0", store=past.url)["x"]

    assert found.dask().x.sum().compute(scheduler="sync") == sum(range(100))


def test_rows_without_columns_are_had_from_the_record_or_refused(past: Past):
    past.task(
        past.run(), "start/0", artifacts={"bare": pd.DataFrame(index=range(5)), "numbers": pd.RangeIndex(5)}
    )
    artifacts = Task("F/1/start/0").artifacts

    assert_same(artifacts.bare.head(3), pd.DataFrame(index=range(3)))
    assert artifacts.numbers.head(9).equals(pd.RangeIndex(5))
    assert {name for name, *_ in query("show tables", "F").rows} == {"start", "start.bare", "start.numbers"}
    for ask in (artifacts.bare.scan, artifacts.numbers.dataset, lambda: query("from start.bare", "F")):
        with pytest.raises(DataException, match=r"has 5 rows and no columns, .* Use \.data"):
            ask()
