"""Runs are tagged and found by their tags; a namespace shows some of them and hides the others."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daskflow import (
    Daskflow,
    DataArtifact,
    Flow,
    Run,
    Step,
    Task,
    _current,
    default_namespace,
    get_namespace,
    namespace,
)
from daskflow.errors import DamagedRecordWarning, NamespaceMismatch, NotFound, TaggingError, UnknownUser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Past

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shared(past: Past) -> Past:
    """Runs 1 and 3 of ada, 2 of bob, who is the only one to have run G."""
    for user, tags in (("ada", ["old"]), ("bob", ["old", "good"]), ("ada", ["good"])):
        store = past.run(tags=tags, system_tags=[f"user:{user}", "runtime:dev"])
        past.task(store, "start/0", artifacts={"x": 1})
    past.run(flow="G", system_tags=["user:bob"])
    return past


@pytest.fixture
def in_a_task() -> Iterator[None]:
    """This process is a task of bob's run 2, started with ``--namespace user:carl``."""
    facts = {"flow_name": "F", "run_id": "2", "pathspec": "F/2/start/0", "is_running_flow": True}
    _current.tell(facts | {"namespace": "user:carl"})
    yield
    _current.tell({})


def ids(runs) -> list[str]:
    return [run.id for run in runs]


# Tags


def test_steps_tasks_and_artifacts_have_the_tags_that_their_run_has_now(shared: Past):
    run = Run("F/1")
    parts = [Step("F/1/start"), Task("F/1/start/0"), DataArtifact("F/1/start/0/x")]

    assert {thing.tags for thing in [run, *parts]} == {frozenset({"old", "user:ada", "runtime:dev"})}
    Run("F/1").add_tag("new")

    assert run.tags == {"old", "user:ada", "runtime:dev"}, "those of when it was read"
    assert {thing.tags for thing in parts} == {frozenset({"old", "new", "user:ada", "runtime:dev"})}
    assert {thing.user_tags for thing in parts} == {frozenset({"old", "new"})}
    assert {thing.system_tags for thing in parts} == {frozenset({"user:ada", "runtime:dev"})}


def test_a_run_knows_its_tags_after_it_changed_them(shared: Past):
    run = Run("F/1")
    seen = []

    run.add_tag("a")
    seen.append(run.user_tags)
    run.add_tags(["b", "c", "user:ada"])
    seen.append(run.user_tags)
    run.remove_tag("old")
    run.remove_tags(["a", "never there"])
    seen.append(run.user_tags)
    run.replace_tag("b", "B")
    run.replace_tags(["B", "c"], ["c", "d"])
    seen.append(run.user_tags)

    assert seen == [{"old", "a"}, {"old", "a", "b", "c"}, {"b", "c"}, {"c", "d"}]
    assert Run("F/1").user_tags == {"c", "d"}
    assert Run("F/1").system_tags == {"user:ada", "runtime:dev"}


def test_a_system_tag_is_not_removed_nor_anything_with_it(shared: Past):
    run = Run("F/1")

    for attempt in (
        lambda: run.remove_tag("user:ada"),
        lambda: run.remove_tags(["old", "runtime:dev"]),
        lambda: run.replace_tags(["old", "user:ada"], ["new"]),
    ):
        with pytest.raises(TaggingError, match="system tags are fixed"):
            attempt()
    assert run.tags == Run("F/1").tags == {"old", "user:ada", "runtime:dev"}


def test_runs_steps_and_tasks_are_chosen_by_tags(shared: Past):
    namespace(None)
    Run("F/1").add_tag("best")

    assert ids(Flow("F").runs()) == ["3", "2", "1"]
    assert ids(Flow("F").runs("old")) == ["2", "1"]
    assert ids(Flow("F").runs("old", "best", "user:ada")) == ["1"]
    assert ids(Flow("F").runs("no such tag")) == []
    assert ids(Run("F/1").steps("best", "old")) == ids(Run("F/1").steps()) == ["start"]
    assert ids(Run("F/1").steps("best", "good")) == []
    assert ids(Step("F/1/start").tasks("best")) == ids(Step("F/1/start").tasks()) == ["0"]
    assert ids(Step("F/1/start").tasks("good")) == []


# Namespaces


def test_the_namespace_is_the_users_unless_told_otherwise(past: Past, monkeypatch: pytest.MonkeyPatch):
    assert get_namespace() == "user:ada"
    assert (namespace("user:bob"), get_namespace()) == ("user:bob", "user:bob")
    assert (namespace(None), get_namespace()) == (None, None)
    assert (default_namespace(), get_namespace()) == ("user:ada", "user:ada")
    monkeypatch.setenv("DASKFLOW_PRODUCTION_TOKEN", "f-7")
    assert get_namespace() == "production:f-7"
    with pytest.raises(TypeError, match="None for all; got 3"):
        namespace(3)


def test_a_namespace_hides_the_runs_of_others(shared: Past):
    assert ids(Flow("F")) == ["3", "1"]
    assert ids(Flow("F").runs("old")) == ["1"]
    assert Flow("F").latest_run.id == "3"
    assert ids(Daskflow()) == ids(Daskflow().flows) == ["F"]
    assert ("2" in Flow("F"), "3" in Flow("F"), "F" in Daskflow(), "G" in Daskflow()) == (
        False,
        True,
        True,
        False,
    )

    namespace("user:bob")
    assert ids(Flow("F")) == ["2"]
    assert Flow("F").latest_run.id == "2"
    assert ids(Daskflow()) == ["F", "G"]

    namespace(None)
    assert ids(Flow("F")) == ["3", "2", "1"]
    assert Run("F/2").is_in_namespace()


def test_the_latest_successful_run_is_one_of_the_namespace(shared: Past):
    namespace(None)
    for run in ("1", "2"):
        shared.task(Run(f"F/{run}")._store, "end/0")

    assert Flow("F").latest_successful_run.id == "2"
    default_namespace()
    assert Flow("F").latest_successful_run.id == "1"


@pytest.mark.parametrize(
    ("kind", "pathspec"),
    [
        (Flow, "G"),
        (Run, "F/2"),
        (Step, "F/2/start"),
        (Task, "F/2/start/0"),
        (DataArtifact, "F/2/start/0/x"),
    ],
)
def test_what_is_outside_of_the_namespace_is_told_from_what_is_not_there(
    shared: Past, kind: type, pathspec: str
):
    with pytest.raises(NamespaceMismatch, match=rf"{kind.__name__} '{pathspec}' .* namespace 'user:ada'"):
        kind(pathspec)
    with pytest.raises(NotFound):
        kind(pathspec.replace("F", "H").replace("G", "H"))
    namespace("user:bob")
    assert kind(pathspec).id == pathspec.rpartition("/")[2]


def test_asking_a_flow_for_a_run_outside_of_the_namespace_says_so(shared: Past):
    with pytest.raises(NamespaceMismatch, match="F/2"):
        Flow("F")["2"]
    with pytest.raises(NamespaceMismatch, match="Flow 'G'"):
        Daskflow()["G"]
    with pytest.raises(KeyError):
        Flow("F")["9"]


def test_any_tag_is_a_namespace(shared: Past):
    namespace("good")

    assert ids(Flow("F")) == ["3", "2"]
    assert Run("F/3").is_in_namespace()
    Run("F/3").remove_tag("good")
    assert ids(Flow("F")) == ["2"]


def test_an_object_stays_in_the_namespace_it_was_made_in(shared: Past):
    run = Run("F/1")
    namespace("user:bob")

    assert ids(run.steps()) == ["start"]
    assert run["start"].task["x"].parent.parent.parent == run
    assert ids(run.parent) == ["3", "1"]
    assert not run.is_in_namespace()
    with pytest.raises(NamespaceMismatch):
        Run("F/1")


def test_a_pickled_object_is_read_back_in_any_namespace(shared: Past):
    things = [Flow("F"), Run("F/1"), Step("F/1/start"), Task("F/1/start/0"), DataArtifact("F/1/start/0/x")]
    raw = pickle.dumps(things)
    namespace("user:bob")

    found = pickle.loads(raw)

    assert found == things
    assert ids(found[0]) == ["3", "1"]


def test_without_a_user_there_is_no_namespace_unless_one_is_chosen(
    shared: Past, monkeypatch: pytest.MonkeyPatch
):
    for name in ("DASKFLOW_USER", "SUDO_USER", "USERNAME", "USER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("daskflow.settings.user_of", lambda env: None)

    with pytest.raises(UnknownUser, match="Set DASKFLOW_USER"):
        Flow("F")
    namespace("user:bob")
    assert ids(Flow("F")) == ["2"]


def test_a_damaged_run_is_named_and_hides_no_other(shared: Past, tmp_path: Path):
    (tmp_path / "F/3/run.json").write_text('{"format": 1, "flo')

    with pytest.warns(DamagedRecordWarning, match=r"F/3/run\.json"):
        assert ids(Flow("F")) == ["1"]


def test_a_task_sees_its_own_run_and_else_the_namespace_of_the_run(shared: Past, in_a_task: None):
    assert get_namespace() == default_namespace() == "user:carl"
    assert Run("F/2")["start"].task == Task("F/2/start/0")
    assert Task("F/2/start/0").parent.parent.id == "2"
    for hidden in (lambda: Flow("F"), lambda: Run("F/1")):
        with pytest.raises(NamespaceMismatch, match="user:carl"):
            hidden()

    namespace("user:ada")
    assert ids(Flow("F")) == ["3", "1"]


# Many at once


def test_processes_that_tag_one_run_at_once_lose_no_tag(shared: Past):
    script = (
        "import sys\nfrom daskflow import Run\nrun = Run('F/1')\nsys.stdin.readline()\n"
        "for number in range(8):\n    run.add_tag(f'{sys.argv[1]}.{number}')\n    run.replace_tag(f'{sys.argv[1]}.0', sys.argv[1])\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, name],
            stdin=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            text=True,
        )
        for name in "abcd"
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.close()

    assert [process.wait(60) for process in processes] == [0] * 4
    expected = {f"{name}.{number}" for name in "abcd" for number in range(1, 8)} | set("abcd") | {"old"}
    assert Run("F/1").user_tags == expected
