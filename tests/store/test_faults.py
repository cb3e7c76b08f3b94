"""The whole life of a run in a store that fails for a moment, at any operation and at many: all ends as if it had not."""

from __future__ import annotations

import errno
import itertools
import os
from typing import TYPE_CHECKING, Any

import pandas
import polars
import pytest
from children import at_once, everything_below
from faulty import Once, When, failing

from daskflow.errors import RunHeld, SettingsError, StoreError
from daskflow.pathspec import TaskName
from daskflow.store import sessions
from daskflow.store import storage as module
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.faults import FAULTS, VARIABLE, Faulty, at_random
from daskflow.store.flows import new_run, run_numbers
from daskflow.store.items import Items
from daskflow.store.logs import INLINE_BYTES, LogWriter
from daskflow.store.records import TaskRecord, timestamp
from daskflow.store.retries import Retrying, may_pass
from daskflow.store.runs import RunStore
from daskflow.store.sessions import Session, how_it_ended, last_session, open_session, status
from daskflow.store.storage import TEMPORARY, LocalStorage, storage_at
from daskflow.store.tags import change_tags, read_tags

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from daskflow.store.faults import Fault
    from daskflow.store.storage import Storage

TASK = TaskName("fit", "4")
VALUES = {
    "small": 5,
    "large": {"text": "x" * 100_000},
    "buffer": bytes(3 << 20),
    "table": pandas.DataFrame({"a": range(1000), "b": [str(n) for n in range(1000)]}),
}
ITEMS = [f"item {number} {'x' * 50}" for number in range(500)]
LINES = [f"line {number} {'x' * 100}" for number in range(100)]


def record(name: TaskName, execution: str, **fields: Any) -> TaskRecord:
    now = timestamp()
    basic: dict[str, Any] = {"attempt": 0, "execution": execution, "status": "ok"}
    return TaskRecord(
        "F", "1", name.step, name.task_id, **(basic | {"started": now, "finished": now} | fields)
    )


def live(storage: Storage) -> None:
    """All that a run does to a store."""
    run = new_run(storage, "F", lambda number: {"run": number, "tags": ["a"]})
    session = open_session(run, {"snapshot": 0})
    storage.create(run.layout.code("flow.py"), b"code")
    run.save_attempt(record(TASK, "0.a", status="failed"))
    writer = ArtifactWriter(run, TASK, "1.a")
    artifacts = {name: writer.save(name, value) for name, value in VALUES.items()}
    log = LogWriter(storage, run.layout.log(TASK, "1.a", "stdout"), 1 << 20)
    for line in LINES:
        log.add("2024-01-02T03:04:05.000006Z", [line])
    mine = record(
        TASK,
        "1.a",
        attempt=1,
        artifacts=artifacts,
        foreach=writer.save_items(ITEMS),
        logs={"stdout": log.close()},
    )
    assert run.commit(mine) == mine
    assert run.commit(record(TASK, "1.b", attempt=1)) == mine
    assert change_tags(run, add=["b"], remove=["a"]).user == {"b"}
    storage.replace(run.layout.driver_beat(session.number), b'{"beats": 1}')
    session.end({"status": "successful", "reason": ""})


def check(storage: Storage) -> None:
    """That it is all there, and nothing else."""
    assert run_numbers(storage, "F") == [1]
    run = RunStore(storage, "F", "1")
    assert last_session(run) == 0
    assert status(run) == "successful"
    assert read_tags(run, run.record()).user == {"b"}
    assert storage.names(run.layout.tags()) == ["0.json"]
    assert run.steps() == ["fit"]
    assert run.tasks("fit") == ["4"]
    assert run.executions(TASK) == ["0.a", "1.a"]
    assert [failed.execution for failed in run.failed_attempts(TASK)] == ["0.a"]
    committed = run.task(TASK)
    assert committed is not None
    for name, value in VALUES.items():
        found = run.load(name, committed.artifacts[name])
        assert found.equals(value) if name == "table" else found == value
    assert committed.foreach is not None
    assert [Items(storage).load(committed.foreach, n) for n in (0, 7, 499)] == [ITEMS[n] for n in (0, 7, 499)]
    stored = storage.read(str(committed.logs["stdout"].path)).decode()
    assert [line.partition(" ")[2] for line in stored.splitlines()] == LINES
    assert sum(map(len, LINES)) > INLINE_BYTES


def left_over(folder: Path) -> list[str]:
    return [path for path in everything_below(folder) if TEMPORARY in path]


@pytest.mark.parametrize("fault", FAULTS)
def test_whichever_operation_fails_once_a_run_ends_as_if_none_had(tmp_path: Path, fault: Fault):
    for number in itertools.count():
        plan = Once(number, fault)
        folder = tmp_path / str(number)
        live(failing(folder, plan))
        written = len(plan.seen)
        check(failing(folder, plan) if written <= number else LocalStorage(str(folder)))
        assert left_over(folder) == []
        if not plan.struck:
            break
    assert number > 50, "the operations were not seen"


@pytest.mark.parametrize("seed", range(8))
def test_if_many_operations_fail_a_run_ends_as_if_none_had(tmp_path: Path, seed: int):
    live(Retrying(Faulty(LocalStorage(str(tmp_path)), at_random(0.4, f"write {seed}"))))
    check(Retrying(Faulty(LocalStorage(str(tmp_path)), at_random(0.4, f"read {seed}"))))
    check(LocalStorage(str(tmp_path)))
    assert left_over(tmp_path) == []


# Whose is it, if there was no answer


@pytest.mark.parametrize("fault", ["unanswered", "twice"])
def test_a_run_number_whose_allocation_had_no_answer_is_ours(tmp_path: Path, fault: Fault):
    storage = failing(tmp_path, plan := When("create", "1/run.json", fault))

    assert new_run(storage, "F", lambda number: {}).run == "1"

    assert plan.struck


@pytest.mark.parametrize("fault", ["unanswered", "twice"])
def test_a_session_whose_opening_had_no_answer_is_ours(tmp_path: Path, fault: Fault):
    run = new_run(failing(tmp_path, plan := When("create", "drivers/0.json", fault)), "F", lambda number: {})

    assert open_session(run, {}).number == 0

    assert plan.struck
    assert last_session(run) == 0


def test_a_session_that_another_opened_at_the_same_moment_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sessions, "timestamp", lambda: "2024-01-02T03:04:05.000006Z")

    class Contested(LocalStorage):
        def create(self, path: str, data: bytes) -> bool:
            if "/drivers/" in path and not self.exists(path):
                open_session(RunStore(LocalStorage(self.url), "F", "1"), {})
            return super().create(path, data)

    new_run(LocalStorage(str(tmp_path)), "F", lambda number: {})
    storage = Retrying(Faulty(Contested(str(tmp_path)), When("create", "drivers/0.json", "unanswered")))

    with pytest.raises(RunHeld, match="drives it since"):
        open_session(RunStore(storage, "F", "1"), {})


def test_a_number_that_another_took_at_the_same_moment_is_not_taken_for_ours(tmp_path: Path):
    class Contested(LocalStorage):
        def create(self, path: str, data: bytes) -> bool:
            if path == "F/1/run.json" and not self.exists(path):
                new_run(LocalStorage(self.url), "F", lambda number: {"says": "the same"})
            return super().create(path, data)

    storage = Retrying(Faulty(Contested(str(tmp_path)), When("create", "1/run.json", "unanswered")))

    assert new_run(storage, "F", lambda number: {"says": "the same"}).run == "2"


def test_of_drivers_that_open_a_session_at_once_in_a_failing_store_one_gets_it(tmp_path: Path):
    new_run(LocalStorage(str(tmp_path)), "F", lambda number: {})

    def driver(seed: int) -> Callable[[], bool]:
        def work() -> bool:
            storage = Retrying(Faulty(LocalStorage(str(tmp_path)), at_random(0.4, str(seed))))
            try:
                open_session(RunStore(storage, "F", "1"), {})
            except RunHeld:
                return False
            return True  # and is dead at once, so that a slow one may open the next session

        return work

    won = at_once([driver(seed) for seed in range(6)])

    opened = LocalStorage(str(tmp_path)).names("F/1/drivers")
    assert sum(won) == len(opened) > 0, (
        "each session has one driver, and no driver thinks it has one that it has not"
    )


def test_that_a_session_ended_is_known_if_its_last_word_had_no_answer(tmp_path: Path):
    run = new_run(
        failing(tmp_path, plan := When("create", "0.end.json", "unanswered")), "F", lambda number: {}
    )

    session: Session = open_session(run, {})
    session.end({"status": "failed", "reason": "a task"})

    assert plan.struck
    assert (how_it_ended(run, 0) or {})["reason"] == "a task"


# Inside a file, and inside an operation


def failing_files(monkeypatch: pytest.MonkeyPatch, method: str, number: int) -> list[int]:
    """Let the n-th call of a method of open files fail; returns how many there were, at 0."""
    calls = [0]
    real = getattr(module._File, method)

    def call(self: Any, *args: Any) -> Any:
        calls[0] += 1
        if calls[0] - 1 == number:
            with module._explained(method, str(self.name)):
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return real(self, *args)

    monkeypatch.setattr(module._File, method, call)
    return calls


@pytest.mark.parametrize("name", ["large", "buffer", "table"])
def test_a_write_that_fails_inside_an_artifact_starts_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    for number in itertools.count():
        run = RunStore(Retrying(LocalStorage(str(tmp_path / str(number)))), "F", "1")
        with monkeypatch.context() as patched:
            calls = failing_files(patched, "write", number)
            ref = ArtifactWriter(run, TASK, "0.a").save(name, VALUES[name])
        found = run.load(name, ref)
        assert found.equals(VALUES[name]) if name == "table" else found == VALUES[name]
        assert run.storage.names("F/1/fit/4/0.a") == [os.path.basename(str(ref.path))]
        if calls[0] <= number:
            break
    assert number > 0


@pytest.mark.parametrize("method", ["readinto", "readall"])
@pytest.mark.parametrize("name", ["large", "buffer", "table", "polars"])
def test_a_read_that_fails_inside_an_artifact_starts_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, method: str
):
    value = polars.DataFrame({"a": range(1000)}) if name == "polars" else VALUES[name]
    run = RunStore(Retrying(LocalStorage(str(tmp_path))), "F", "1")
    ref = ArtifactWriter(run, TASK, "0.a").save(name, value)
    for number in itertools.count():
        with monkeypatch.context() as patched:
            calls = failing_files(patched, method, number)
            found = run.load(name, ref)
        assert found == value if name in ("large", "buffer") else found.equals(value)
        if calls[0] <= number:
            break


def test_an_item_whose_read_fails_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = RunStore(Retrying(LocalStorage(str(tmp_path))), "F", "1")
    stored = ArtifactWriter(run, TASK, "0.a").save_items(ITEMS)
    calls = failing_files(monkeypatch, "readinto", 0)

    assert Items(run.storage).load(stored, 7) == ITEMS[7]
    assert calls[0] > 1


@pytest.mark.parametrize("size", [-1, 10], ids=["all", "some"])
def test_a_read_that_the_system_refuses_is_the_stores_error_and_may_pass(size: int):
    with (
        LocalStorage("/proc/self").open("mem") as file,  # there is nothing to be read at its beginning
        pytest.raises(StoreError, match=r"Can't read /proc/self/mem: Input/output error\.") as caught,
    ):
        file.read(size)

    assert may_pass(caught.value)


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_whichever_call_of_a_commit_fails_before_or_after_its_effect_it_is_ours_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: bool, code: int
):
    for number in itertools.count():
        run = RunStore(Retrying(LocalStorage(str(tmp_path / str(number)))), "F", "1")
        calls = [0]

        def wrapped(real: Callable[..., Any], calls: list[int] = calls, number: int = number) -> Any:
            def call(*args: Any, **kwargs: Any) -> Any:
                calls[0] += 1
                struck = calls[0] - 1 == number
                if struck and not done:
                    raise OSError(code, os.strerror(code))
                found = real(*args, **kwargs)
                if struck:
                    raise OSError(code, os.strerror(code))
                return found

            return call

        mine = record(TASK, "0.a")
        with monkeypatch.context() as patched:
            for name in ("mkdir", "write", "fsync", "link", "unlink", "close"):
                patched.setattr(os, name, wrapped(getattr(os, name)))
            assert run.commit(mine) == mine
        reader = RunStore(LocalStorage(run.storage.url), "F", "1")
        assert reader.task(TASK) == mine
        assert reader.storage.names("F/1/fit/4") == ["task.json"]
        if calls[0] <= number:
            break
    assert number > 15


# What the environment asks for


def test_the_environment_can_ask_for_a_store_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(VARIABLE, "0.4:seed")

    live(storage_at(str(tmp_path)))

    monkeypatch.delenv(VARIABLE)
    check(storage_at(str(tmp_path)))
    assert "(injected). It is tried again in" in capfd.readouterr().err


def test_the_same_seed_fails_the_same_operations():
    def drawn(seed: str) -> list[Fault | None]:
        plan = at_random(0.3, seed)
        return [plan(verb, path) for verb in ("read", "create") for path in "abc" for _ in range(10)]

    assert drawn("7") == drawn("7")
    assert drawn("7") != drawn("8")
    assert 5 < sum(fault is not None for fault in drawn("7")) < 40


@pytest.mark.parametrize("asked", ["5%:1", "1:1", "-0.1:1", "often", ":1"])
def test_a_rate_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str):
    monkeypatch.setenv(VARIABLE, asked)

    with pytest.raises(SettingsError, match=f"{VARIABLE} is '{asked}'; it must be RATE:SEED"):
        storage_at(str(tmp_path))


def test_a_store_that_fails_for_good_is_an_error_in_its_words_and_commits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("daskflow.store.retries.PATIENCE_SECONDS", 0.05)
    run = RunStore(Retrying(Faulty(LocalStorage(str(tmp_path)), lambda verb, path: "refused")), "F", "1")

    with pytest.raises(StoreError, match=r"Can't create .*/fit/4/task\.json: Input/output error"):
        run.commit(record(TASK, "0.a"))

    assert everything_below(tmp_path) == []
