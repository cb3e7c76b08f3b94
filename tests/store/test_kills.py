"""Killed at any call that changes the store: what was made is there whole or not at all, and the next one goes on."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import pytest
from children import killed_at, survives
from faulty import When, failing

from daskflow.pathspec import TaskName
from daskflow.store import storage as module
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.flows import new_run, run_numbers
from daskflow.store.retries import Retrying
from daskflow.store.runs import RunStore
from daskflow.store.sessions import last_session, open_session, status
from daskflow.store.storage import TEMPORARY, LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CALLS = ("mkdir", "open", "write", "fsync", "link", "rename", "replace", "unlink", "close")
TASK = TaskName("fit", "4")
VALUE = {"text": "x" * 100_000}


def dies_at(number: int) -> None:
    killed_at(number, CALLS, (module._File, "write"), (module, "_rename_exclusively"))


def without_links(_source: str, _target: str) -> None:
    raise PermissionError(1, "Operation not permitted")


def sound(folder: Path) -> Retrying:
    return Retrying(LocalStorage(str(folder)))


def unanswered(folder: Path) -> Retrying:
    return failing(folder, When("create", "task.json", "unanswered"))


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
@pytest.mark.parametrize("store", [sound, unanswered])
def test_a_commit_and_its_artifacts_are_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_of: Any, store: Callable, links: bool
):
    if not links:
        monkeypatch.setattr(os, "link", without_links)
    outcomes = []
    for number in itertools.count():
        folder = tmp_path / str(number)
        new_run(LocalStorage(str(folder)), "F", lambda number: {})

        def commit(folder: Path = folder, number: int = number) -> None:
            run = RunStore(store(folder), "F", "1")
            dies_at(number)
            ref = ArtifactWriter(run, TASK, "0.killed").save("x", VALUE)
            run.commit(record_of("fit/4", execution="0.killed", artifacts={"x": ref}))

        survived = survives(commit)

        run = RunStore(LocalStorage(str(folder)), "F", "1")
        there = run.task(TASK)
        if there is not None:
            assert there.execution == "0.killed"
            assert run.load("x", there.artifacts["x"]) == VALUE
        listed = {*run.steps(), *run.tasks("fit"), *run.executions(TASK), *run.storage.names("F/1/fit/4")}
        assert listed <= {"fit", "4", "0.killed", "task.json"}
        assert not any(TEMPORARY in name for name in listed)
        assert list(run.failed_attempts(TASK)) == []
        next_one = RunStore(sound(folder), "F", "1")
        ref = ArtifactWriter(next_one, TASK, "0.next").save("x", VALUE)
        counts = next_one.commit(record_of("fit/4", execution="0.next", artifacts={"x": ref}))
        assert counts.execution == ("0.next" if there is None else "0.killed")
        assert run.load("x", counts.artifacts["x"]) == VALUE
        assert RunStore(LocalStorage(str(folder)), "F", "1").task(TASK) == counts
        outcomes.append(there is not None)
        if survived:
            break
    assert outcomes == sorted(outcomes)
    assert outcomes.count(False) > 15, "the calls of a commit were not seen"
    assert outcomes.count(True) > 2, "nobody died between the commit and the end"


def test_a_driver_that_dies_while_it_starts_leaves_a_run_or_none_and_no_one_is_kept_from_going_on(
    tmp_path: Path,
):
    outcomes = set()
    for number in itertools.count():
        folder = tmp_path / str(number)

        def start(folder: Path = folder, number: int = number) -> None:
            storage = sound(folder)
            dies_at(number)
            open_session(new_run(storage, "F", lambda number: {"run": number}), {})

        survived = survives(start)

        storage = sound(folder)
        numbers = run_numbers(storage, "F")
        sessions = 0
        if numbers:
            run = RunStore(storage, "F", "1")
            assert run.record()["run"] == "1"
            assert status(run) == "lost"
            sessions = 0 if last_session(run) is None else 1
            assert open_session(run, {}).number == sessions
        assert new_run(storage, "F", lambda number: {}).run == str(len(numbers) + 1)
        outcomes.add((len(numbers), sessions))
        if survived:
            break
    assert outcomes == {(0, 0), (1, 0), (1, 1)}


def test_a_beat_that_is_cut_leaves_the_one_before(tmp_path: Path):
    outcomes = []
    for number in itertools.count():
        storage = LocalStorage(str(tmp_path / str(number)))
        storage.create("F/1/drivers/0.json", b"{}")
        storage.replace("F/1/drivers/0.beat.json", b"before")

        def beat(storage: LocalStorage = storage, number: int = number) -> None:
            dies_at(number)
            storage.replace("F/1/drivers/0.beat.json", b"after")

        survived = survives(beat)

        outcomes.append(storage.read("F/1/drivers/0.beat.json"))
        assert sorted(storage.names("F/1/drivers")) == ["0.beat.json", "0.json"]
        if survived:
            break
    assert {*outcomes} == {b"before", b"after"}


def test_what_a_cut_or_repeated_write_left_in_a_log_is_overwritten(tmp_path: Path):
    storage = LocalStorage(str(tmp_path))
    storage.append("log", b"first\n")
    storage.append("log", b"sec", size=6)

    for _ in range(2):
        storage.append("log", b"2nd\n", size=6)

    assert storage.read("log") == b"first\n2nd\n"
