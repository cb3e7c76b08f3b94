"""SQL over the runs of a flow: steps and tables by name, read as far as they are named, and nothing but read."""

from __future__ import annotations

import datetime as dt
import sys
from typing import TYPE_CHECKING

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from daskflow.client import unions
from daskflow.client.rows import RunRows
from daskflow.client.sql import query
from daskflow.errors import CommandException, DataException, NamespaceMismatch, NotFound
from daskflow.pathspec import TaskName, TaskRange
from daskflow.store.artifacts import ArtifactWriter, shared_tables
from daskflow.store.records import TaskRecord, timestamp

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Past

    from daskflow.store.runs import RunStore


class Bomb:
    """A value whose loading can't go unnoticed."""

    def __reduce__(self) -> tuple:
        return (pytest.fail, ("a pickle was loaded",))


def item(index: int) -> dict:
    return {"kind": "foreach", "split": "start/0", "index": index, "size": 3, "var": "xs"}


def run_of(past: Past, first: int, user: str = "ada") -> RunStore:
    store = past.run(("start", "fit"), user=user)
    past.task(store, "start/0", artifacts={"bomb": Bomb(), "day": dt.date(2026, 1, 1)})
    for index in range(3):
        number = first + index
        table = pd.DataFrame({"x": [number] * 2, "text": ["a", "b"]})
        past.task(
            store, f"fit/{index}", stack=[item(index)],
            artifacts={"score": number / 2, "features": table, "mixed": "a" if index else 1, "_hidden": table},
        )  # fmt: skip
    return store


@pytest.fixture
def two_runs(past: Past) -> Past:
    run_of(past, 0)
    run_of(past, 10)
    return past


def rows(sql: str, **options) -> list[tuple]:
    return query(sql, "F", **options).rows


def test_a_step_is_a_table_of_its_tasks(two_runs: Past):
    answer = query("select run, avg(score) as mean from fit group by run order by 2 desc", "F")

    assert answer.columns == ["run", "mean"]
    assert answer.rows == [(2, 5.5), (1, 0.5)]
    assert rows("select day, status from start where run = 1") == [(dt.date(2026, 1, 1), "successful")]
    [(started,)] = rows("select started from start where run = 1")
    assert started == dt.datetime(2026, 1, 1, 0, 0, 4, tzinfo=dt.UTC)
    assert started.utcoffset() == dt.timedelta(0)
    assert rows("select mixed from fit where run = 1 order by task") == [("1",), ("a",), ("a",)]


def test_a_table_artifact_is_a_table_of_all_its_rows(two_runs: Past):
    answer = query("from fit.features order by run, task, text", "F")

    assert answer.columns == ["run", "task", "index", "x", "text"]
    assert answer.rows[:3] == [(1, "0", 0, 0, "a"), (1, "0", 0, 0, "b"), (1, "1", 1, 1, "a")]
    assert len(answer.rows) == 12
    joined = "select sum(f.x * fit.score) from fit.features f join fit using (run, task) where run = 2"
    assert rows(joined) == [(2 * sum(n * n / 2 for n in (10, 11, 12)),)]
    assert rows("select count(*) from fit.features") == [(12,)]


def test_only_the_runs_that_are_named_or_visible_count(two_runs: Past):
    run_of(two_runs, 100, "bob")

    assert rows("select distinct run from fit order by 1") == [(1,), (2,)]
    assert rows("select distinct run from fit", runs=["2"]) == [(2,)]
    assert rows("select max(score) from fit", runs=["3", "1"]) == [(51.0,)]
    with pytest.raises(NotFound, match="'F/9' does not exist"):
        rows("from fit", runs=["9"])
    with pytest.raises(NotFound, match="'G' does not exist"):
        query("select 1", "G")
    two_runs.run(flow="G", user="bob")
    with pytest.raises(NamespaceMismatch):
        query("select 1", "G")


def test_only_what_the_query_names_is_read(two_runs: Past, monkeypatch):
    read = []
    real_rows, real_union = RunRows.of_steps, unions._union
    monkeypatch.setattr(
        RunRows, "of_steps", lambda self, steps: read.extend(steps := list(steps)) or real_rows(self, steps)
    )
    monkeypatch.setattr(unions, "_union", lambda *given: read.append("table") or real_union(*given))

    rows("select 1")
    assert read == []
    rows("with start as (select 3 as n) select n, x from fit.features, start")
    assert read == ["start", "start", "table"]
    read.clear()
    rows("select (select count(*) from FIT)")
    assert read == ["fit", "fit"]


def test_what_there_is_can_be_asked_for(two_runs: Past):
    assert {name for name, *_ in rows("show tables")} == {"start", "fit", "fit.features"}
    assert ("features",) in rows(
        "select table_name from information_schema.tables where table_schema = 'fit'"
    )
    assert [name for name, *_ in rows("describe fit.features")] == ["run", "task", "index", "x", "text"]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("selec 1", 'syntax error at or near "selec"'),
        ("select nothing from fit", '"nothing" not found'),
        ("from nowhere", "nowhere does not exist(.|\n)*The steps are: fit, start"),
        ("from fit.nothing", "nothing does not exist(.|\n)*The steps are: fit, start"),
        ("create table x as select 1", "Only a query"),
        ("copy (select 1) to 'x.csv'", "Only a query"),
        ("attach 'x.db'", "Only a query"),
        ("select 1; select 2", "One query at a time: there are 2"),
        ("from read_csv('x.csv')", "is disabled|are disabled"),
        ("from 'x.parquet'", "does not exist|disabled"),
    ],
)
def test_what_can_not_be_answered_is_told_in_one_piece_and_nothing_is_written(
    two_runs: Past, sql: str, words: str, tmp_path: Path, monkeypatch
):
    (tmp_path / "x.csv").write_text("a\n1\n")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(CommandException, match=words):
        rows(sql)

    assert sorted(tmp_path.rglob("*")) == before


def test_names_that_clash_have_an_underscore_behind_them(past: Past):
    store = past.run(("start", "main", "Main"))
    table = pd.DataFrame({"run": ["own"], "Index": [1.5], "x": [1]})
    past.task(store, "main/0", artifacts={"t": table, "status": "mine"})
    past.task(store, "Main/0", artifacts={"t": pd.DataFrame({"x": [2]}), "T": pd.DataFrame({"x": [3]})})

    assert rows("select status, status_ from main_") == [("successful", "mine")]
    assert query("from main_.t", "F") == (
        ["run", "task", "index", "run_", "Index_", "x"],
        [(1, "0", None, "own", 1.5, 1)],
    )
    assert rows("select x, run_ from main_.t where run = 1") == [(1, "own")]
    assert rows("select x from main__.t") == [(3,)]


def test_tables_with_other_columns_or_types_go_together_if_they_can(past: Past):
    store = past.run(("start", "fit"))
    frames = [
        pd.DataFrame({"x": [1], "a": ["one"]}),
        pd.DataFrame({"x": [1.5], "b": [True]}),
        pl.DataFrame({"x": [2]}),
        pd.DataFrame({"x": pd.Categorical(["text"])}),
    ]
    for index, frame in enumerate(frames):
        past.task(
            store,
            f"fit/{index}",
            artifacts={"t": frame, "only" if index == 3 else "t2": frame},
            stack=[item(index)],
        )

    assert rows("select x, a, b from fit.t2 order by x") == [
        (1.0, "one", None),
        (1.5, None, True),
        (2.0, None, None),
    ]
    assert rows("select x from fit.only") == [("text",)]
    with pytest.raises(
        DataException, match=r"The tables fit\.t of different tasks do not go together: .*--run"
    ):
        rows("from fit.t")


def test_tables_that_items_share_a_file_for_are_rows_of_their_items(past: Past):
    store = past.run(("start", "fit"))
    tasks = TaskRange("fit", (), 0, 3)
    shared = shared_tables(store, tasks, "0.a")
    names = [TaskName("fit", str(index)) for index in range(3)]
    values = [pd.DataFrame({"x": [index] * (index + 1), "run": "r"}) for index in range(3)]
    refs = [
        ArtifactWriter(store, name, "0.a", shared).save("t", value)
        for name, value in zip(names, values, strict=True)
    ]
    shared.close()
    for index, (name, ref) in enumerate(zip(names, refs, strict=True)):
        now = timestamp()
        store.commit(
            TaskRecord(
                "F",
                "1",
                "fit",
                name.task_id,
                0,
                "0.a",
                "ok",
                now,
                now,
                stack=[item(index)],
                artifacts={"t": ref},
            )
        )
    past.task(store, "fit/3", artifacts={"t": pd.DataFrame({"x": [9], "run": ["r"]})}, stack=[item(3)])
    assert refs[0].info["row_group"] == 0

    expected = [("0", 0, 0), ("1", 1, 1), ("1", 1, 1), ("2", 2, 2), ("2", 2, 2), ("2", 2, 2), ("3", 3, 9)]
    assert rows('select task, "index", x from fit.t order by all') == expected
    assert rows("select count(*), min(run_) from fit.t where task = '2'") == [(3, "r")]
    assert rows("select count(*) from fit.t") == [(7,)]


def test_without_duckdb_one_line_says_what_to_install(two_runs: Past, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)

    with pytest.raises(
        DataException, match=r"SQL needs DuckDB, which is not installed: pip install 'daskflow\[sql\]'"
    ):
        rows("select 1")


class NoTable:
    """A value that only a pickle holds."""


def test_a_table_that_is_a_pickle_in_some_tasks_is_refused_instead_of_being_short_of_rows(past: Past):
    store = past.run(("start", "fit"))
    for index in range(4):
        frame = pd.DataFrame({"amount": [index]})
        if index in {1, 3}:
            frame["note"] = pd.Series([{"a": 1}], dtype=object)
        past.task(
            store, f"fit/{index}", artifacts={"t": frame, "model": NoTable(), "u": frame[["amount"]]}, stack=[item(index)]
        )  # fmt: skip

    refused = (
        r"The rows of fit\.t are not all .*: of 4 tasks 2 set a pickle, .*1/fit/1, because column 'note'"
    )
    with pytest.raises(DataException, match=refused):
        rows("select sum(amount) from fit.t")
    with pytest.raises(DataException, match=r"fit\.model .*of 4 tasks 4 set a pickle, .*NoTable"):
        rows("from fit.model")
    assert rows("select sum(amount) from fit.u") == [(6,)]
    assert {name for name, *_ in rows("show tables")} == {"start", "fit", "fit.t", "fit.u"} - {"start"}


def test_a_dask_frame_with_a_partition_that_is_a_pickle_is_refused(past: Past):
    import dask
    import dask.dataframe as dd

    mixed = pd.DataFrame({"x": [1, 2], "o": [{"a": 1}, "text"]}, index=[1, 2])
    plain = pd.DataFrame({"x": [1, 2], "o": pd.Series(["a", "b"], dtype=object)}, index=[3, 4])
    with dask.config.set({"scheduler": "sync", "dataframe.convert-string": False}):
        frame = dd.concat([dd.from_pandas(plain, npartitions=1), dd.from_pandas(mixed, npartitions=1)])
        past.task(
            past.run(("start", "fit")),
            "fit/0",
            artifacts={"t": frame, "all": dd.from_pandas(mixed, npartitions=1)},
        )

    with pytest.raises(
        DataException, match=r"fit\.t .*of 1 tasks 1 set a pickle, .*1/fit/0, because column 'o'"
    ):
        rows("from fit.t")
    with pytest.raises(DataException, match=r"fit\.all .*of 1 tasks 1 set a pickle, .*column 'o'"):
        rows('from fit."all"')


def test_tables_that_differ_in_capitals_alone_can_all_be_asked_for(past: Past):
    store = past.run(("start", "fit"))
    tables = {name: pd.DataFrame({"x": [number]}) for number, name in enumerate(["T", "t", "t_", "u"])}
    past.task(store, "fit/0", artifacts=tables | {"U": 1})

    assert {name for name, *_ in rows("show tables")} == {"fit", "fit.T", "fit.t_", "fit.t__", "fit.u"}
    for number, name in enumerate(["t", "T_", "t__", "u"]):
        assert rows(f"select x from fit.{name}") == [(number,)]


def test_what_has_no_name_is_called_with_an_underscore(past: Past):
    past.task(
        past.run(("start", "fit")),
        "fit/0",
        artifacts={"": pd.DataFrame({"": [1]}), "t": pd.DataFrame({"x": [1]})},
    )

    assert {name for name, *_ in rows("show tables")} == {"fit", "fit._", "fit.t"}
    assert rows("select _ from fit._") == [(1,)]


def test_tables_that_can_not_be_put_together_are_listed_all_the_same(past: Past):
    store = past.run(("start", "fit"))
    past.task(store, "fit/0", artifacts={"t": pd.DataFrame({"x": [1]})}, stack=[item(0)])
    past.task(store, "fit/1", artifacts={"t": pd.DataFrame({"x": ["text"]})}, stack=[item(1)])

    assert {name for name, *_ in rows("show tables")} == {"fit", "fit.t"}
    with pytest.raises(DataException, match="do not go together"):
        rows("select count(*) from fit.t, information_schema.tables")


def test_no_digit_of_a_time_is_lost(past: Past):
    ts, took = pd.Timestamp(1_700_000_000_123_456_789), pd.Timedelta(1_234_567_891, "ns")
    times = pd.DataFrame({"ts": [ts], "zone": [ts.tz_localize("UTC")], "took": [took]}, index=[0])
    times["us"] = pd.Series([pd.Timedelta(5, "us").as_unit("us")])
    lists = pa.table(
        {"l": pa.array([[ts.value]], pa.list_(pa.timestamp("ns"))), "t": pa.array([5001], pa.time64("ns"))}
    )
    store = past.run(("start", "fit"))
    past.task(store, "fit/0", artifacts={"times": times, "lists": lists})

    answer = query("select ts, zone, took, us, ts from fit.times order by ts desc; -- as asked", "F")
    assert answer.columns == ["ts", "zone", "took", "us", "ts"]
    assert answer.rows == [(ts, ts.tz_localize("UTC"), took.value, dt.timedelta(microseconds=5), ts)]
    assert rows("select l, t from fit.lists") == [(["2023-11-14 22:13:20.123456789"], "00:00:00.000005001")]
    assert rows("select count(*) from fit.times where took > 1234567890") == [(1,)]
