"""Runs as frames: of items that share a process, and in a bucket, where the end of a run leaves an index."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from daskflow import Run, Step, namespace
from daskflow.errors import DamagedRecordWarning
from daskflow.store import s3
from daskflow.store.chunks import Chunk
from daskflow.store.storage import storage_at
from tests.flows.wide_runs import client

if TYPE_CHECKING:
    from s3server import Bucket, Proxy

WIDE = """
    import numpy as np
    from daskflow import FlowSpec, Parameter, step

    class Wide(FlowSpec):
        size = Parameter("size", default=30)
        fails = Parameter("fails", default=-1)
        LIMIT = 7

        @step
        def start(self):
            self.items = range(self.size)
            self.note = "n" * 300
            self.next(self.work, foreach="items")

        @step
        def work(self):
            if self.index == self.fails:
                raise ValueError("no")
            self.score = np.float64(self.index) / 3
            self.maybe = None if self.index % 3 else self.index
            self.mixed = self.index if self.index % 2 else "text"
            self.pair = (1, 2)
            if self.index == 4:
                self.only = True
            self.next(self.join)

        @step
        def join(self, inputs):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Wide()
"""


def check(frame: pd.DataFrame, size: int = 30) -> None:
    assert frame["index"].tolist() == list(range(size))
    assert frame["score"].tolist() == [index / 3 for index in range(size)]
    assert frame["maybe"].dropna().tolist() == list(range(0, size, 3))
    assert frame["mixed"].tolist() == [index if index % 2 else "text" for index in range(size)]
    assert frame["only"].fillna(False).tolist() == [index == 4 for index in range(size)]
    assert set(frame["note"]) == {"n" * 300}
    assert set(frame["LIMIT"]) == {7}
    assert "pair" not in frame


def test_items_that_share_a_process_are_rows_without_a_record_each(run_flow, monkeypatch):
    result = run_flow(WIDE, "--chunk", "8")
    step = Step("Wide/1/work", store=result.store.url)
    monkeypatch.setattr(Chunk, "record", None)  # to make one would fail

    frame = step.to_pandas()

    monkeypatch.undo()
    check(frame)
    for index in (0, 7, 8, 29):
        task, row = client(result, f"work/{index}"), frame.iloc[index]
        assert (row.started, row.finished) == (task.created_at, task.finished_at)
        assert (row.pid, row.worker) == (task.metadata_dict["pid"], task.metadata_dict["host"])
        assert row.peak_memory == task.metadata_dict["max_rss"]
    assert not list(result.folder.glob("store/**/index.parquet"))


@pytest.fixture(scope="module")
def place(workspace):
    made = workspace()
    made.write(WIDE)
    return made


def run_on_s3(place, bucket: Bucket, *words: str, expect: int = 0):
    done = place.call("flow.py", "--datastore", bucket.url(), *words, flow="Wide", env=bucket.environment)
    assert done.returncode == expect, done.text
    return done


def frame_of(bucket: Bucket, proxy: Proxy | None = None, number: int = 1) -> pd.DataFrame:
    namespace("user:ada")
    options = "" if proxy is None else f"?endpoint_url={proxy.address}"
    return Run(f"Wide/{number}", store=bucket.url() + options).to_pandas()


def indices(bucket: Bucket) -> list[str]:
    return [key.removeprefix("store/Wide/") for key in bucket.objects() if key.endswith("index.parquet")]


def test_the_end_of_a_run_in_a_bucket_leaves_an_index_that_saves_reading_the_records(
    place, bucket: Bucket, proxy: Proxy
):
    run_on_s3(place, bucket, "run", "--isolate")
    assert indices(bucket) == ["1/work/index.parquet"]  # of one task the record is as good

    frame = frame_of(bucket, proxy)

    check(frame[frame["step"] == "work"].reset_index(drop=True))
    assert proxy.count("GET") <= 20
    records = [asked.key for asked in proxy.asked if asked.key.endswith("task.json")]
    assert not [key for key in records if "/work/" in key]

    for key in indices(bucket):
        bucket.client.delete_object(Bucket=bucket.name, Key=f"store/Wide/{key}")
    pd.testing.assert_frame_equal(frame_of(bucket), frame)


def test_a_damaged_or_newer_index_is_not_used(place, bucket: Bucket):
    run_on_s3(place, bucket, "run", "--isolate", "--size", "4")
    whole = frame_of(bucket)
    storage = storage_at(bucket.url())

    storage.replace("Wide/1/work/index.parquet", b"PAR1 nothing")
    with pytest.warns(DamagedRecordWarning, match="index.parquet is not used, the records are read"):
        pd.testing.assert_frame_equal(frame_of(bucket), whole)

    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    newer = io.BytesIO()
    pq.write_table(pa.table({"task": ["0"]}).replace_schema_metadata({"daskflow.format": "2"}), newer)
    storage.replace("Wide/1/work/index.parquet", newer.getvalue())
    with pytest.warns(DamagedRecordWarning, match="it has format 2, this version of daskflow reads up to 1"):
        pd.testing.assert_frame_equal(frame_of(bucket), whole)


def test_a_run_that_failed_has_an_index_too_and_one_that_goes_on_a_new_one(
    place, bucket: Bucket, proxy: Proxy
):
    run_on_s3(
        place, bucket, "run", "--isolate", "--fails", "5", "--size", "12", "--max-workers", "1", expect=1
    )
    before = frame_of(bucket).query("step == 'work'").set_index("task")
    assert before.loc["5", "status"] == "failed"
    assert (before.drop("5")["status"] == "successful").all()
    assert "1/work/index.parquet" in indices(bucket)

    run_on_s3(place, bucket, "resume", expect=1)  # it fails again: what it took over is in its index

    proxy.asked.clear()
    again = frame_of(bucket, proxy, 2).query("step == 'work' and status == 'successful'").set_index("task")
    assert again["score"].tolist() == [int(task) / 3 for task in again.index]
    assert set(again["run"]) == {2}
    kept = before.query("status == 'successful'").index
    assert again.loc[kept, "finished"].tolist() == before.loc[kept, "finished"].tolist()
    assert not [
        asked.key
        for asked in proxy.asked
        if asked.key.endswith("/work/0/task.json") and asked.method == "GET"
    ]


def test_an_index_that_can_not_be_written_is_told_in_one_line_and_changes_nothing(
    place, bucket: Bucket, proxy: Proxy
):
    proxy.plan = lambda asked: "AccessDenied" if asked.key.endswith("index.parquet") else None

    done = place.call(
        "flow.py", "--datastore", f"{bucket.url()}?endpoint_url={proxy.address}", "run", "--size", "2", "--isolate",
        env=bucket.environment,
    )  # fmt: skip

    assert done.returncode == 0, done.text
    (line,) = [line for line in done.stderr.splitlines() if "index" in line]
    assert line.startswith("The index of the run was not written; reading it takes longer.")
    ended = json.loads(storage_at(bucket.url()).read("Wide/1/drivers/0.end.json"))
    assert ended["status"] == "successful"
    s3._opened.clear()
    assert len(frame_of(bucket)) == 5


def test_the_driver_reads_no_record_again_for_the_index(place, bucket: Bucket, proxy: Proxy):
    done = place.call(
        "flow.py", "--datastore", f"{bucket.url()}?endpoint_url={proxy.address}", "run", "--size", "12", "--isolate",
        env=bucket.environment,
    )  # fmt: skip

    assert done.returncode == 0, done.text
    assert indices(bucket) == ["1/work/index.parquet"]
    items = [
        (asked.method, asked.key)
        for asked in proxy.asked
        if "/work/" in asked.key and "task.json" in asked.key
    ]
    for index in range(12):
        methods = [method for method, key in items if key.endswith(f"/work/{index}/task.json")]
        assert methods[-1] == "PUT", methods
