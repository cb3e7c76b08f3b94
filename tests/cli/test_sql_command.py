"""``daskflow sql``: for people a table, for programs JSON or CSV; a mistake is a few lines and no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from daskflow.store.flows import new_run
from daskflow.store.records import timestamp
from daskflow.store.storage import LocalStorage

if TYPE_CHECKING:
    from pathlib import Path

    from daskflow.store.runs import RunStore

TOOL = "from daskflow.cli.tool import main; main()"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    from daskflow.pathspec import TaskName
    from daskflow.store.artifacts import ArtifactWriter
    from daskflow.store.records import TaskRecord

    about = {"created": timestamp(), "user": "ada", "versions": {}, "code": {}}
    store = new_run(LocalStorage(str(tmp_path / "store")), "F", lambda run: {"flow": "F", "run": run} | about)
    for step, values in (
        ("_parameters", {"_graph_info": {"steps": {"fit": {}}}}),
        ("fit", {"score": 0.5, "name": "a, b", "none": None, "nan": float("nan")}),
    ):
        writer = ArtifactWriter(store, TaskName(step, "0"), "0.a")
        refs = {name: writer.save(name, value) for name, value in values.items()}
        now = timestamp()
        store.commit(TaskRecord("F", store.run, step, "0", 0, "0.a", "ok", now, now, artifacts=refs))
    return store


def sql(store: RunStore, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", TOOL, "sql", *words, "--flow", "F", "--datastore", store.storage.url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_rows_are_shown_below_the_names_of_their_columns(store: RunStore):
    done = sql(store, "select run, score, name, none from fit")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["run  score  name  none", "1    0.5    a, b"]


def test_a_program_gets_a_line_of_json_a_row_or_csv(store: RunStore):
    words = "select run, score, name, none, nan, started::date as day, [1, 2] as l from fit"

    (line,) = sql(store, words, "--json").stdout.splitlines()
    found = json.loads(line)
    assert (found["run"], found["score"], found["name"], found["none"], found["nan"]) == (
        1,
        0.5,
        "a, b",
        None,
        None,
    )
    assert found["l"] == [1, 2]
    assert len(found["day"]) == 10

    assert sql(store, "select run, name from fit", "--csv").stdout == 'run,name\n1,"a, b"\n'
    assert sql(store, "select run from fit", "--csv", "--json").returncode == 2


def test_a_mistake_is_what_duckdb_says_of_it(store: RunStore):
    done = sql(store, "select scor from fit")

    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert 'Referenced column "scor" not found' in done.stderr
    assert "LINE 1: select scor from fit" in done.stderr


def test_only_the_run_that_is_named_is_asked(store: RunStore):
    assert "does not exist" in sql(store, "from fit", "--run", "7").stderr
    assert sql(store, "select run from fit", "--run", "1", "--csv").stdout == "run\n1\n"
