"""A prefix of a bucket as a store: create-only, patient, all or nothing, and no more requests than it takes."""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from daskflow.errors import DataMissing, NotFound, OverwrittenWarning, SettingsError, StoreError, Unavailable
from daskflow.pathspec import TaskName
from daskflow.store import retries, s3, s3_files
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.flows import new_run, run_numbers
from daskflow.store.records import TaskRecord, timestamp
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3server import Asked, Bucket, Proxy

    from daskflow.store.storage import Storage

PATH = "F/1/train/4/task.json"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(retries, "LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # what the SDK would try again is ours to see


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "PATIENCE_SECONDS", 0)


@pytest.fixture
def storage(bucket: Bucket) -> Storage:
    return storage_at(bucket.url("some folder/größe"))


@pytest.fixture
def watched(bucket: Bucket, proxy: Proxy) -> Storage:
    """The same store by way of the proxy."""
    return storage_at(f"{bucket.url()}?endpoint_url={proxy.address}")


def at_once(works: list[Callable[[], Any]]) -> list[Any]:
    """What each returns, run in processes of their own that start together."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(len(works)), context.Queue()

    def child(number: int) -> None:
        barrier.wait(30)
        answers.put((number, works[number]()))

    children = [context.Process(target=child, args=(number,)) for number in range(len(works))]
    for each in children:
        each.start()
    found = dict(answers.get(timeout=60) for _ in children)
    for each in children:
        each.join()
    return [found[number] for number in range(len(works))]


# Many writers


def test_of_eight_processes_that_create_one_object_exactly_one_wins(storage: Storage):
    storage.names("")  # the parent has connections, which the forks must not use
    paths = [f"F/1/s/{number}/task.json" for number in range(10)]

    def racer(name: str) -> Any:
        return lambda: [storage.create(path, f"{path} by {name}".encode()) for path in paths]

    answers = at_once([racer(name) for name in "abcdefgh"])

    for path, won in zip(paths, zip(*answers, strict=True), strict=True):
        assert sum(won) == 1
        assert storage.read(path).decode() == f"{path} by {'abcdefgh'[won.index(True)]}"


def test_of_eight_processes_that_start_a_run_at_once_each_gets_its_own_number(storage: Storage):
    answers = at_once([lambda: new_run(storage, "F", lambda number: {"run": number}).run] * 8)

    assert sorted(answers, key=int) == [str(number) for number in range(1, 9)]
    assert run_numbers(storage, "F") == list(range(1, 9))


def test_of_eight_processes_that_commit_one_task_one_wins_and_all_are_told_by_whom(storage: Storage):
    run = new_run(storage, "F", lambda number: {"run": number})

    def commits(execution: str) -> Any:
        now = timestamp()
        record = TaskRecord("F", run.run, "s", "0", 0, execution, "ok", now, now)
        return lambda: RunStore(storage, "F", run.run).commit(record).execution

    answers = at_once([commits(f"0.{name}") for name in "abcdefgh"])

    assert len(set(answers)) == 1
    assert RunStore(storage, "F", run.run).task(TaskName("s", "0")).execution == answers[0]


def test_threads_share_the_client_of_their_process(storage: Storage):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: storage.create(PATH, b"%d" % n), range(16)))

    assert sum(answers) == 1
    assert storage.read(PATH) == b"%d" % answers.index(True)


def test_a_server_that_ignores_the_condition_is_found_out_at_the_start(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
):
    real = s3.S3Storage._put
    monkeypatch.setattr(s3.S3Storage, "_put", lambda self, path, data, **_: real(self, path, data))

    with pytest.raises(StoreError, match="let a file be replaced that must be created only once"):
        new_run(storage_at(bucket.url()), "F", lambda number: {"run": number})


# Content


def test_what_is_written_is_read_wherever_it_is_sought(storage: Storage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(s3_files, "PART_BYTES", 5 << 20)  # the least that S3 takes
    data = os.urandom(12 << 20)
    with storage.writer("F/1/big") as file:
        for start in range(0, len(data), 1_000_003):
            file.write(memoryview(data)[start : start + 1_000_003])
        assert file.tell() == len(data)

    with storage.open("F/1/big") as file:
        assert file.read() == data
        assert file.seek(-10, os.SEEK_END) == len(data) - 10
        assert file.read() == data[-10:]
        file.seek(100)
        assert [file.read(1000) for _ in range(3)] == [data[100:1100], data[1100:2100], data[2100:3100]]
        file.seek(len(data) + 5)
        assert file.read(1) == b""
    assert storage.read("F/1/big") == data


@pytest.mark.parametrize("size", [0, 1, s3_files.TAIL_BYTES, s3_files.TAIL_BYTES + 1])
def test_objects_of_any_size_are_read_whole(storage: Storage, size: int):
    with storage.writer("F/1/x") as file:
        file.write(b"x" * size)

    with storage.open("F/1/x") as file:
        assert file.read() == b"x" * size


def test_a_writer_that_fails_leaves_no_object_and_no_parts(
    storage: Storage, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(s3_files, "PART_BYTES", 5 << 20)

    with pytest.raises(ZeroDivisionError), storage.writer("F/1/big") as file:
        file.write(bytes(11 << 20))
        raise ZeroDivisionError

    assert bucket.objects() == []
    assert bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []) == []


@pytest.mark.parametrize(("sends", "told"), [("when_supported", "CRC32"), ("when_required", None)])
def test_s3_is_told_before_an_upload_in_parts_whether_they_have_checksums(
    watched: Storage, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, sends: str, told: str | None
):
    monkeypatch.setattr(s3_files, "PART_BYTES", 5 << 20)
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", sends)

    with watched.writer("F/1/big") as file:
        file.write(bytes(11 << 20))

    headers = [{name.lower(): value for name, value in each.headers.items()} for each in proxy.asked]
    assert headers[0].get("x-amz-checksum-algorithm") == told
    parts = [header for each, header in zip(proxy.asked, headers, strict=True) if each.method == "PUT"]
    assert len(parts) == 3
    assert {"x-amz-sdk-checksum-algorithm" in header for header in parts} == {told is not None}


def test_what_is_appended_is_kept_in_parts_and_read_as_one(storage: Storage, bucket: Bucket):
    storage.append("F/1/s/0/0.a/stdout.log", b"one\n")
    storage.append("F/1/s/0/0.a/stdout.log", b"two, lost", 4)
    storage.append("F/1/s/0/0.a/stdout.log", b"two\n", 4)
    storage.append("F/1/s/0/0.a/stdout.log", b"three\n", 8)
    storage.append("F/1/s/0/0.a/stdout.log2", b"another's", 3)

    assert storage.appended("F/1/s/0/0.a/stdout.log") == b"one\ntwo\nthree\n"
    assert len(bucket.objects()) == 4


def test_only_what_is_directly_below_is_listed_and_by_its_own_name(storage: Storage):
    for path in ("F/1/run.json", "F/1/s/0/task.json", "F/12/run.json", "G/1/run.json"):
        storage.create(path, b"{}")

    assert sorted(storage.names("")) == ["F", "G"]
    assert sorted(storage.names("F")) == ["1", "12"]
    assert sorted(storage.names("F/1")) == ["run.json", "s"]
    assert storage.names("H") == []
    assert storage.exists("F/1/run.json")
    assert not storage.exists("F/1/s")


def test_more_than_one_page_is_listed(storage: Storage):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: storage.create(f"F/1/s/{n}/task.json", b"{}"), range(1100)))

    assert len(storage.names("F/1/s")) == 1100


def test_a_listing_is_never_stale(storage: Storage, bucket: Bucket):
    assert storage.names("F") == []

    bucket.client.put_object(Bucket=bucket.name, Key="some folder/größe/F/1/run.json", Body=b"{}")

    assert storage.names("F") == ["1"]


@pytest.mark.parametrize("verb", ["read", "open", "appended"])
def test_a_missing_object_is_a_missing_file(storage: Storage, verb: str):
    with pytest.raises(FileNotFoundError):
        getattr(storage, verb)("F/1/nothing")


def test_what_is_written_is_encrypted_as_the_url_says(bucket: Bucket):
    storage = storage_at(f"{bucket.url()}?sse=aws:kms&sse_kms_key_id=key-1")
    storage.create("F/1/run.json", b"{}")
    with storage.writer("F/1/x") as file:
        file.write(b"x")

    for key in bucket.objects():
        found = bucket.client.head_object(Bucket=bucket.name, Key=key)
        assert found["ServerSideEncryption"] == "aws:kms"
        assert found["SSEKMSKeyId"].endswith("key-1")


# What goes wrong on the way


def once(code: str, matches: Callable[[Asked], bool] = lambda _: True) -> Callable[[Asked], str | None]:
    """Goes wrong the first time."""
    left = [code]
    return lambda asked: left.pop() if left and matches(asked) else None


@pytest.mark.parametrize("fault", ["SlowDown", "InternalError", "reset", "unanswered"])
def test_what_may_pass_is_tried_again(watched: Storage, proxy: Proxy, fault: str, capsys):
    for work, expected in (
        (lambda: watched.create(PATH, b"ours"), True),
        (lambda: watched.read(PATH), b"ours"),
        (lambda: watched.exists(PATH), True),
        (lambda: watched.names("F/1/train"), ["4"]),
        (lambda: watched.replace("F/1/beat", b"1"), None),
    ):
        proxy.plan = once(fault)
        assert work() == expected
    assert capsys.readouterr().err.count("It is tried again") == 5


def test_a_commit_whose_answer_was_lost_is_won_and_another_s_is_lost(watched: Storage, proxy: Proxy):
    proxy.plan = once("unanswered", lambda asked: asked.method == "PUT")
    assert watched.create(PATH, b"ours")

    proxy.plan = once("unanswered", lambda asked: asked.method == "PUT")
    assert not watched.create(PATH, b"another's")
    assert watched.read(PATH) == b"ours"


def test_an_answer_that_ends_early_is_no_content(watched: Storage, proxy: Proxy):
    watched.create(PATH, b"0123456789" * 1000)

    proxy.plan = once("cut")

    assert watched.read(PATH) == b"0123456789" * 1000


def test_an_object_that_is_replaced_while_it_is_read_is_never_mixed(watched: Storage, proxy: Proxy):
    with watched.writer("F/1/x") as file:
        file.write(os.urandom(300_000))

    with watched.open("F/1/x") as file:
        proxy.plan = lambda _: None
        watched.replace("F/1/x", b"y" * 300_000)
        with pytest.raises(Unavailable, match="it was replaced while it was read"):
            file.read()


def test_a_wrong_etag_of_the_first_answer_fails_the_next_read(watched: Storage, proxy: Proxy):
    with watched.writer("F/1/x") as file:
        file.write(os.urandom(300_000))
    proxy.plan = once("wrong etag")

    with watched.open("F/1/x") as file, pytest.raises(Unavailable):
        file.read()


def test_a_part_that_fails_fails_the_file(
    no_patience, watched: Storage, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, bucket: Bucket
):
    monkeypatch.setattr(s3_files, "PART_BYTES", 5 << 20)
    proxy.plan = lambda asked: "SlowDown" if "partNumber=2" in asked.query else None

    with pytest.raises(Unavailable, match=r"Can't write s3://.*SlowDown"), watched.writer("F/1/x") as file:
        file.write(bytes(11 << 20))

    assert bucket.objects() == []


def test_what_is_listed_and_gone_when_it_is_read_is_told_as_missing(watched: Storage, proxy: Proxy):
    run = new_run(watched, "F", lambda number: {"run": number})
    name, now = TaskName("s", "0"), timestamp()
    ref = ArtifactWriter(run, name, "0.a").save("x", os.urandom(100_000))
    run.commit(TaskRecord("F", "1", "s", "0", 0, "0.a", "ok", now, now, artifacts={"x": ref}))
    assert ref.path is not None

    def without(path: str) -> RunStore:
        proxy.plan = lambda asked: (
            "NoSuchKey" if asked.method == "GET" and asked.path.endswith(path) else None
        )
        return RunStore(watched, "F", "1")

    assert without("/F/1/s/0/task.json").tasks("s") == ["0"]
    assert without("/F/1/s/0/task.json").task(name) is None
    with pytest.raises(NotFound, match="Run 'F/1' does not exist"):
        without("/F/1/run.json").record()
    with pytest.raises(DataMissing, match=rf"'x' of F/1.* from s3://.*/{ref.path}: There is no such file"):
        without(f"/{ref.path}").load("x", ref)


# Errors, one sentence each


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AccessDenied", "access is denied. A store needs s3:ListBucket"),
        ("ExpiredToken", "the AWS credentials have expired. Renew them"),
        (
            "RequestTimeTooSkewed",
            "the clock of this machine and that of the server differ too much. Set this one right",
        ),
    ],
)
def test_what_does_not_pass_is_told_at_once(watched: Storage, proxy: Proxy, code: str, words: str):
    proxy.plan = lambda _: code

    with pytest.raises(StoreError, match=words):
        new_run(watched, "F", lambda number: {"run": number})

    assert len(proxy.asked) == 1


def test_a_bucket_that_is_not_there_is_named(bucket: Bucket):
    with pytest.raises(StoreError, match="there is no bucket 'no-such-bucket'. Create it"):
        new_run(storage_at("s3://no-such-bucket/p"), "F", lambda number: {"run": number})


PAGE = b"<html><body>Log in first</body></html>"


class Elsewhere(BaseHTTPRequestHandler):
    """Answers as no S3 server does."""

    status = 301

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Location", "https://127.0.0.1/login")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(PAGE)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("status", "words"), [(301, "sends elsewhere"), (302, "sends elsewhere"), (401, "answered with 401")]
)
def test_what_is_no_s3_server_is_told(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, status: int, words: str
):
    monkeypatch.setattr(Elsewhere, "status", status)
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            with pytest.raises(StoreError) as told:
                storage_at(f"s3://bkt/a?endpoint_url=http://127.0.0.1:{server.server_port}").names("")
        finally:
            server.shutdown()

    assert words in told.value.message
    assert "Is the endpoint" in told.value.message


def test_a_server_that_does_not_answer_is_named(no_patience, bucket: Bucket):
    storage = storage_at(f"{bucket.url()}?endpoint_url=http://127.0.0.1:9")

    with pytest.raises(Unavailable, match=r"Can't list s3://.*Could not connect"):
        storage.names("F")


def test_without_credentials_one_sentence_says_so(bucket: Bucket, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(StoreError, match="Unable to locate credentials"):
        storage_at(bucket.url("other")).names("F")


def test_a_profile_that_is_not_there_is_named(bucket: Bucket):
    with pytest.raises(StoreError, match=r"profile \(nobody\) could not be found; set AWS_PROFILE"):
        storage_at(f"{bucket.url()}?profile=nobody").names("F")


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "s3://bucket/p?sso=AES256"])
def test_a_url_that_can_not_be_meant_is_refused(url: str):
    with pytest.raises(SettingsError, match=r"BUCKET/PREFIX|there is no option 'sso'; there is endpoint_url"):
        storage_at(url)


def test_other_kinds_of_urls_are_refused():
    with pytest.raises(StoreError, match="neither a directory nor s3://bucket/prefix"):
        storage_at("gs://bucket/prefix")


# Requests


def test_a_small_file_is_one_request_each_way(watched: Storage, proxy: Proxy):
    with watched.writer("F/1/x") as file:
        file.write(b"x" * 1000)
    with watched.open("F/1/x") as file:
        file.seek(0, os.SEEK_END)
        file.seek(0)
        file.read()

    assert [each.method for each in proxy.asked] == ["PUT", "GET"]


def test_an_object_is_sent_with_its_request(watched: Storage, proxy: Proxy):
    watched.create(PATH, b"all of it")

    [put] = proxy.asked
    assert "Expect" not in put.headers  # a server that knows no `100 Continue` would let us wait for a second


def test_small_pieces_in_order_are_fetched_many_at_once(watched: Storage, proxy: Proxy):
    value = [os.urandom(1000) for _ in range(5000)]
    with watched.writer("F/1/x") as file:
        pickle.dump(value, file)
    proxy.asked.clear()
    proxy.sent = 0

    import io

    with io.BufferedReader(watched.open("F/1/x")) as file:
        assert pickle.load(file) == value

    assert len(proxy.asked) < 10
    assert proxy.sent < 1.1 * 5_000_000


# Versions


def test_what_was_overwritten_by_hand_is_noticed_and_read_as_it_was(storage: Storage, bucket: Bucket):
    bucket.versioned()
    run = new_run(storage, "F", lambda number: {"run": number})
    ref = ArtifactWriter(run, TaskName("s", "0"), "0.a").save("x", os.urandom(100_000))
    value = run.load("x", ref)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run.load("x", ref) == value
    storage.replace(ref.path, b"something else")

    with pytest.warns(OverwrittenWarning, match="was overwritten; what was written first is read"):
        assert run.load("x", ref) == value


@pytest.mark.parametrize("kind", ["polars", "pyarrow"])
def test_what_is_lazy_is_that_which_was_written_too(storage: Storage, bucket: Bucket, kind: str):
    bucket.versioned()
    run = new_run(storage, "F", lambda number: {"run": number})
    table = pa.table({"a": [1, 2, 3]})
    value = pl.from_arrow(table).lazy() if kind == "polars" else ds.dataset(table)
    ref = ArtifactWriter(run, TaskName("s", "0"), "0.a").save("x", value)
    other = io.BytesIO()
    pq.write_table(pa.table({"a": [9]}), other)
    storage.replace(ref.path, other.getvalue())

    with pytest.warns(OverwrittenWarning, match="was overwritten; what was written first is read"):
        found = run.load("x", ref)

    rows = found.collect().to_arrow() if kind == "polars" else found.to_table()
    assert rows["a"].to_pylist() == [1, 2, 3]


def test_a_run_starts_with_as_few_requests_however_many_there_are(watched: Storage, proxy: Proxy):
    for _ in range(12):
        new_run(watched, "F", lambda number: {"run": number})
    proxy.asked.clear()

    new_run(watched, "F", lambda number: {"run": number})

    assert [each.method for each in proxy.asked] == ["GET", "GET", "PUT", "PUT", "GET"]
