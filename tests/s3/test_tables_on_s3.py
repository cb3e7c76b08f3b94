"""Tables in a bucket: by the one configuration of the store, and no more bytes than the bare libraries need."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from daskflow import DataArtifact, Task, namespace
from daskflow.errors import DataMissing
from daskflow.pathspec import TaskName, TaskRange
from daskflow.store.artifacts import ArtifactWriter, shared_tables
from daskflow.store.chunks import Chunk, encoded
from daskflow.store.flows import new_run
from daskflow.store.records import TaskRecord, timestamp
from daskflow.store.runs import RunStore
from daskflow.store.s3 import S3Storage
from daskflow.store.storage import storage_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3server import Asked, Bucket, Proxy

ROWS = 300_000


@pytest.fixture(autouse=True)
def everybody_s() -> Iterator[None]:
    namespace(None)
    yield
    namespace("user:ada")


def saved(url: str, **values: object) -> Task:
    """A task that has set these."""
    store = new_run(
        storage_at(url), "F", lambda run: {"run": run, "created": timestamp(), "versions": {}, "code": {}}
    )
    for name, artifacts in (
        ("_parameters/0", {"_graph_info": {"steps": {"start": {}}}}),
        ("start/0", values),
    ):
        task = TaskName.of(name)
        writer = ArtifactWriter(store, task, "0.a")
        refs = {key: writer.save(key, value) for key, value in artifacts.items()}
        now = timestamp()
        store.commit(TaskRecord("F", store.run, task.step, "0", 0, "0.a", "ok", now, now, artifacts=refs))
    return Task(f"F/{store.run}/start/0", store=url)


def signed(asked: Asked) -> list[str]:
    """By whom, when, for which region and service a request was signed."""
    headers = {name.lower(): value for name, value in asked.headers.items()}
    return headers["authorization"].split("Credential=")[1].split(",")[0].split("/")


def fetched(proxy: Proxy, read) -> tuple[int, object]:
    """The bytes that came, and what was read."""
    before = proxy.sent
    found = read()
    return proxy.sent - before, found


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_one_column_costs_no_more_than_the_bare_libraries_need(bucket: Bucket, proxy: Proxy, library: str):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"c{place}": rng.random(ROWS) for place in range(10)})
    url = f"{bucket.url()}?endpoint_url={proxy.address}"
    table = saved(url, t=frame if library == "pandas" else pl.from_pandas(frame)).artifacts.t
    assert table.size > 20_000_000
    expected = frame["c3"].to_list()

    bare = fs.S3FileSystem(
        endpoint_override=proxy.address, region="us-east-1", access_key="ada", secret_key="lovelace"
    )
    by_arrow, _ = fetched(
        proxy, lambda: pq.read_table(table.path.removeprefix("s3://"), columns=["c3"], filesystem=bare)
    )
    by_pandas, read = fetched(
        proxy, lambda: pd.read_parquet(table.path, columns=["c3"], storage_options=table.storage_options)
    )
    assert read["c3"].to_list() == expected
    least = min(by_arrow, by_pandas)
    assert least < table.size / 8

    by_dataset, found = fetched(proxy, lambda: table.dataset().to_table(columns=["c3"]))
    assert found["c3"].to_pylist() == expected
    assert by_dataset <= 1.1 * least

    by_scan, found = fetched(proxy, lambda: table.scan().select("c3").collect())
    assert found["c3"].to_list() == expected
    assert by_scan <= 1.1 * least


def test_the_first_rows_leave_the_row_groups_behind_them_where_they_are(bucket: Bucket, proxy: Proxy):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.random(1_500_000)})  # two row groups
    table = saved(f"{bucket.url()}?endpoint_url={proxy.address}", t=frame).artifacts.t

    sent, found = fetched(proxy, lambda: table.head(3))

    pd.testing.assert_frame_equal(found, frame.head(3))
    assert sent < 0.8 * table.size


def test_what_the_url_says_holds_for_every_library(bucket: Bucket, proxy: Proxy, monkeypatch):
    table = pd.DataFrame({"x": [1, 2, 3]})
    url = f"{bucket.url()}?endpoint_url={proxy.address}&region=eu-west-3&sse=aws:kms&sse_kms_key_id=key-1"
    artifact = saved(url, t=table).artifacts.t
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    proxy.asked.clear()

    assert artifact.scan().collect()["x"].to_list() == [1, 2, 3]
    assert artifact.dataset().to_table()["x"].to_pylist() == [1, 2, 3]
    assert artifact.head(2)["x"].to_list() == [1, 2]
    pd.testing.assert_frame_equal(
        pd.read_parquet(artifact.path, storage_options=artifact.storage_options), table
    )

    assert {signed(asked)[2] for asked in proxy.asked} == {"eu-west-3"}
    table.to_parquet(f"{artifact.path}.copy", storage_options=artifact.storage_options)
    written = bucket.client.head_object(Bucket=bucket.name, Key=f"{artifact.path.split('/', 3)[3]}.copy")
    assert (written["ServerSideEncryption"], written["SSEKMSKeyId"]) == ("aws:kms", "key-1")


@pytest.mark.parametrize("endpoint_of", ["the URL", "the profile"])
def test_a_profile_is_that_of_every_library(
    bucket: Bucket, proxy: Proxy, monkeypatch, tmp_path, endpoint_of: str
):
    lines = [
        "[profile own]",
        "aws_access_key_id = grace",
        "aws_secret_access_key = hopper",
        "region = eu-west-3",
    ]
    if endpoint_of == "the profile":
        lines.append(f"endpoint_url = {proxy.address}")
        monkeypatch.delenv("AWS_ENDPOINT_URL")
    (tmp_path / "config").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    endpoint = f"endpoint_url={proxy.address}&" if endpoint_of == "the URL" else ""
    artifact = saved(f"{bucket.url()}?{endpoint}profile=own", t=pd.DataFrame({"x": [1]})).artifacts.t
    proxy.asked.clear()

    for read in (artifact.scan().collect, artifact.dataset().to_table, artifact.head):
        assert list(read()["x"])
    pd.read_parquet(artifact.path, storage_options=artifact.storage_options)

    assert {signed(asked)[0] for asked in proxy.asked} == {"grace"}


def test_asking_for_options_opens_nothing(bucket: Bucket):
    storage = S3Storage(f"{bucket.url()}?region=eu-west-3")

    assert storage.storage_options["client_kwargs"] == {"region_name": "eu-west-3"}
    assert storage.storage_options["use_listings_cache"] is False
    assert storage.storage_options["default_cache_type"] == "none"
    assert storage._client is None


def test_an_address_of_aws_names_the_bucket_s_own_host(monkeypatch: pytest.MonkeyPatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_DEFAULT_REGION": "eu-west-3",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)

    options = S3Storage("s3://flows/p").polars_options()["storage_options"]

    assert options == {
        "aws_region": "eu-west-3",
        "aws_endpoint_url": "https://flows.s3.eu-west-3.amazonaws.com",
        "aws_virtual_hosted_style_request": "true",
    }


def test_a_table_of_a_task_is_the_same_object_by_name(bucket: Bucket):
    task = saved(bucket.url(), t=pl.DataFrame({"x": [1]}))

    assert DataArtifact(f"{task.pathspec}/t", store=bucket.url()).head().equals(pl.DataFrame({"x": [1]}))


def test_sql_reads_of_tables_in_a_bucket_the_columns_that_it_needs(bucket: Bucket, proxy: Proxy):
    from daskflow.client.sql import query

    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"c{place}": rng.random(ROWS) for place in range(10)})
    url = f"{bucket.url()}?endpoint_url={proxy.address}"
    table = saved(url, t=frame).artifacts.t

    sent, answer = fetched(
        proxy, lambda: query("select task, sum(c3) from start.t group by task", "F", store=url)
    )

    [(task, total)] = answer.rows
    assert (task, round(total, 6)) == ("0", round(frame["c3"].sum(), 6))
    assert sent < table.size / 5


def test_of_a_file_that_items_share_in_a_bucket_only_the_item_s_rows_are_read(bucket: Bucket, proxy: Proxy):
    from daskflow.client.sql import query

    url = f"{bucket.url()}?endpoint_url={proxy.address}"
    store = saved(url)._store
    tasks = TaskRange("work", (), 0, 8)
    tables = shared_tables(store, tasks, "0.a")
    rng = np.random.default_rng(0)
    frames = [pd.DataFrame({"x": rng.random(50_000), "n": index}) for index in range(8)]
    for index, frame in enumerate(frames):
        ref = ArtifactWriter(store, TaskName("work", str(index)), "0.a", tables).save("t", frame)
        now = timestamp()
        record = TaskRecord("F", "1", "work", str(index), 0, "0.a", "ok", now, now, artifacts={"t": ref})
        if index + 1 == len(frames):
            tables.close()
        store.commit(record)
    table = Task("F/1/work/5", store=url).artifacts.t
    size = bucket.client.head_object(Bucket=bucket.name, Key=table.path.split("/", 3)[3])["ContentLength"]

    for read in (
        lambda: table.scan().collect()["x"].to_list(),
        lambda: table.dataset().to_table()["x"].to_pylist(),
        lambda: table.head(50_000)["x"].to_list(),
    ):
        sent, found = fetched(proxy, read)
        assert found == frames[5]["x"].to_list()
        assert sent < size / 3

    answer = query("select task, count(*) from work.t group by task order by task", "F", store=url)
    assert answer.rows == [(str(index), 50_000) for index in range(8)]


def test_records_of_chunks_are_on_their_way_at_once(bucket: Bucket, proxy: Proxy):
    url = f"{bucket.url()}?endpoint_url={proxy.address}"
    store = saved(url)._store
    for first in (0, 2):
        tasks = TaskRange("work", (), first, 2)
        now = timestamp()
        record = TaskRecord("F", "1", "work", str(first), 0, "0.a", "ok", now, now)
        chunk = Chunk(tasks, record.to_json(), [{"at": 0, "took": 0}] * 2)
        store.chunks.commit(chunk, encoded(chunk, [b'{"at": 0, "took": 0}'] * 2))
    both, alone = threading.Barrier(2, timeout=5), []

    def together(asked: Asked) -> None:
        if asked.method == "GET" and "/chunk." in asked.path:
            try:
                both.wait()
            except threading.BrokenBarrierError:
                alone.append(asked.key)

    proxy.plan = together

    assert RunStore(storage_at(url), "F", "1").tasks("work") == ["0", "1", "2", "3"]
    assert not alone


def test_a_dataset_that_s3_does_not_serve_is_told_of_and_asked_for_again(
    bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
):
    task = saved(f"{bucket.url()}?endpoint_url={proxy.address}", table=pd.DataFrame({"x": [1, 2]}))
    told: list[str] = []
    monkeypatch.setattr("daskflow.store.retries.tell", told.append)
    path = task.artifacts.table.path

    proxy.plan = lambda asked: "SlowDown" if asked.key.endswith("table.parquet") and not told else None

    assert task.artifacts.table.dataset().to_table().num_rows == 2
    assert len(told) == 1
    assert told[0].startswith(f"Can't read {path}: ")


def test_a_dataset_whose_file_is_gone_or_damaged_is_named(bucket: Bucket):
    task = saved(bucket.url(), gone=pd.DataFrame({"x": [1]}), cut=pd.DataFrame({"x": [2]}))
    gone, cut = task.artifacts.gone, task.artifacts.cut
    bucket.client.delete_object(Bucket=bucket.name, Key=gone.path.removeprefix(f"s3://{bucket.name}/"))
    bucket.client.put_object(
        Bucket=bucket.name, Key=cut.path.removeprefix(f"s3://{bucket.name}/"), Body=b"PAR1" * 9
    )

    for table in (gone, cut):
        with pytest.raises(DataMissing, match=re.escape(str(table.path))):
            table.dataset()
