"""Paths of a run, and names of files."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.pathspec import TaskName
from daskflow.store.layout import Layout, file_name, new_execution


def test_the_paths_of_a_run_are_those_that_people_are_told_of():
    layout = Layout("TrainFlow", "12")
    task = TaskName("train", "4")

    assert layout.run_record == "TrainFlow/12/run.json"
    assert layout.code("flow.py", 2) == "TrainFlow/12/code.2/flow.py"
    assert layout.drivers == "TrainFlow/12/drivers"
    assert layout.driver_beat(1) == "TrainFlow/12/drivers/1.beat.json"
    assert layout.code("pkg/flow.py") == "TrainFlow/12/code/pkg/flow.py"
    assert layout.driver(0) == "TrainFlow/12/drivers/0.json"
    assert layout.driver_end(0) == "TrainFlow/12/drivers/0.end.json"
    assert layout.tags(0) == "TrainFlow/12/tags/0.json"
    assert layout.commit(task) == "TrainFlow/12/train/4/task.json"
    assert (
        layout.artifact(task, "0.x7k2", "features", "parquet")
        == "TrainFlow/12/train/4/0.x7k2/features.parquet"
    )
    assert layout.attempt(task, "0.x7k2") == "TrainFlow/12/train/4/0.x7k2/attempt.json"
    assert layout.log(task, "0.x7k2", "stdout") == "TrainFlow/12/train/4/0.x7k2/stdout.log"


@pytest.mark.parametrize(
    ("artifact", "name"),
    [
        ("summary", "summary"),
        ("_x1", "_x1"),
        ("größe", "größe"),
        ("a b", "a%20b"),
        ("a/b", "a%2Fb"),
        ("\0", "%00"),
    ],
)
def test_an_artifact_keeps_its_name_as_far_as_a_file_can_have_it(artifact: str, name: str):
    assert file_name(artifact) == name


@given(st.text(st.characters(exclude_categories=()), min_size=1) | st.text("äb", min_size=150))
def test_any_name_of_an_artifact_is_one_name_of_a_file(artifact: str):
    name = file_name(artifact)

    assert "/" not in name
    assert "\0" not in name
    assert len(os.fsencode(f"{name}.parquet")) < 255


@given(
    st.lists(
        st.text(st.characters(exclude_categories=()), min_size=1) | st.text("äb", min_size=150), unique=True
    )
)
def test_different_artifacts_have_different_files(artifacts: list[str]):
    assert len(set(map(file_name, artifacts))) == len(artifacts)


def test_no_two_executions_have_one_name():
    names = {new_execution(3) for _ in range(1000)}

    assert len(names) == 1000
    assert all(name.startswith("3.") for name in names)
