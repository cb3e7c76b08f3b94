"""Past runs are read back: by name, newest first, without running code, whatever else is damaged."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from daskflow import Daskflow, DataArtifact, Flow, Run, Step, Task
from daskflow.errors import DamagedRecordWarning, InvalidPathspec, NotFound, StoreError
from daskflow.pathspec import TaskName
from daskflow.store.layout import PARAMETERS
from daskflow.store.records import Log
from daskflow.store.sessions import open_session

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Past

    from daskflow.store.runs import RunStore


class Bomb:
    """A value whose loading can't go unnoticed."""

    def __reduce__(self) -> tuple:
        return (pytest.fail, ("a pickle was loaded",))


@pytest.fixture
def finished(past: Past) -> RunStore:
    store = past.run(("start", "work", "join", "end"))
    linear = {"kind": "linear", "foreach": None, "condition": None}
    past.task(
        store, "start/0", parents=[str(PARAMETERS)], artifacts={"xs": [1, 2], "_hidden": 1, "bomb": Bomb()},
        transition=linear | {"kind": "foreach", "targets": ["work"]}, foreach={"size": 2, "items": [1, 2]},
        logs={"stdout": Log(4, "2026-01-01T00:00:00.000001Z one\n2026-01-01T00:00:02.000000Z two\n"), "stderr": Log(0, "")},
    )  # fmt: skip
    for index in (1, 0):
        past.task(
            store, f"work/{index}", parents=["start/0"], artifacts={"score": index / 2},
            stack=[{"kind": "foreach", "split": "start/0", "index": index, "size": 2, "var": "xs"}],
            transition=linear | {"targets": ["join"]}, process={"max_rss": 7},
        )  # fmt: skip
    past.task(store, "join/0", parents=["work/0", "work/1"], transition=linear | {"targets": ["end"]})
    past.task(
        store,
        "end/0",
        parents=["join/0"],
        artifacts={"table": pd.DataFrame({"a": [1, 2]}), "odd": pd.DataFrame({"a": [1, "x"]})},
        transition={"kind": "end", "targets": []},
    )
    return store


def test_everything_is_reached_by_its_name(past: Past, finished: RunStore):
    run = Run("F/1")

    assert [flow.id for flow in Daskflow()] == ["F"]
    assert Flow("F").latest_run == run == Flow("F")["1"] == Flow("F").latest_successful_run
    assert [step.id for step in run] == ["end", "join", "work", "start"]
    assert [task.id for task in run["work"]] == ["0", "1"], "the one that started last first"
    assert run["work"]["1"].data.score == 0.5
    assert run.data.table.equals(pd.DataFrame({"a": [1, 2]}))
    assert run.end_task.pathspec == "F/1/end/0"
    assert Task("F/1/work/1").artifacts.score.data == 0.5
    assert DataArtifact("F/1/work/1/score").data == 0.5
    assert run["_parameters"].task.data.alpha == Task("F/1/work/0").data.alpha == 5
    assert "work" in run
    assert "nothing" not in run
    assert run.code == {"flow.py": "# source"}
    assert (run.successful, run.finished, run.finished_at is not None) == (True, True, True)
    assert Task("F/1/start/0", store=past.url).parent.parent.parent == Flow("F", store=past.url)


def test_a_task_knows_its_surroundings(finished: RunStore):
    task = Task("F/1/work/1")

    assert task.index == 1
    assert task.foreach_stack == [("start", "xs", 2, 1)]
    assert list(task.parent_task_pathspecs) == ["F/1/start/0"]
    assert [child.pathspec for child in task.child_tasks] == ["F/1/join/0"]
    assert sorted(child.id for child in Task("F/1/start/0").child_tasks) == ["0", "1"]
    assert [step.id for step in Step("F/1/work").parent_steps] == ["start"]
    assert [step.id for step in Step("F/1/work").child_steps] == ["join"]
    assert task["_transition"].data["targets"] == ["join"]
    assert task["_foreach_stack"].data == [("start", "xs", 2, 1)]
    assert task["_task_ok"].data is True
    assert task.metadata_dict["max_rss"] == 7
    assert {fact.name for fact in task.metadata} >= {"attempt", "user", "python_version", "max_rss"}
    assert repr(task) == "Task('F/1/work/1', attempt=0)"
    assert repr(Run("F/1")) == "Run('F/1')"


def test_private_names_are_reached_but_not_listed(finished: RunStore):
    task = Task("F/1/start/0")

    assert [artifact.id for artifact in task] == ["LIMIT", "alpha", "bomb", "xs"]
    assert task["_hidden"].data == 1
    assert "_hidden" in task
    assert "_hidden" not in task.data
    assert "_hidden" not in dir(task.data)


def test_nothing_but_the_ask_for_its_value_loads_a_pickle(finished: RunStore):
    task = Task("F/1/start/0")
    facts = [(a.id, a.type, a.size, a.encoding, a.sha, a.path, a.why) for a in task]

    assert [fact[3] for fact in facts if fact[0] == "bomb"] == ["pickle"]
    assert list(Run("F/1"))
    assert [t.finished_at for s in Run("F/1") for t in s]
    assert task.data.xs == [1, 2]
    with pytest.raises(pytest.fail.Exception, match="a pickle was loaded"):
        task.data.bomb


def test_a_table_is_opened_by_its_path_where_daskflow_is_not(finished: RunStore):
    artifact = Task("F/1/end/0").artifacts.table
    code = (
        "import sys, pandas\n"
        f"assert list(pandas.read_parquet({artifact.path!r})['a']) == [1, 2]\n"
        "assert 'daskflow' not in sys.modules"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert artifact.rows == 2
    assert artifact.schema[0][0] == "a"
    assert Task("F/1/end/0").artifacts.odd.why


def test_logs_are_lines_with_their_times(finished: RunStore):
    task = Task("F/1/start/0")

    lines = list(task.loglines("stdout"))
    assert [text for _, text in lines] == ["one", "two"]
    assert (lines[1][0] - lines[0][0]).total_seconds() == pytest.approx(1.999999)
    assert task.stdout == "one\ntwo\n"
    assert task.stderr == ""
    with pytest.raises(ValueError, match="stdout or stderr"):
        list(task.loglines("stdin"))


def test_only_a_newline_ends_a_line_of_a_log(past: Past):
    store = past.run()
    name = TaskName("start", "0")
    bar = "10%\r20%\x0c\u2028done"
    past.storage.append(
        store.layout.log(name, "0.ab", "stdout"), f"2026-01-01T00:00:00.000000Z {bar}\n".encode()
    )

    assert [text for _, text in Task("F/1/start/0").loglines("stdout")] == [bar]
    assert Task("F/1/start/0").stdout == f"{bar}\n"


def test_a_failed_task_shows_its_last_attempt(past: Past):
    store = past.run()
    error = {"type": "builtins.ValueError", "exception": "no", "stacktrace": "Traceback ..."}
    for attempt in (0, 1):
        past.task(store, "start/0", status="failed", attempt=attempt, error=error, artifacts={"x": attempt})
    open_session(store, {}).end({"status": "failed", "reason": "Task start/0 failed"})

    task, run = Task("F/1/start/0"), Run("F/1")

    assert (task.successful, task.finished, task.finished_at is not None) == (False, False, True)
    assert task.exception.type == "builtins.ValueError"
    assert str(task.exception) == "Traceback ..."
    assert task.data.x == task.current_attempt == 1
    assert (run.status, run.successful, run.finished_at, run.data) == ("failed", False, None, None)


def test_an_attempt_that_failed_can_be_asked_for(past: Past):
    store = past.run()
    error = {"type": "builtins.ValueError", "exception": "no", "stacktrace": "Traceback ..."}
    log = Log(size=5, text="2026-01-01T00:00:00.000000Z first\n")
    past.task(store, "start/0", status="failed", error=error, artifacts={"x": "bad"}, logs={"stdout": log})
    past.task(store, "start/0", attempt=1, artifacts={"x": "good"})

    first, second = (Task("F/1/start/0", attempt=attempt) for attempt in (0, 1))

    assert (first.successful, first.data.x, first.stdout) == (False, "bad", "first\n")
    assert first.artifacts.x.data == first["x"].parent.data.x == "bad"
    assert (second.data.x, Task("F/1/start/0").data.x) == ("good", "good")
    assert pickle.loads(pickle.dumps(first)).data.x == "bad"
    assert repr(first) == "Task('F/1/start/0', attempt=0)"
    with pytest.raises(NotFound, match="attempt 2.*there is: 0, 1"):
        Task("F/1/start/0", attempt=2)


def test_a_task_that_runs_is_seen_with_what_it_has_written(past: Past):
    store = past.run()
    name = TaskName("start", "0")
    past.storage.append(store.layout.log(name, "0.ab", "stdout"), b"2026-01-01T00:00:00.000000Z so far\n")

    task = Task("F/1/start/0")

    assert (task.successful, task.finished_at, task.exception) == (False, None, None)
    assert task.stdout == "so far\n"
    assert list(task) == []
    assert Run("F/1").status == "lost"  # nobody drives it
    open_session(store, {})
    assert Run("F/1").status == "running"


def test_a_damaged_record_is_named_and_the_rest_goes_on(past: Past, finished: RunStore, tmp_path: Path):
    (tmp_path / "F/1/work/1/task.json").write_text('{"format": 1, "flo')

    with pytest.raises(StoreError, match=r"work/1/task\.json"):
        Task("F/1/work/1")
    with pytest.warns(DamagedRecordWarning, match=r"work/1/task\.json"):
        assert [task.id for task in Step("F/1/work")] == ["0"]


@pytest.mark.parametrize(
    ("kind", "pathspec", "error", "words"),
    [
        (Flow, "G", NotFound, "there is: F"),
        (Run, "F/9", NotFound, "'F/9' does not exist"),
        (Step, "F/1/nope", NotFound, "work"),
        (Task, "F/1/work/9", NotFound, "there is: 0, 1"),
        (DataArtifact, "F/1/work/0/nope", NotFound, "score"),
        (Run, "F", InvalidPathspec, "flow/run"),
        (Task, "F/1/work", InvalidPathspec, "flow/run/step/task"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    finished: RunStore, kind, pathspec: str, error: type, words: str
):
    with pytest.raises(error, match=words):
        kind(pathspec)


def test_a_missing_child_is_a_key_error_and_a_missing_value_an_attribute_error(finished: RunStore):
    for parent in (Daskflow(), Flow("F"), Run("F/1"), Step("F/1/work"), Task("F/1/work/0")):
        with pytest.raises(KeyError):
            parent["nope"]
    with pytest.raises(AttributeError, match="score"):
        Task("F/1/work/0").data.nope


def test_stored_objects_can_be_pickled(finished: RunStore):
    for thing in (
        Flow("F"),
        Run("F/1"),
        Step("F/1/work"),
        Task("F/1/work/0"),
        DataArtifact("F/1/work/0/score"),
    ):
        assert pickle.loads(pickle.dumps(thing)) == thing


def test_an_artifact_may_have_any_name(past: Past):
    names = ["a/b", "", "plain", "../x"]
    store = past.run(("start",))
    past.task(store, "start/0", artifacts=dict.fromkeys(names, 1))

    task = Task(f"{store.flow}/{store.run}/start/0")

    assert {artifact.id for artifact in task} >= set(names)
    assert task["a/b"].data == DataArtifact(f"{task.pathspec}/a/b").data == 1
