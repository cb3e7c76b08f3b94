"""Storing what one execution of a task set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from daskflow.errors import DataMissing, UnpicklableArtifactException
from daskflow.pathspec import TaskName
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.records import ArtifactRef

if TYPE_CHECKING:
    from daskflow.store.runs import RunStore
    from daskflow.store.storage import LocalStorage

TASK = TaskName("fit", "4")


@pytest.fixture
def writer(run: RunStore) -> ArtifactWriter:
    return ArtifactWriter(run, TASK, "0.a")


def files(storage: LocalStorage) -> list[str]:
    root = Path(storage.url)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("value", [None, 5, "grün", [1, {"a": None}], (1, 2), {3}], ids=repr)
def test_a_small_value_stays_in_the_reference(run: RunStore, writer: ArtifactWriter, value: Any):
    ref = writer.save("x", value)

    assert (ref.path, ref.record) == (None, None)
    assert files(run.storage) == ["F/1/run.json"]
    assert run.load("x", ArtifactRef.of_json(ref.to_json())) == value


def test_a_large_value_is_a_file_of_its_own_that_bears_its_name(run: RunStore, writer: ArtifactWriter):
    value = {"text": "x" * 100_000}

    ref = writer.save("model", value)

    assert ref.path == "F/1/fit/4/0.a/model.pickle"
    assert ref.size == len(run.storage.read(ref.path))
    assert run.load("model", ArtifactRef.of_json(ref.to_json())) == value


def test_two_executions_of_a_task_never_touch_each_others_files(run: RunStore):
    first = ArtifactWriter(run, TASK, "0.a").save("x", "first" * 10_000)
    second = ArtifactWriter(run, TASK, "0.b").save("x", "other" * 10_000)

    assert run.load("x", first) == "first" * 10_000
    assert run.load("x", second) == "other" * 10_000


def test_equal_values_have_one_identity_whoever_stores_them(run: RunStore):
    first = ArtifactWriter(run, TASK, "0.a").save("x", list(range(100_000)))
    second = ArtifactWriter(run, TaskName("fit", "5"), "0.b").save("y", list(range(100_000)))

    assert first.hash == second.hash
    assert first.path != second.path


def test_a_value_that_can_not_be_stored_leaves_no_file(run: RunStore, writer: ArtifactWriter):
    with pytest.raises(UnpicklableArtifactException):
        writer.save("x", ["x" * 100_000, (n for n in ())])

    assert files(run.storage) == ["F/1/run.json"]


@pytest.mark.parametrize("name", ["a b", "a/b", "..", "ä" * 200, "\ud800"])
def test_an_artifact_of_any_name_can_be_stored(run: RunStore, writer: ArtifactWriter, name: str):
    ref = writer.save(name, "x" * 100_000)

    assert run.load(name, ref) == "x" * 100_000
    assert all(path.startswith("F/1/") for path in files(run.storage))


@pytest.mark.parametrize(
    "value", [pd.DataFrame({"a": range(1000)}), list(range(20_000))], ids=["table", "pickle"]
)
def test_a_file_of_another_size_than_was_written_is_not_read(
    run: RunStore, writer: ArtifactWriter, value: object
):
    ref = writer.save("x", value)
    file = Path(run.storage.locate(str(ref.path)))
    file.write_bytes(file.read_bytes() + b" ")

    with pytest.raises(DataMissing, match=r"bytes, and [\d,]+ were written: it was cut off or replaced"):
        run.load("x", ref)
