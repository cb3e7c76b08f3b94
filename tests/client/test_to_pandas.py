"""Tasks as a frame: a row each, typed, whether they succeeded or not; nothing is unpickled for it."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from daskflow import Flow, Run, Step, namespace
from daskflow.errors import DamagedRecordWarning
from daskflow.pathspec import TaskRange
from daskflow.store.layout import new_execution
from daskflow.store.sessions import open_session

if TYPE_CHECKING:
    from conftest import Past

    from daskflow.store.runs import RunStore

FACTS = [
    "run", "step", "task", "index", "attempt", "status", "started", "finished", "seconds", "cpu_seconds",
    "peak_memory", "worker", "pid",
]  # fmt: skip
PROCESS = {"pid": 7, "host": "here", "max_rss": 5000, "cpu_user": 0.25, "cpu_system": 0.5}


class Bomb:
    """A value whose loading can't go unnoticed."""

    def __reduce__(self) -> tuple:
        return (pytest.fail, ("a pickle was loaded",))


def item(index: int) -> dict:
    return {"kind": "foreach", "split": "start/0", "index": index, "size": 12, "var": "xs"}


@pytest.fixture
def ran(past: Past) -> RunStore:
    store = past.run(("start", "work", "end"))
    past.task(
        store, "start/0", process=PROCESS,
        artifacts={"xs": [1], "bomb": Bomb(), "note": "n" * 300, "day": dt.date(2026, 1, 2), "_hidden": 1, "step": "mine"},
    )  # fmt: skip
    for index in (10, 2, 0):
        artifacts = {
            "score": np.float64(index / 2), "count": np.int32(index), "maybe": None if index else 5, "even": not index,
            "mixed": "a" if index else 1, "when": pd.Timestamp("2026-01-01", tz="Asia/Tokyo"), "table": pd.DataFrame({"x": [1]}),
        }  # fmt: skip
        past.task(store, f"work/{index}", artifacts=artifacts, stack=[item(index)])
    return store


def test_a_task_is_a_row_with_what_is_known_of_it(ran: RunStore):
    frame = Step("F/1/start").to_pandas()

    assert list(frame.columns) == [*FACTS, "LIMIT", "alpha", "day", "note", "step_"]
    row = frame.iloc[0]
    assert (row.run, row.step, row.task, row.attempt, row.status) == (1, "start", "0", 0, "successful")
    assert pd.isna(row["index"])
    assert row.started == pd.Timestamp("2026-01-01 00:00:04", tz="UTC")
    assert (row.seconds, row.cpu_seconds, row.peak_memory, row.worker, row.pid) == (
        1.0,
        0.75,
        5000,
        "here",
        7,
    )
    assert (row.LIMIT, row.alpha, row.day, row.note, row.step_) == (
        3,
        5,
        dt.date(2026, 1, 2),
        "n" * 300,
        "mine",
    )


def test_columns_have_types_and_rows_the_order_of_the_tasks(ran: RunStore):
    frame = Step("F/1/work").to_pandas()

    assert frame["task"].tolist() == ["0", "2", "10"]
    assert frame["index"].tolist() == [0, 2, 10]
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "run": "int64", "step": str(pd.Series(["a"]).dtype), "task": str(pd.Series(["a"]).dtype), "index": "int64",
        "attempt": "int64", "status": str(pd.Series(["a"]).dtype), "started": "datetime64[us, UTC]",
        "finished": "datetime64[us, UTC]", "seconds": "float64", "cpu_seconds": "float64", "peak_memory": "Int64",
        "worker": str(frame["worker"].dtype), "pid": "Int64", "LIMIT": "int64", "alpha": "int64", "count": "int64",
        "even": "bool", "maybe": "Int64", "mixed": "object", "score": "float64", "when": str(frame["when"].dtype),
    }  # fmt: skip
    assert frame["score"].tolist() == [0.0, 1.0, 5.0]
    assert frame["mixed"].tolist() == [1, "a", "a"]
    assert frame["when"].iloc[0] == pd.Timestamp("2025-12-31 15:00", tz="UTC")
    assert frame["maybe"].isna().tolist() == [False, True, True]


def test_what_a_task_inherited_by_reference_is_there(past: Past, ran: RunStore):
    from daskflow.pathspec import TaskName

    ref = ran.task(TaskName("start", "0")).artifacts["note"].inherited(TaskName("start", "0"))
    assert ref.record == "start/0"
    past.task(ran, "end/0")
    record = ran.task(TaskName("end", "0"))
    from dataclasses import replace

    from daskflow.store import records

    ran.storage.replace(
        ran.layout.commit(record.name), records.encode(replace(record, artifacts={"note": ref}).to_json())
    )

    assert Step("F/1/end").to_pandas()["note"].tolist() == ["n" * 300]


def test_tasks_that_failed_run_or_were_lost_are_rows_too(past: Past, ran: RunStore):
    past.task(ran, "end/0", status="failed", attempt=0)
    past.task(ran, "end/0", status="failed", attempt=1)
    began = new_execution(2)
    ran.storage.append(f"F/1/work/1/{began}/stdout.log", b"")

    lost = Step("F/1/work").to_pandas().set_index("task").loc["1"]
    assert lost.status == "lost"
    assert lost.attempt == 2
    assert abs(lost.started - pd.Timestamp.now("UTC")) < pd.Timedelta(minutes=1)
    assert pd.isna(lost.finished)
    assert pd.isna(lost.seconds)
    assert pd.isna(lost.score)

    failed = Step("F/1/end").to_pandas().iloc[0]
    assert (failed.status, failed.attempt, failed.seconds, failed.alpha) == ("failed", 1, 1.0, 5)

    session = open_session(ran, {})
    assert Step("F/1/work").to_pandas().set_index("task").loc["1"].status == "running"
    ran.storage.append(f"F/1/end/0/{new_execution(2)}/stdout.log", b"")
    again = Step("F/1/end").to_pandas().iloc[0]
    assert (again.status, again.attempt) == ("running", 2)
    session.end({"status": "failed", "reason": ""})
    assert Step("F/1/end").to_pandas().iloc[0].attempt == 1


def test_a_run_is_its_steps_in_order_and_a_flow_its_visible_runs(past: Past, ran: RunStore):
    past.task(past.run(), "start/0", artifacts={"other": 1.5})
    past.task(past.run(user="bob"), "start/0")

    assert Run("F/1").to_pandas()["step"].tolist() == ["start", "work", "work", "work"]
    namespace(None)
    everything = Flow("F").to_pandas()
    assert everything["run"].tolist() == [1, 1, 1, 1, 2, 3]
    assert everything["other"].tolist()[4] == 1.5
    namespace("user:ada")
    assert 3 not in set(Flow("F").to_pandas()["run"])


def test_what_a_resumed_run_took_over_is_there_under_its_own_number(past: Past, ran: RunStore):
    past.run(("start", "work", "end"), origin={"run": "1", "tasks": {"work": ["0", "2"]}})

    frame = Step("F/2/work").to_pandas()

    assert (frame["run"].tolist(), frame["task"].tolist(), frame["score"].tolist()) == (
        [2, 2],
        ["0", "2"],
        [0.0, 1.0],
    )


def test_a_damaged_record_costs_its_row_and_a_line(ran: RunStore):
    ran.storage.replace("F/1/work/2/task.json", b"{")

    with pytest.warns(DamagedRecordWarning, match=r"work/2/task.json is damaged"):
        frame = Step("F/1/work").to_pandas()

    assert frame["task"].tolist() == ["0", "10"]


def test_a_run_that_never_began_is_an_empty_frame(past: Past):
    past.run()

    assert list(Run("F/1").to_pandas().columns) == FACTS


def test_a_step_of_which_only_the_plan_is_there_yet_has_no_rows(past: Past):
    store = past.run(("start", "work", "end"))
    past.task(store, "start/0")
    store.extend_plan("work", [TaskRange("work", (), 0, 3)])

    assert len(Run("F/1")["work"].to_pandas()) == 0
    assert list(Step("F/1/work")) == []
    assert list(Run("F/1").to_pandas().step) == ["start"]
