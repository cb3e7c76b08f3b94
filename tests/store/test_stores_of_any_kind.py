"""What holds for a store of either kind, whatever its place and its artifacts are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from daskflow.errors import DataMissing
from daskflow.pathspec import TaskName
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.flows import new_run
from daskflow.store.records import TaskRecord, timestamp
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at

if TYPE_CHECKING:
    from pathlib import Path

    from daskflow.store.storage import Storage

PLACE = "my flows, größer & 100% #1/日本"
TASK = TaskName("s", "0")
FRAME = pd.DataFrame({"x": range(20_000)})


@pytest.fixture(params=["directory", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "directory":
        return storage_at(str(tmp_path / PLACE))
    return storage_at(request.getfixturevalue("bucket").url(PLACE))


@pytest.fixture
def run(storage: Storage) -> RunStore:
    return new_run(storage, "F", lambda number: {"flow": "F", "run": number})


def committed(run: RunStore, **values: Any) -> TaskRecord:
    """The commit of a task with these artifacts."""
    writer = ArtifactWriter(run, TASK, "0.a")
    now = timestamp()
    refs = {name: writer.save(name, value) for name, value in values.items()}
    return run.commit(TaskRecord("F", run.run, "s", "0", 0, "0.a", "ok", now, now, artifacts=refs))


@pytest.mark.parametrize(
    "name", ["a/b", "..", "../../x", "a b", "größe", "?versionId=1", "%2F", "a" * 300, "\ud800"]
)
def test_an_artifact_may_have_a_name_that_is_no_file_name(run: RunStore, name: str):
    committed(run, **{name: FRAME})

    ref = RunStore(run.storage, "F", run.run).task(TASK).artifacts[name]
    pd.testing.assert_frame_equal(run.load(name, ref), FRAME)
    assert ref.path is not None
    assert ref.path.startswith("F/1/s/0/0.a/")
    assert sorted(run.storage.names("F/1/s/0")) == ["0.a", "task.json"]
    assert len(run.storage.names("F/1/s/0/0.a")) == 1


def test_any_program_finds_a_table_where_it_is_said_to_be(run: RunStore):
    ref = committed(run, table=FRAME).artifacts["table"]

    assert ref.path is not None
    pd.testing.assert_frame_equal(pd.read_parquet(run.storage.locate(ref.path)), FRAME)


def test_a_table_that_is_cut_off_is_one_sentence_that_names_the_file(run: RunStore):
    ref = committed(run, table=FRAME).artifacts["table"]
    assert ref.path is not None
    run.storage.replace(ref.path, run.storage.read(ref.path)[:-100])

    with pytest.raises(DataMissing) as caught:
        run.load("table", ref)

    assert run.storage.locate(ref.path) in caught.value.message
    assert len(caught.value.message.splitlines()) == 1
