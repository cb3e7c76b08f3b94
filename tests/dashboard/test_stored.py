"""Runs of a store as a model, told by records that are there, by those that come, and by damaged ones."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any

import pandas
import pytest
from bokeh.document import Document
from pages import Written, driver_here, ran
from watching import wait_until

from daskflow.dashboard import details
from daskflow.dashboard.following import Follower
from daskflow.dashboard.model import RunModel
from daskflow.dashboard.page import document
from daskflow.dashboard.stored import OVER_SECONDS, StoreSource
from daskflow.errors import DamagedRecord, NotFound
from daskflow.store.records import timestamp_of
from daskflow.store.runs import RunStore
from daskflow.store.storage import LocalStorage, storage_at
from daskflow.task.spec import ENDED_WITH_ITS_RUN

if TYPE_CHECKING:
    from pathlib import Path

    from s3server import Bucket

LINEAR = {"kind": "linear", "targets": ["fit"]}
STEPS = {
    "start": {"type": "foreach", "next": ["fit"], "matching_join": "join"},
    "fit": {"next": ["join"]},
    "join": {},
}


class Followed:
    """A run that is followed, look by look."""

    def __init__(self, store: RunStore) -> None:
        self.model = RunModel(store.flow, store.run)
        self._follower = Follower(store, self.model.apply)
        self.look()

    def look(self) -> None:
        self._follower.look()

    def counts(self, step: str) -> dict[str, int]:
        (found,) = (each for each in self.model.steps() if each["name"] == step)
        names = (
            "known",
            "done",
            "running",
            "waiting",
            "failed",
            "stopped",
            "lost",
            "reused",
            "retried",
            "caught",
        )
        return {name: found[name] for name in names if found[name]}


def split(written: Written, count: int) -> None:
    """The task that splits into items, one a task of ``fit``."""
    foreach = {"size": count, "items": list(range(count))}
    transition = {"kind": "foreach", "targets": ["fit"], "foreach": "items"}
    written.task("start/0", foreach=foreach, transition=transition)


def item(written: Written, index: int, size: int, **fields: Any) -> None:
    stack = [{"kind": "foreach", "split": "start/0", "index": index, "size": size, "var": "items"}]
    transition = {"kind": "linear", "targets": ["join"]}
    written.task(f"fit/{index}", stack=stack, **({"transition": transition, "at": 1e9 + index} | fields))


def test_a_failed_run_is_counted_step_by_step(troubles: Path):
    followed = Followed(RunStore(LocalStorage(str(troubles)), "Trouble", "1"))

    assert followed.model.head()["status"] == "failed"
    assert followed.counts("fit") == {"known": 12, "done": 11, "failed": 1, "retried": 1}
    assert followed.counts("gather") == {"known": 1, "waiting": 1}
    steps = {step["name"]: step for step in followed.model.steps()}
    assert steps["choose"]["taken"] == {"short_way": 1}
    assert steps["again"]["iterations"] == 4
    assert followed.model.failure() == ("fit", "11")


def test_items_that_shared_a_process_are_one_bar_and_have_their_values(troubles: Path):
    followed = Followed(RunStore(LocalStorage(str(troubles)), "Trouble", "2"))

    assert followed.counts("fit") == {"known": 12, "done": 12}
    assert followed.model.tasks("fit")[0]["value"] == [str(number) for number in range(12)]
    timeline = followed.model.timeline(0.0)
    bars = [count for step, count in zip(timeline["step"], timeline["count"], strict=True) if step == "fit"]
    assert sum(bars) == 12
    assert len(bars) < 12


def test_what_comes_later_is_told_at_the_next_look(tmp_path: Path):
    written = Written(tmp_path, STEPS)
    split(written, 3)
    written.store.storage.create(written.store.layout.driver(0), driver_here())
    followed = Followed(written.store)
    assert followed.counts("fit") == {"known": 3, "waiting": 3}

    item(written, 0, 3)
    item(written, 1, 3, status="failed", error={"type": "ValueError", "exception": "no", "stacktrace": "T"})
    followed.look()
    assert followed.counts("fit") == {"known": 3, "waiting": 1, "done": 1, "failed": 1}
    assert followed.counts("join") == {"known": 1, "waiting": 1}

    item(written, 1, 3, attempt=1)
    followed.look()
    assert followed.counts("fit") == {"known": 3, "waiting": 1, "done": 2, "retried": 1}


def test_a_run_that_was_continued_while_nobody_looked_is_read_again(tmp_path: Path):
    written = Written(tmp_path, STEPS)
    split(written, 2)
    written.ended("failed", "why")
    followed = Followed(written.store)
    assert followed.counts("fit") == {"known": 2, "waiting": 2}

    item(written, 0, 2)
    item(written, 1, 2)
    storage, layout = written.store.storage, written.store.layout
    storage.create(layout.driver(1), b'{"format": 1}')
    storage.create(
        layout.driver_end(1), b'{"format": 1, "ended": "2026-01-01T00:00:00Z", "status": "successful"}'
    )
    followed.look()

    assert followed.counts("fit") == {"known": 2, "done": 2}
    assert followed.model.head()["status"] == "successful"


def test_what_is_read_waits_for_who_looks_and_whoever_comes_back_gets_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("daskflow.dashboard.stored.MOST_WAITING", 5)
    monkeypatch.setattr("daskflow.dashboard.stored.UNWATCHED_SECONDS", 0.01)
    written = Written(tmp_path, {"start": {}, "fit": {}})
    for number in range(500):
        written.task(f"fit/{number}", at=1e9 + number)
    written.ended()
    source = StoreSource(str(tmp_path))

    def all_done() -> bool:
        model = source.model("F", "1")
        return model is not None and model.head()["done"] == 500

    wait_until(all_done)
    source.close()


@pytest.mark.parametrize(
    ("process", "text"), [({"stopped": True}, "whatever"), ({"signal": 15}, ENDED_WITH_ITS_RUN)]
)
def test_a_task_that_was_stopped_with_its_run_did_not_fail(
    tmp_path: Path, process: dict[str, Any], text: str
):
    written = Written(tmp_path, STEPS)
    split(written, 3)
    item(
        written,
        0,
        3,
        status="failed",
        process=process,
        error={"type": "process", "exception": text, "stacktrace": ""},
    )
    item(written, 1, 3, status="failed", error={"type": "ValueError", "exception": "no", "stacktrace": "T"})
    written.ended("failed", "why")

    followed = Followed(written.store)

    assert followed.counts("fit") == {"known": 3, "waiting": 1, "failed": 1, "stopped": 1}
    assert followed.model.failure() == ("fit", "1")
    assert details.detail(written.store, "fit", "0")["state"] == "stopped"
    assert details.detail(written.store, "fit", "1")["state"] == "failed"


def test_a_task_that_runs_shows_its_item_and_since_when(tmp_path: Path):
    written = Written(tmp_path, STEPS)
    split(written, 3)
    layout, storage = written.store.layout, written.store.storage
    storage.create(layout.driver(0), driver_here())
    storage.append("F/1/fit/2/1.19a3f0c2b7d4e1f05a21c/stdout.log", b"2026-01-01T00:00:00Z begun\n")

    columns = Followed(written.store).model.tasks("fit")[0]
    found = details.detail(written.store, "fit", "2")

    assert (columns["task"], columns["state"], columns["value"]) == (["2"], ["running"], ["2"])
    assert (found["state"], found["attempt"], found["seconds"]) == ("running", 1, None)
    assert found["started"] == columns["started"][0] > 1e9


def test_a_run_whose_driver_vanished_is_lost_and_so_are_the_tasks_that_it_ran(tmp_path: Path):
    written = Written(tmp_path, STEPS)
    split(written, 2)
    layout, storage = written.store.layout, written.store.storage
    dead = json.loads(driver_here()) | {"pid": 2**22 + 1}
    storage.create(layout.driver(0), json.dumps(dead).encode())
    storage.append("F/1/fit/0/0.19a3f0c2b7d4e1f05a21c/stdout.log", b"2026-01-01T00:00:00Z begun\n")

    followed = Followed(written.store)

    assert followed.model.head()["status"] == "lost"
    assert followed.model.head()["reason"] == "Its driver has gone."
    assert followed.counts("fit") == {"known": 2, "waiting": 1, "lost": 1}
    found = details.detail(written.store, "fit", "0")
    assert (found["state"], found["logs"]["stdout"]["lines"]) == ("lost", ["begun"])


@pytest.mark.parametrize("damaged", [False, True])
def test_what_ran_when_a_driver_vanished_is_a_bar_up_to_its_last_sign_of_life(tmp_path: Path, damaged: bool):
    written = Written(tmp_path, STEPS)
    split(written, 2)
    layout, storage = written.store.layout, written.store.storage
    dead = json.loads(driver_here()) | {"pid": 2**22 + 1, "started": timestamp_of(1.7e9)}
    storage.create(layout.driver(0), json.dumps(dead).encode())
    beat = json.dumps({"format": 1, "beats": 4, "at": timestamp_of(1.7e9 + 8)}).encode()
    storage.replace(layout.driver_beat(0), b"" if damaged else beat)
    begun = 1.7e9 - 5
    storage.append(f"F/1/fit/0/0.{int(begun * 1000):011x}0123456789/stdout.log", b"T begun\n")

    model = Followed(written.store).model
    bars = model.timeline(2e9)

    end = 1.7e9 if damaged else 1.7e9 + 8
    lost = bars["state"].index("lost")
    assert (bars["step"][lost], bars["task"][lost]) == ("fit", "0")
    assert (bars["begin"][lost], bars["end"][lost]) == (begun, end)
    assert model.head()["finished"] == end
    assert details.detail(written.store, "fit", "0")["started"] == begun


@pytest.mark.parametrize("before", [False, True])
def test_a_run_whose_record_could_not_be_read_for_a_while_is_shown_once_it_can(tmp_path: Path, before: bool):
    written = Written(tmp_path, STEPS)
    split(written, 1)
    item(written, 0, 1)
    written.ended()
    record = tmp_path / "F/1/run.json"
    content = record.read_bytes()
    followed = Followed(RunStore(LocalStorage(str(tmp_path)), "F", "1")) if before else None

    record.write_bytes(b"{")
    if followed is None:
        followed = Followed(RunStore(LocalStorage(str(tmp_path)), "F", "1"))
    followed.look()
    assert followed.model.head()["status"] == "damaged"
    record.write_bytes(content)
    followed.look()

    head = followed.model.head()
    assert (head["status"], head["reason"], head["damaged"]) == ("successful", "", [])
    assert followed.counts("fit") == {"known": 1, "done": 1}


def test_tasks_of_a_run_that_is_over_are_shown_once_the_store_gives_them(tmp_path: Path):
    written = Written(tmp_path, STEPS)
    split(written, 2)
    item(written, 0, 2)
    item(written, 1, 2)
    written.ended()
    record = tmp_path / "F/1/fit/1/task.json"
    record.rename(tmp_path / "aside")
    record.mkdir()  # what is there can't be read, and that may pass

    followed = Followed(RunStore(LocalStorage(str(tmp_path)), "F", "1"))
    followed.look()
    assert followed.counts("fit")["done"] == 1
    assert len(followed.model.head()["damaged"]) == 1

    record.rmdir()
    (tmp_path / "aside").rename(record)
    followed.look()

    assert followed.counts("fit") == {"known": 2, "done": 2}
    assert followed.model.head()["damaged"] == []


def test_a_damaged_record_is_told_of_and_the_others_are_shown(tmp_path: Path):
    written = Written(tmp_path, STEPS)
    split(written, 3)
    for index in range(3):
        item(written, index, 3)
    written.ended()
    (tmp_path / "F/1/fit/1/task.json").write_text("{ nonsense")

    followed = Followed(RunStore(LocalStorage(str(tmp_path)), "F", "1"))

    assert followed.counts("fit")["done"] == 2
    (told,) = followed.model.head()["damaged"]
    assert "fit/1/task.json is damaged" in told


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"format": 1}', b'{"format": 1, "steps": 4}', b"\xff\xfe"]
)
@pytest.mark.parametrize(
    "path",
    [
        "run.json",
        "_parameters/0/task.json",
        "start/0/task.json",
        "drivers/0.json",
        "drivers/0.end.json",
        "tags/0.json",
    ],
)
def test_whatever_is_damaged_of_a_run_it_can_be_looked_at(tmp_path: Path, path: str, content: bytes):
    written = Written(tmp_path, STEPS)
    split(written, 3)
    item(written, 0, 3)
    written.ended()
    file = tmp_path / "F/1" / path
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)

    followed = Followed(RunStore(LocalStorage(str(tmp_path)), "F", "1"))
    source = StoreSource(str(tmp_path))
    (head,) = source.runs()
    doc = Document()
    document(source)(doc)
    for query in (
        "?all=1",
        "?flow=F&run=1",
        "?flow=F&run=1&step=fit&task=0",
        "?flow=F&run=1&step=start&task=0",
    ):
        doc.get_model_by_name("view").data = {"query": [query]}
    source.close()

    assert doc.get_model_by_name("parts").data["mode"] == ["run"]
    assert followed.model.head()["flow"] == "F"
    assert head["run"] == "1"


def test_a_resumed_run_shows_what_it_took_over_as_reused(tmp_path: Path):
    store = tmp_path / "store"
    assert ran(store, "--isolate").returncode == 1
    assert ran(store, "--origin-run-id", "1", command="resume").returncode == 1

    followed = Followed(RunStore(LocalStorage(str(store)), "Trouble", "2"))

    assert followed.counts("start") == {"known": 1, "done": 1, "reused": 1}
    fit = followed.counts("fit")
    assert (fit["known"], fit["reused"]) == (12, 11)


def test_a_run_in_a_bucket_is_read_as_any_other(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    url = bucket.url()
    process = ran(url, "--isolate", environment=bucket.environment)
    assert process.returncode == 1
    source = StoreSource(url)
    wait_until(lambda: [head["status"] for head in source.runs()] == ["failed"])

    def is_read() -> bool:
        model = source.model("Trouble", "1")
        return model is not None and model.head()["status"] == "failed"

    wait_until(is_read)
    found = source.detail("Trouble", "1", "fit", "11")
    table = source.table("Trouble", "1", "start", "0", "heights", 0)
    source.close()
    assert found["error"]["exception"] == "item 11 is <b>too bad</b>"
    assert table["total_rows"] == 30


def test_of_a_run_in_a_bucket_that_is_over_the_indices_are_read(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
):
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    assert ran(bucket.url(), "--isolate", "--worst", "99", environment=bucket.environment).returncode == 0
    storage = storage_at(bucket.url())
    records = [key for key in bucket.objects() if "/fit/" in key and key.endswith("task.json")]
    for key in records[1:]:  # what the index has needs no record
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"{")

    followed = Followed(RunStore(storage, "Trouble", "1"))

    assert followed.counts("fit") == {"known": 12, "done": 12}
    columns, _ = followed.model.tasks("fit", sort_by="task")
    assert columns["value"] == [str(number) for number in range(12)]
    assert None not in columns["seconds"]


def test_of_a_log_of_two_hundred_megabytes_only_the_end_is_read(tmp_path: Path):
    written = Written(tmp_path, {"start": {}})
    path = "F/1/start/0/0.x0/stdout.log"
    written.store.storage.append(path, b"")
    with open(tmp_path / path, "wb") as file:
        file.truncate(200_000_000)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + b"".join(b"2026-01-01T00:00:00Z line %d\n" % number for number in range(1000)))
    from daskflow.store.records import Log

    written.task("start/0", logs={"stdout": Log(size=200_000_000, path=path)})

    began = time.process_time()
    log = details.detail(written.store, "start", "0")["logs"]["stdout"]

    assert (
        time.process_time() - began < 1
    )  # of the processor's time, not of the clock's: reading it all takes more
    assert log["lines"] == [f"line {number}" for number in range(800, 1000)]
    assert log["cut"]
    assert log["bytes"] > 200_000_000


def test_a_line_of_a_megabyte_is_cut_and_control_characters_are_visible(tmp_path: Path):
    from daskflow.store.records import Log

    written = Written(tmp_path, {"start": {}})
    text = "T \x1b[1;31mred\x1b[0m \x1b]0;title\x07bell\x07\nT 10%\r20%\r30%\nT " + "x" * 50_000 + "\n"
    written.task("start/0", logs={"stderr": Log(size=1, text=text)})

    lines = details.detail(written.store, "start", "0")["logs"]["stderr"]["lines"]

    assert lines[:2] == ["red bell␇", "30%"]
    assert len(lines[2]) == 2000


def test_tracebacks_and_errors_have_no_codes_of_a_terminal(tmp_path: Path):
    written = Written(tmp_path, {"start": {}})
    error = {
        "type": "E",
        "exception": "\x1b[1;31mred\x1b[0m\x07",
        "stacktrace": "a\n\x1b[2m10%\r20%\x1b[0m\nb",
    }
    written.task("start/0", status="failed", error=error)
    written.ended("failed", "Task start/0 failed: \\u001b[1;31mred\\u001b[0m")

    found = details.detail(written.store, "start", "0")
    model = Followed(written.store).model

    assert (found["error"]["exception"], found["error"]["stacktrace"]) == ("red␇", "a\n20%\nb")
    assert found["attempts"][0]["error"] == "E: red␇"
    assert model.tasks("start")[0]["error"] == ["E: red␇"]
    assert model.head()["reason"] == "Task start/0 failed: red"


def test_a_failure_that_was_caught_is_shown_with_its_traceback(tmp_path: Path):
    written = Written(tmp_path, STEPS)
    split(written, 2)
    item(written, 0, 2)
    item(written, 1, 2, error={"type": "E", "exception": "\x1b[31mred", "stacktrace": "a\nb"})
    written.ended()

    followed = Followed(written.store)

    assert followed.counts("fit") == {"known": 2, "done": 2, "caught": 1}
    assert followed.model.tasks("fit")[0]["error"] == [None, "caught: E: red"]
    found = details.detail(written.store, "fit", "1")
    assert (found["state"], found["error"]["stacktrace"]) == ("done", "a\nb")


def test_a_foreach_value_of_ten_megabytes_is_shown_cut(tmp_path: Path):
    written = Written(tmp_path, STEPS)
    from daskflow.pathspec import TaskName
    from daskflow.store.artifacts import ArtifactWriter

    writer = ArtifactWriter(written.store, TaskName("start", "0"), "0.x0")
    foreach = writer.save_items(["y" * 10_000_000, "z" * 16_000])
    written.task(
        "start/0", foreach=foreach, transition={"kind": "foreach", "targets": ["fit"], "foreach": "items"}
    )
    item(written, 0, 2)
    item(written, 1, 2)
    written.ended()

    values = Followed(written.store).model.tasks("fit")[0]["value"]

    assert values == ["y" * 199 + "…", "z" * 199 + "…"]


@pytest.mark.parametrize("columns", [2, 20_000])
def test_a_table_of_two_or_twenty_thousand_columns_is_shown_in_parts(tmp_path: Path, columns: int):
    written = Written(tmp_path, {"start": {}})
    frame = pandas.DataFrame({f"c{number}": range(30) for number in range(columns)})
    written.task("start/0", {"frame": frame})

    last = max(0, columns - 50)
    found = details.table(written.store, "start", "0", "frame", last)

    assert (found["total_columns"], found["total_rows"], len(found["rows"])) == (columns, 30, 20)
    assert found["columns"][-1] == {"name": f"c{columns - 1}", "type": "int64"}
    assert found["rows"][7] == ["7"] * min(columns, 50)
    with pytest.raises(NotFound, match="no artifact 'other'"):
        details.table(written.store, "start", "0", "other", 0)


@pytest.mark.parametrize(("content", "why"), [(b"x" * 100, "100 bytes"), (None, "no such file")])
def test_a_table_that_can_not_be_read_is_told_by_its_name(tmp_path: Path, content: bytes | None, why: str):
    written = Written(tmp_path, {"start": {}})
    written.task("start/0", {"frame": pandas.DataFrame({"a": range(30)})})
    (file,) = tmp_path.rglob("*.parquet")
    file.unlink()
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(DamagedRecord, match=rf"Table 'frame' of F/1/start/0 can't be read: .*{why}"):
        details.table(written.store, "start", "0", "frame", 0)


def test_no_pickle_is_loaded(tmp_path: Path):
    written = Written(tmp_path, {"start": {}})
    written.task("start/0", {"bomb": Bomb(), "number": 5})
    Bomb.loaded = False

    artifacts = {each["name"]: each for each in details.detail(written.store, "start", "0")["artifacts"]}

    assert artifacts["bomb"]["kind"] == "pickle"
    assert artifacts["number"]["value"] == "5"
    assert not Bomb.loaded


@pytest.mark.parametrize(
    ("text", "shown", "is_cut"),
    [
        ("short", '"short"', False),
        ("<b>" + "x" * 16_000, '"<b>' + "x" * 495 + "…", True),
        ("é" * 20_000, '"' + "é" * 498 + "…", True),
        ("\U0001f600" * 100_000, '"' + "\U0001f600" * 498 + "…", True),
        ("x" * 1_000_000, '"' + "x" * 498 + "…", True),
        ("\ud800" + "x" * 1000, '"���' + "x" * 495 + "…", True),
    ],
    ids=["short", "in the record", "in a file", "of four bytes", "a megabyte", "no Unicode"],
)
def test_of_a_long_text_the_beginning_is_shown(tmp_path: Path, text: str, shown: str, is_cut: bool):
    written = Written(tmp_path, {"start": {}})
    written.task("start/0", {"text": text})

    (found,) = details.detail(written.store, "start", "0")["artifacts"]

    assert (found["kind"], found["value"], found["cut"]) == ("value", shown, is_cut)
    assert found["size"] >= len(text)


def test_a_long_text_whose_file_is_gone_is_told_of(tmp_path: Path):
    written = Written(tmp_path, {"start": {}})
    written.task("start/0", {"text": "x" * 20_000})
    (file,) = tmp_path.rglob("*.pickle")
    file.unlink()

    found = details.detail(written.store, "start", "0")

    assert [each["kind"] for each in found["artifacts"]] == ["pickle"]
    assert found["damaged"] == ["Artifact 'text' can't be read: There is no such file."]


class Bomb:
    loaded = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _explode, ()


def _explode() -> Bomb:
    Bomb.loaded = True
    return Bomb()


def test_parents_and_children_are_named(troubles: Path):
    store = RunStore(storage_at(str(troubles)), "Trouble", "2")

    def relatives(step: str, task: str) -> tuple[list[str], list[str]]:
        found = details.detail(store, step, task)
        return found["parents"], found["children"]

    assert relatives("start", "0") == ([], ["again/0"])
    assert relatives("meet", "0") == (["short_way/0"], ["left/0", "right/0"])
    assert relatives("left", "0") == (["meet/0"], ["fit/0..11"])
    assert relatives("fit", "3") == (["left/0"], ["gather/0"])
    assert relatives("gather", "0") == (["fit/0..11"], ["both/0"])
    assert relatives("again", "0.1") == (["again/0"], ["again/0.2"])
    assert relatives("again", "0.3") == (["again/0.2"], ["choose/0"])
    assert relatives("end", "0") == (["both/0"], [])


class Reading(LocalStorage):
    """A store that notes in which thread what was looked at."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.looks: list[tuple[str, str]] = []

    def exists(self, path: str) -> bool:
        self.looks.append((threading.current_thread().name, path))
        return super().exists(path)


def test_who_asks_for_a_run_does_not_read_the_store_itself(tmp_path: Path):
    Written(tmp_path, {"start": {}}).ended()
    source = StoreSource(str(tmp_path))
    source._storage = storage = Reading(str(tmp_path))

    assert source.model("F", "77") is None
    found = source.model("F", "1")
    source.read("F", "1")
    source.close()

    assert found is not None
    assert {path for _, path in storage.looks} >= {"F/77/run.json", "F/1/run.json"}
    assert {thread for thread, path in storage.looks if threading.current_thread().name == thread} == set()


def test_a_run_that_is_over_is_not_read_whenever_runs_are_listed(tmp_path: Path):
    Written(tmp_path, {"start": {}}).ended()
    source = StoreSource(str(tmp_path))
    assert [head["status"] for head in source.runs()] == ["successful"]

    (tmp_path / "F/1/run.json").write_bytes(b"{")
    Written(tmp_path, {"start": {}}).ended()
    wait_until(lambda: len(source.runs()) == 2)
    source._read_at = {name: at - OVER_SECONDS / 2 for name, at in source._read_at.items()}
    Written(tmp_path, {"start": {}}).ended()
    wait_until(lambda: len(source.runs()) == 3)
    assert [head["status"] for head in source.runs()] == ["successful"] * 3

    source._read_at = {name: at - OVER_SECONDS for name, at in source._read_at.items()}
    wait_until(lambda: source.runs()[-1]["status"] == "damaged")
    source.close()


def test_a_run_that_was_deleted_is_gone_and_may_come_again(tmp_path: Path):
    def made() -> None:
        written = Written(tmp_path, STEPS)
        split(written, 1)
        written.ended()

    made()
    source = StoreSource(str(tmp_path))
    wait_until(lambda: source.model("F", "1") is not None and source.read("F", "1"))
    wait_until(lambda: [head["run"] for head in source.runs()] == ["1"])

    shutil.rmtree(tmp_path / "F")

    wait_until(lambda: source.model("F", "1") is None)
    assert source.runs() == []
    made()
    wait_until(lambda: source.model("F", "1") is not None)
    source.close()


def test_a_source_that_is_closed_reads_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("daskflow.dashboard.stored.MOST_WAITING", 5)
    monkeypatch.setattr("daskflow.dashboard.stored.UNWATCHED_SECONDS", 1000)
    monkeypatch.setattr("daskflow.dashboard.following.BATCH", 10)
    written = Written(tmp_path, {"start": {}, "fit": {}})
    for number in range(300):
        written.task(f"fit/{number}", at=1e9 + number)
    written.ended()
    source = StoreSource(str(tmp_path))
    assert source.model("F", "1") is not None  # what is read waits for who looks

    source.close()

    wait_until(lambda: not any(thread.is_alive() for thread in source._pool._threads))


def test_runs_are_listed_newest_first_and_new_ones_turn_up(tmp_path: Path):
    for number in range(3):
        Written(tmp_path, {"start": {}}, created=f"2026-01-0{number + 1}T00:00:00.000000Z").ended()
    Written(tmp_path, {"start": {}}, flow="G", created="2026-01-02T12:00:00.000000Z").ended("failed", "why")
    source = StoreSource(str(tmp_path))

    assert [f"{head['flow']}/{head['run']}" for head in source.runs()] == ["F/3", "G/1", "F/2", "F/1"]
    Written(tmp_path, {"start": {}}, created="2026-01-09T00:00:00.000000Z")
    wait_until(lambda: source.runs()[0]["run"] == "4")
    assert source.runs()[0]["status"] == "lost"
    assert source.model("F", "77") is None
    assert source.model("../F", "1") is None
    source.close()


@pytest.mark.parametrize(
    ("step", "task"),
    [
        ("start", "../../../G/1/start/0"),
        ("start", "./0"),
        ("..", "1/start/0"),
        ("", "start/0"),
        ("start", ""),
    ],
)
def test_an_address_leads_to_tasks_of_its_run_only(tmp_path: Path, step: str, task: str):
    written = Written(tmp_path, {"start": {}})
    written.task("start/0")
    other = tmp_path / "G" / "1" / "start" / "0"
    other.mkdir(parents=True)
    (other / "task.json").write_bytes((tmp_path / "F" / "1" / "start" / "0" / "task.json").read_bytes())

    with pytest.raises(NotFound, match="names no task"):
        details.detail(written.store, step, task)
    with pytest.raises(NotFound, match="names no task"):
        details.table(written.store, step, task, "x", 0)


def test_of_a_last_line_that_is_longer_than_what_is_read_there_is_the_end(tmp_path: Path):
    from daskflow.store.records import Log

    written = Written(tmp_path, {"start": {}})
    text = "T short\nT " + "x" * 200_000 + "end\n"
    written.task("start/0", logs={"stdout": Log(size=len(text), text=text)})

    log = details.detail(written.store, "start", "0")["logs"]["stdout"]

    assert len(log["lines"]) == 1
    assert log["lines"][0].endswith("xxxend")
    assert log["bytes"] == len(text)
