"""Dask DataFrames at rest: a folder of partitions that come back lazy, exact, and with known divisions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from daskflow.errors import DataException, DataMissing, StoreError
from daskflow.pathspec import TaskName
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.flows import new_run
from daskflow.store.gathered import concat
from daskflow.store.serializers import dask_frames, fingerprint
from daskflow.store.serializers.table_hash import BLOCK
from daskflow.store.storage import LocalStorage, storage_at

if TYPE_CHECKING:
    from pathlib import Path

    from daskflow.store.runs import RunStore


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    return new_run(storage_at(str(tmp_path / "store")), "F", lambda number: {"run": number, "flow": "F"})


@pytest.fixture
def writer(run: RunStore) -> ArtifactWriter:
    return ArtifactWriter(run, TaskName("s", "0"), "0.a")


def frame(rows: int = 90, index: object = None) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "a": np.arange(rows),
            "b": [f"x{number}" for number in range(rows)],
            "c": pd.Categorical(["u", "v", "w"] * (rows // 3)),
            "d": pd.Series([1, None, 3] * (rows // 3), dtype="Int64").array,
        },
        index=index,
    )


INDEXES = {
    "numbers": lambda: None,
    "times": lambda: pd.date_range("2024", periods=90, tz="Europe/Berlin"),
    "old times": lambda: pd.date_range("1850", periods=90, freq="YS", tz="Europe/Berlin"),
    "texts": lambda: [f"k{number:03}" for number in range(90)],
}


@pytest.mark.parametrize("kind", INDEXES)
@pytest.mark.parametrize("known", [True, False])
def test_it_comes_back_lazy_exact_and_with_known_divisions(
    run: RunStore, writer: ArtifactWriter, kind: str, known: bool
):
    ddf = dd.from_pandas(frame(index=INDEXES[kind]()), npartitions=4)
    ref = writer.save("ddf", ddf if known else ddf.clear_divisions())

    found = run.load("ddf", ref)

    assert type(found) is type(ddf)
    assert ref.type == "dask.dataframe.DataFrame"
    assert (ref.encoding, ref.info["rows"], ref.info["npartitions"]) == ("dask", 90, 4)
    assert list(found.divisions) == list(ddf.divisions)
    for one, other in zip(found.partitions, ddf.partitions, strict=True):
        pd.testing.assert_frame_equal(one.compute(), other.compute(), check_freq=False)


def test_a_series_comes_back_as_one(run: RunStore, writer: ArtifactWriter):
    series = dd.from_pandas(frame(), npartitions=2).d

    found = run.load("s", writer.save("s", series))

    assert type(found) is type(series)
    pd.testing.assert_series_equal(found.compute(), series.compute())


def test_its_identity_is_its_content_not_how_it_was_come_by(writer: ArtifactWriter):
    ddf = dd.from_pandas(frame(), npartitions=3)

    hashes = [writer.save(name, value).hash for name, value in {"x": ddf, "y": ddf.clear_divisions()}.items()]
    other = writer.save("z", ddf.assign(a=0)).hash

    assert hashes[0] == hashes[1] != other


def test_nothing_of_it_is_read_before_it_is_computed_and_then_only_the_columns_asked_for(
    run: RunStore, writer: ArtifactWriter, monkeypatch: pytest.MonkeyPatch
):
    ref = writer.save("ddf", dd.from_pandas(frame(), npartitions=3))
    opened: list[str] = []
    real = LocalStorage.open
    monkeypatch.setattr(
        LocalStorage,
        "open",
        lambda self, path, version=None: opened.append(path.rpartition("/")[2]) or real(self, path, version),
    )
    read: list[list[str]] = []
    columns = dask_frames.ParquetSerializer  # whole files
    monkeypatch.setattr(columns, "decode", _noted(columns.decode, read))

    found = run.load("ddf", ref)
    assert sorted(opened) == ["_divisions", "_meta"]
    read.clear()

    assert found.a.sum().compute() == sum(range(90))
    assert found[["d", "c"]].compute().equals(dd.from_pandas(frame(), npartitions=3)[["d", "c"]].compute())
    assert read == []


def _noted(real, read):
    def decode(self, info, inline, open_file):
        read.append(info["producer"])
        return real(self, info, inline, open_file)

    return decode


def test_partitions_that_parquet_would_change_are_pickles_with_the_reason(
    run: RunStore, writer: ArtifactWriter
):
    mixed = pd.DataFrame({"x": pd.Series([1, "a", (2,), None], dtype=object)})
    with dask.config.set({"dataframe.convert-string": False}):
        ddf = dd.from_map(lambda part: mixed if part else mixed.iloc[:0], [0, 1], meta=mixed.iloc[:0])
        ref = writer.save("ddf", ddf)

    pd.testing.assert_frame_equal(run.load("ddf", ref).compute(), mixed)
    assert ref.info["parts"][1]["encoding"] == "pickle"
    assert "column 'x'" in ref.info["parts"][1]["info"]["why"]


def test_a_frame_without_rows_comes_back(run: RunStore, writer: ArtifactWriter):
    ddf = dd.from_pandas(frame(), npartitions=3)

    found = run.load("ddf", writer.save("ddf", ddf[ddf.a > 1000]))

    assert len(found) == 0
    assert list(found.columns) == list(ddf.columns)


def test_other_tools_read_its_folder(run: RunStore, writer: ArtifactWriter):
    import pyarrow.dataset as ds

    path = run.storage.locate(str(writer.save("ddf", dd.from_pandas(frame(), npartitions=3)).path))

    assert len(pd.read_parquet(path)) == len(dd.read_parquet(path)) == 90
    assert ds.dataset(path).to_table(columns=["a"]).column("a").to_pylist() == list(range(90))


def test_a_partition_that_has_gone_is_named(run: RunStore, writer: ArtifactWriter, tmp_path: Path):
    ref = writer.save("ddf", dd.from_pandas(frame(), npartitions=3))
    found = run.load("ddf", ref)
    (tmp_path / "store" / str(ref.path) / "part.00001.parquet").unlink()

    with pytest.raises(DataMissing, match=r"part\.00001\.parquet, a partition of it, is missing"):
        found.compute()


def test_one_that_stays_as_it_is_counts_as_unchanged():
    ddf = dd.from_pandas(frame(), npartitions=3)

    assert fingerprint(ddf) == fingerprint(dd.from_pandas(frame(), npartitions=3))
    before = fingerprint(ddf)
    ddf["e"] = ddf.a + 1
    assert fingerprint(ddf) != before


def test_within_a_list_it_is_a_recipe(run: RunStore, writer: ArtifactWriter):
    ddf = dd.from_pandas(frame(), npartitions=3)

    (found,) = run.load("ddfs", writer.save("ddfs", [ddf]))

    pd.testing.assert_frame_equal(found.compute(), ddf.compute())


def test_categories_that_were_not_known_are_not_known_afterwards(run: RunStore, writer: ArtifactWriter):
    texts = pd.DataFrame({"c": list("abca"), "v": [1, 2, 3, 4], "k": pd.Categorical(list("xyxy"))})
    ddf = dd.from_pandas(texts, npartitions=2).astype({"c": "category"})

    found = run.load("d", writer.save("d", ddf))
    column = run.load("c", writer.save("c", ddf.c))

    assert (ddf.c.cat.known, found.c.cat.known, found.k.cat.known, column.cat.known) == (
        False,
        False,
        True,
        False,
    )
    assert found.groupby("c", observed=False).v.sum().compute().to_dict() == {"a": 5, "b": 2, "c": 3}
    assert sorted(column.cat.as_known().cat.categories) == ["a", "b", "c"]


def test_an_index_is_a_pickle_that_says_why(run: RunStore, writer: ArtifactWriter):
    ddf = dd.from_pandas(frame(), npartitions=2)

    ref = writer.save("index", ddf.index)

    assert (ref.encoding, "to_frame" in ref.info["why"]) == ("pickle", True)
    assert run.load("index", ref).compute().equals(ddf.index.compute())


# Many tables as one


def test_the_tables_of_many_tasks_are_one_lazy_frame(run: RunStore, writer: ArtifactWriter):
    import polars as pl

    frames = [frame(3), pl.DataFrame({"a": [7], "b": ["p"], "c": ["u"], "d": [None]}), frame(6)]
    refs = [writer.save(f"df{number}", each) for number, each in enumerate(frames)]

    found = concat(run, "df", refs)

    assert found.a.compute().tolist() == [0, 1, 2, 7, 0, 1, 2, 3, 4, 5]
    assert found.npartitions == 1


def test_large_tables_are_partitions_of_their_own(
    run: RunStore, writer: ArtifactWriter, monkeypatch: pytest.MonkeyPatch
):
    from daskflow.store import gathered

    monkeypatch.setattr(gathered, "PARTITION_BYTES", 1)
    refs = [writer.save(f"df{number}", frame(3)) for number in range(3)]

    assert concat(run, "df", refs).npartitions == 3


@pytest.mark.parametrize("kind", ["frame", "dates", "series", "arrow"])
def test_a_large_table_is_a_partition_a_row_group(
    run: RunStore, writer: ArtifactWriter, monkeypatch: pytest.MonkeyPatch, kind: str
):
    import pyarrow as pa

    from daskflow.store import gathered
    from daskflow.store.serializers import table_file

    monkeypatch.setattr(gathered, "PARTITION_BYTES", 100)
    monkeypatch.setattr(table_file, "MAX_GROUP", BLOCK)
    rows = 2 * BLOCK + 3
    whole = pd.DataFrame(
        {"a": range(rows), "b": np.arange(rows) % 7}, index=pd.RangeIndex(5, 5 + 2 * rows, 2)
    )
    if kind == "dates":
        whole.index = pd.date_range("2000", periods=rows, freq="min", name="when")
    value = {"series": whole.a, "arrow": pa.table({"a": whole.a.array})}.get(kind, whole)
    expected = pd.DataFrame({"a": range(rows)}) if kind == "arrow" else value

    found = concat(run, "t", [writer.save("t", value)])

    assert (found.npartitions, len(found)) == (3, rows)
    assert found.get_partition(1).index.compute()[0] == (0 if kind == "arrow" else whole.index[BLOCK])
    computed = found.compute().reset_index(drop=kind == "arrow")
    pd.testing.assert_frame_equal(
        computed, expected.reset_index(drop=kind == "arrow"), check_index_type=False
    )
    if kind in ("frame", "dates"):
        assert found.b.compute().equals(whole.b)


def test_lazy_frames_are_joined_without_being_computed(run: RunStore, writer: ArtifactWriter):
    refs = [writer.save(f"d{number}", dd.from_pandas(frame(30), npartitions=2)) for number in range(3)]

    found = concat(run, "d", refs)

    assert (found.npartitions, len(found)) == (6, 90)


def test_tables_whose_categories_differ_have_those_of_all(
    run: RunStore, writer: ArtifactWriter, monkeypatch: pytest.MonkeyPatch
):
    from daskflow.store import gathered

    frames = [pd.DataFrame({"c": pd.Categorical([f"k{number}"]), "v": [number]}) for number in range(4)]
    refs = [writer.save(f"t{number}", each) for number, each in enumerate(frames)]
    monkeypatch.setattr(gathered, "PARTITION_TABLES", 2)

    found = concat(run, "t", refs)

    assert (found.npartitions, found.c.cat.known) == (2, False)
    assert found.c.compute().tolist() == ["k0", "k1", "k2", "k3"]
    assert found.compute().c.cat.categories.tolist() == ["k0", "k1", "k2", "k3"]
    assert list(dd.get_dummies(found.categorize()).columns) == ["v", "c_k0", "c_k1", "c_k2", "c_k3"]
    assert concat(run, "t", refs[:1]).c.cat.categories.tolist() == ["k0"]


def test_series_queries_and_datasets_are_joined_too(run: RunStore, writer: ArtifactWriter):
    import polars as pl
    import pyarrow.dataset as ds

    series = [writer.save("s", pd.Series([1, 2], name="n")), writer.save("p", pl.Series("n", [3]))]
    table = pl.DataFrame({"x": [1, 2], "y": ["a", "b"]})
    tables = [writer.save("l", table.lazy()), writer.save("d", ds.dataset(table.to_arrow()))]

    assert concat(run, "s", series).compute().tolist() == [1, 2, 3]
    assert concat(run, "t", tables).x.compute().tolist() == [1, 2, 1, 2]
    with pytest.raises(DataException, match="'t' of some inputs is a series, of others a frame"):
        concat(run, "t", series + tables)


def test_what_is_no_frame_is_refused_by_name(run: RunStore, writer: ArtifactWriter):
    with pytest.raises(DataException, match="Artifact 'x' of an input is a int, no frame"):
        concat(run, "x", [writer.save("x", 1)])


def test_a_partition_that_is_computed_twice_has_one_file_which_nobody_replaces(
    run: RunStore, writer: ArtifactWriter
):
    ref = writer.save("ddf", dd.from_pandas(frame(), npartitions=3))
    folder = dask_frames.Folder(run.storage.url, str(ref.path))
    before = run.load("ddf", ref).compute()

    again = dask_frames.write_part(before.iloc[:30], folder, 0)
    with pytest.raises(StoreError, match="was computed twice, and came out differently"):
        dask_frames.write_part(before.iloc[:29], folder, 0)

    assert again.file == ref.info["parts"][0]["file"]
    pd.testing.assert_frame_equal(run.load("ddf", ref).compute(), before)
