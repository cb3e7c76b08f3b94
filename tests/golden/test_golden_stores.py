"""Stores that earlier versions wrote: all of them can be read, in a folder and in a bucket, also without daskflow."""

from __future__ import annotations

import datetime
import json
import shutil
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from daskflow import Flow, Run, Task, namespace

HERE = Path(__file__).parent
STORES = sorted(HERE.glob("format-*"))


@pytest.fixture(params=[(store, place) for store in STORES for place in ("folder", "bucket")], ids=str)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a copy: a test must not change the one that is kept."""
    folder, place = request.param
    if place == "folder":
        shutil.copytree(folder, tmp_path / "store")
        return str(tmp_path / "store")
    bucket = request.getfixturevalue("bucket")
    for file in filter(Path.is_file, folder.rglob("*")):
        bucket.client.upload_file(str(file), bucket.name, f"store/{file.relative_to(folder)}")
    return bucket.url()


@pytest.fixture(autouse=True)
def all_runs():
    namespace(None)
    yield
    namespace("user:ada")


def test_there_is_one_for_each_format_so_far():
    from daskflow.store.records import FORMAT

    assert [store.name for store in STORES] == [f"format-{number}" for number in range(1, FORMAT + 1)]


def test_its_runs_tags_and_steps_are_there(store: str):
    runs = list(Flow("Golden", store=store))

    assert [run.id for run in runs] == ["2", "1"]
    assert all(run.successful for run in runs)
    assert {"golden", "later", "user:ada"} <= runs[1].tags
    assert {step.id for step in runs[0]} == {step.id for step in runs[1]}
    assert {step.id for step in runs[1]} == {"start", "tables", "lazy", "work", "join", "end"}
    assert runs[1].data.alpha == 0.5


@pytest.mark.parametrize("number", ["1", "2"])
def test_plain_values_come_back_as_they_were(store: str, number: str):
    data = Task(f"Golden/{number}/start/0", store=store).data

    assert (data.number, data.text, data.nothing) == (7, "größe", None)
    assert data.nested == {"a": [1, 2.5, True]}
    assert type(data.score) is np.float64
    assert data.typed == {"when": datetime.date(2024, 2, 29), "pair": (1, {2}), "price": Decimal("1.10")}
    assert (type(data.model).__name__, data.model.weight) == ("Model", 3)
    assert data.large == list(range(20_000))


def test_tables_come_back_as_they_were(store: str):
    data = Task("Golden/1/tables/0", store=store).data
    index = pd.date_range("1890-01-01", periods=4, tz="Europe/Berlin", name="when")
    expected = pd.DataFrame(
        {
            "int": [1, 2, 3, 4],
            "float": [0.5, np.nan, np.inf, -0.0],
            "text": ["a", "b", None, "d"],
            "kind": pd.Categorical(["x", "y", "x", "x"], ["y", "x"], ordered=True),
            "whole": pd.array([1, None, 3, 4], dtype="Int64"),
            "price": [Decimal("1.10"), Decimal("2.20"), None, Decimal("4.40")],
        },
        index=index,
    )

    pd.testing.assert_frame_equal(data.pandas, expected)
    pd.testing.assert_series_equal(data.series, pd.Series([1, 2], name="two"))
    assert data.odd["mixed"].tolist() == [1, "a", (2,), None]
    assert data.polars.equals(pl.DataFrame({"a": [1, 2], "list": [[1], [2, 3]]}))
    assert data.arrow.equals(pa.table({"a": pa.array([1, None], pa.int16()), "s": [{"x": 1}, {"x": 2}]}))


def test_a_lazy_frame_comes_back_lazy(store: str):
    found = Task("Golden/1/lazy/0", store=store).data.dask

    assert found.divisions == (0, 8, 14, 18)
    assert found.x.sum().compute(scheduler="sync") == sum(range(10))


def test_items_their_logs_attempts_and_tables_are_there(store: str):
    run = Run("Golden/1", store=store)
    items = sorted(run["work"], key=lambda task: task.index)

    assert [task.data.letter for task in items] == list("ABCDEFGHI")
    assert [task.data.rows["place"].tolist() for task in items] == [[n, -n] for n in range(9)]
    assert [task.stdout for task in items] == [f"works on {letter}\n" for letter in "abcdefghi"]
    assert "e is not mended" in "".join(text for _, text in items[4].loglines("stderr", attempt=0))
    assert items[4].path_components[-1] == "4"
    assert run["join"].task.data.letters == "ABCDEFGHI"


def test_its_tables_open_without_daskflow():
    for store in STORES:
        for record in store.glob("Golden/1/*/*/task.json"):
            for name, ref in json.loads(record.read_text()).get("artifacts", {}).items():
                if ref.get("encoding") == "parquet" and ref.get("path"):
                    assert len(pd.read_parquet(store / ref["path"])) == ref["info"]["rows"], name
