"""Runs in a store: their numbers, their tasks, and which outcome of a task counts."""

from __future__ import annotations

import base64
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from children import at_once
from faulty import only_local

from daskflow.errors import DamagedRecordWarning, DataException, DataMissing, NotFound, StoreError
from daskflow.pathspec import TaskName
from daskflow.store import runs
from daskflow.store.flows import flows, new_run, run_numbers
from daskflow.store.layout import PARAMETERS
from daskflow.store.records import ArtifactRef, encode
from daskflow.store.runs import RunStore
from daskflow.store.storage import LocalStorage

# Numbers


def test_runs_are_numbered_from_one(storage: LocalStorage):
    made = [new_run(storage, "F", lambda number: {"run": number}) for _ in range(3)]

    assert [run.run for run in made] == ["1", "2", "3"]
    record = made[1].record()
    assert record.pop("token") != made[0].record()["token"]
    assert record == {"format": 1, "run": "2"}
    assert run_numbers(storage, "F") == [1, 2, 3]


def test_drivers_that_start_at_once_never_share_a_number_and_leave_no_gap(storage: LocalStorage):
    def driver(name: int) -> Any:
        return lambda: [new_run(storage, "F", lambda number: {"driver": name}).run for _ in range(8)]

    allocated = at_once([driver(name) for name in range(6)])

    numbers = sorted(int(number) for each in allocated for number in each)
    assert numbers == list(range(1, 49)) == run_numbers(storage, "F")
    for name, each in enumerate(allocated):
        assert all(RunStore(storage, "F", number).record()["driver"] == name for number in each)


def test_a_store_that_lets_a_file_be_replaced_is_refused_with_its_name(tmp_path: Path):
    class Replacing(LocalStorage):
        def create(self, path: str, data: bytes) -> bool:
            with self.writer(path) as file:
                file.write(data)
            return True

    storage = Replacing(str(tmp_path))

    with pytest.raises(StoreError, match=f"^{tmp_path} let a file be replaced"):
        new_run(storage, "F", lambda number: {"run": number})

    assert RunStore(storage, "F", "1").record()["run"] == "1", "what was there is as it was"


def test_a_folder_that_a_driver_left_before_its_record_is_no_run_and_its_number_is_used(
    storage: LocalStorage,
):
    new_run(storage, "F", lambda number: {})
    (Path(storage.url) / "F/2").mkdir()

    assert run_numbers(storage, "F") == [1]
    assert new_run(storage, "F", lambda number: {}).run == "2"


@pytest.mark.parametrize("name", ["code", "01", "0", "\u0663", "1a", "-1", "1.5"])
def test_a_folder_that_is_no_number_is_no_run(storage: LocalStorage, name: str):
    storage.create(f"F/{name}/run.json", b"{}")

    assert run_numbers(storage, "F") == []
    assert flows(storage) == []
    assert new_run(storage, "F", lambda number: {}).run == "1"


def test_runs_are_in_the_order_of_their_numbers(storage: LocalStorage):
    for number in ("10", "9", "2"):
        storage.create(f"F/{number}/run.json", b"{}")

    assert run_numbers(storage, "F") == [2, 9, 10]
    assert new_run(storage, "F", lambda number: {}).run == "11"


def test_flows_are_those_with_runs(storage: LocalStorage):
    for flow in ("B", "A"):
        new_run(storage, flow, lambda number: {})
    storage.create(".hidden/1/run.json", b"{}")
    storage.create("notes.txt", b"")

    assert flows(storage) == ["A", "B"]


def test_a_run_that_does_not_exist_is_not_found(storage: LocalStorage):
    with pytest.raises(NotFound, match="Run 'F/7' does not exist in"):
        RunStore(storage, "F", "7").record()


def test_a_damaged_run_record_names_its_file(storage: LocalStorage):
    storage.create("F/7/run.json", b'{"format": 1, "par')

    with pytest.raises(StoreError, match=r"F/7/run\.json is damaged"):
        RunStore(storage, "F", "7").record()


# Commits


def test_of_two_executions_one_wins_and_both_get_the_winners_record(
    storage: LocalStorage, run: RunStore, record_of: Any
):
    first = record_of("s/0", execution="0.first")
    second = record_of("s/0", execution="0.second")
    other_worker = RunStore(storage, "F", "1")

    assert run.commit(first) == first
    assert other_worker.commit(second) == first

    assert run.task(TaskName("s", "0")) == first
    assert other_worker.task(TaskName("s", "0")) == first


def test_executions_that_commit_at_the_same_moment_agree_on_who_won(
    storage: LocalStorage, run: RunStore, record_of: Any
):
    def worker(name: str) -> Any:
        store = RunStore(storage, "F", "1")
        mine = [record_of(f"s/{n}", execution=f"0.{name}", artifacts={}) for n in range(20)]
        return lambda: [store.commit(record).execution for record in mine]

    answers = at_once([worker(name) for name in "abcd"])

    for n, told in enumerate(zip(*answers, strict=True)):
        counts = run.task(TaskName("s", str(n)))
        assert counts is not None
        assert set(told) == {counts.execution}


def test_that_our_own_record_exists_already_means_that_we_won(
    run: RunStore, record_of: Any, monkeypatch: pytest.MonkeyPatch
):
    real = run.storage.create

    def answered_late(path: str, data: bytes) -> bool:
        real(path, data)
        return real(path, data)  # the first answer got lost, the request was sent again

    monkeypatch.setattr(run.storage, "create", answered_late)
    ours = record_of("s/0", execution="0.ours")

    assert run.commit(ours) == ours


@only_local
def test_a_commit_whose_last_call_failed_is_found_by_the_next_try(
    run: RunStore, record_of: Any, monkeypatch: pytest.MonkeyPatch
):
    ours = record_of("s/0", execution="0.ours")
    with monkeypatch.context() as patched:
        from daskflow.store import storage

        def fail(folder: str) -> None:
            if folder.endswith("/s/0"):
                raise OSError(5, "Input/output error")

        patched.setattr(storage, "sync_folder", fail)
        with pytest.raises(StoreError, match=r"s/0/task\.json: Input/output error"):
            run.commit(ours)

    assert run.commit(ours) == ours


def test_a_record_that_exists_and_is_gone_when_it_is_read_is_an_error(
    run: RunStore, record_of: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(run.storage, "create", lambda path, data: False)

    with pytest.raises(DataMissing, match=r"s/0/task\.json exists and can't be read"):
        run.commit(record_of("s/0"))


def test_a_task_without_a_commit_has_none_until_it_is_committed(
    storage: LocalStorage, run: RunStore, record_of: Any
):
    reader = RunStore(storage, "F", "1")
    assert reader.task(TaskName("s", "0")) is None

    record = run.commit(record_of("s/0"))

    assert reader.task(TaskName("s", "0")) == record


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "damaged"),
        (b'{"format": 1, "flow"', "damaged"),
        (b'{"format": 1}', "'flow' is missing"),
        (b"\xff\xfe", "damaged"),
        (b'{"format": 2}', "has format 2; this version of daskflow reads up to 1"),
    ],
)
def test_a_damaged_commit_names_its_file_and_the_trouble(run: RunStore, raw: bytes, words: str):
    run.storage.create("F/1/s/0/task.json", raw)

    with pytest.raises(StoreError, match=rf"F/1/s/0/task\.json .*{words}"):
        run.task(TaskName("s", "0"))


def test_a_commit_cut_at_any_byte_is_an_error_that_names_its_file(run: RunStore, record_of: Any):
    record = record_of(
        "s/0", artifacts={"x": ArtifactRef("h", "json", 1, "int", inline=1)}, process={"pid": 1}
    )
    raw = encode(record.to_json())
    place = Path(run.storage.locate("F/1/s/0/task.json"))
    place.parent.mkdir(parents=True)

    for length in range(len(raw) - 1):
        place.write_bytes(raw[:length])
        with pytest.raises(StoreError, match=str(place)):
            run.task(TaskName("s", "0"))


# Listings


def test_steps_are_the_folders_with_tasks(run: RunStore, record_of: Any):
    for name in ("_parameters/0", "start/0", "fit/3"):
        run.commit(record_of(name))
    run.storage.create("F/1/code/flow.py", b"")
    run.storage.create("F/1/drivers/0.json", b"{}")
    run.storage.create("F/1/.DS_Store", b"")

    assert sorted(run.steps()) == ["_parameters", "fit", "start"]


@pytest.mark.parametrize("step", ["code", "drivers"])
def test_a_step_may_have_the_name_of_a_folder_of_the_run(run: RunStore, record_of: Any, step: str):
    run.storage.create("F/1/code/flow.py", b"")
    run.storage.create("F/1/drivers/0.json", b"{}")
    run.storage.create("F/1/drivers/0.end.json", b"{}")

    run.commit(record_of(f"{step}/0"))

    assert run.steps() == [step]
    assert run.tasks(step) == ["0"]


def test_tasks_are_in_the_order_of_their_indices(run: RunStore, record_of: Any):
    ids = ["0", "0.3", "0.10", "1", "2-9", "2-10", "4-2", "9", "10", "10-0"]
    for task in reversed(ids):
        run.commit(record_of(f"s/{task}"))

    assert run.tasks("s") == ids


def test_a_task_is_listed_as_soon_as_it_has_written_something(run: RunStore):
    run.storage.append("F/1/s/5/0.a/stdout.log", b"2024 hello\n")

    assert run.tasks("s") == ["5"]
    assert run.task(TaskName("s", "5")) is None


@pytest.mark.parametrize(
    "name", ["0.old", "1-", "-1", "notes", "1.2.3", "\u0663", "chunk.0+50.json", "0 copy"]
)
def test_what_is_no_task_id_is_no_task(run: RunStore, name: str):
    run.storage.create(f"F/1/s/{name}/task.json", b"{}")

    assert run.tasks("s") == []


def test_executions_are_in_the_order_of_attempts(run: RunStore):
    for name in ("10.a", "2.b", "0.c", "2.a"):
        run.storage.append(f"F/1/s/0/{name}/stdout.log", b"")
    run.storage.create("F/1/s/0/task.json", b"{}")
    run.storage.create("F/1/s/0/0.note.json", b"{}")

    assert run.executions(TaskName("s", "0")) == ["0.c", "2.a", "2.b", "10.a"]


def test_failed_attempts_come_oldest_first_and_a_damaged_one_is_named_and_left_out(
    run: RunStore, record_of: Any
):
    records = [record_of("s/0", attempt=n, execution=f"{n}.a", status="failed") for n in range(3)]
    for record in records:
        run.save_attempt(record)
    Path(run.storage.locate("F/1/s/0/1.a/attempt.json")).write_bytes(b'{"format": 1, "fl')

    with pytest.warns(DamagedRecordWarning, match=r"F/1/s/0/1\.a/attempt\.json is damaged"):
        found = list(run.failed_attempts(TaskName("s", "0")))

    assert found == [records[0], records[2]]


def test_an_execution_that_left_only_logs_is_no_failed_attempt(run: RunStore):
    run.storage.append("F/1/s/0/0.a/stdout.log", b"")

    assert list(run.failed_attempts(TaskName("s", "0"))) == []


def test_what_a_failed_attempt_left_is_not_changed_by_a_later_write(run: RunStore, record_of: Any):
    record = record_of("s/0", status="failed", process={"pid": 1})
    run.save_attempt(record)

    run.save_attempt(replace(record, process={"pid": 2}))

    assert list(run.failed_attempts(TaskName("s", "0"))) == [record]


# Artifacts


def test_an_artifact_is_found_in_the_record_of_the_task_that_set_it(run: RunStore, record_of: Any):
    ref = ArtifactRef("h", "json", 300, "str", inline="x" * 298)
    run.commit(record_of("start/0", artifacts={"x": ref}))
    inherited = ref.inherited(TaskName("start", "0"))
    assert inherited.record == "start/0"

    assert run.resolve("x", inherited) == ref
    assert run.load("x", inherited) == "x" * 298
    assert run.resolve("x", ref) is ref


@pytest.mark.parametrize(
    "artifacts",
    [None, {}, {"x": ArtifactRef("h", "json", 300, "str", record="start/0")}],
    ids=["no such task", "no such artifact", "it refers on"],
)
def test_a_reference_that_leads_nowhere_names_the_artifact_and_the_task(
    run: RunStore, record_of: Any, artifacts: Any
):
    if artifacts is not None:
        run.commit(record_of("start/0", artifacts=artifacts))

    with pytest.raises(DataMissing, match="Artifact 'x' should be in task F/1/start/0"):
        run.load("x", ArtifactRef("h", "json", 300, "str", record="start/0"))


def test_an_artifact_whose_file_is_gone_names_the_file(run: RunStore):
    ref = ArtifactRef("h", "pickle", 3, "object", path="F/1/start/0/0.a/x.pickle", info={"parts": {}})

    with pytest.raises(
        DataMissing, match=r"Artifact 'x' of F/1 .* from /.*/F/1/start/0/0\.a/x\.pickle: There is no such"
    ):
        run.load("x", ref)


@pytest.mark.parametrize(
    ("encoding", "inline"),
    [("pickle", None), ("pickle", 5), ("pickle", "x"), ("pickle", "AAAA"), ("parquet", None), ("other", 1)],
)
def test_an_artifact_whose_reference_was_edited_by_hand_is_a_plain_error(
    run: RunStore, encoding: str, inline: Any
):
    with pytest.raises((DataMissing, DataException)):
        run.load("x", ArtifactRef("h", encoding, 1, "int", inline=inline, info={"parts": {}}))


@pytest.mark.parametrize("content", [b"", b"\x80\x05", b"no pickle at all"])
def test_an_artifact_whose_file_is_damaged_names_the_artifact_and_the_file(run: RunStore, content: bytes):
    path = run.layout.artifact(TaskName("start", "0"), "0.a", "x", "pickle")
    with run.storage.writer(path) as file:
        file.write(content)
    ref = ArtifactRef("h", "pickle", 9, "object", path=path, info={"parts": {}})

    with pytest.raises(
        DataMissing, match=rf"Artifact 'x' of F/1 \(object\) can't be loaded from /.*{path}: "
    ):
        run.load("x", ref)


def test_a_value_whose_class_refuses_to_be_loaded_is_an_error_that_names_the_artifact(run: RunStore):
    inline = base64.b64encode(pickle.dumps(Refusing())).decode()

    with pytest.raises(
        DataException, match=r"Artifact 'x' of F/1 \(Refusing\) can't be loaded: OSError\('no licence'\)"
    ):
        run.load("x", ArtifactRef("h", "pickle", 9, "Refusing", inline=inline, info={"parts": {}}))


class Refusing:
    def __reduce__(self) -> Any:
        return refuse, ()


def refuse() -> Any:
    raise OSError("no licence")


def test_of_many_records_only_so_many_are_kept_at_hand(
    run: RunStore, record_of: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runs, "MAX_REMEMBERED", 10)
    committed = [run.commit(record_of(f"s/{number}")) for number in range(25)]

    assert [run.task(TaskName("s", str(number))) for number in range(25)] == committed
    assert 0 < len(run._committed) <= 10


def test_every_task_has_the_parameters_of_its_run_and_may_hide_them(run: RunStore, record_of: Any):
    one, two, three = (ArtifactRef(name, "json", 1, "int", inline=1) for name in "abc")
    parameters = run.commit(record_of(str(PARAMETERS), artifacts={"alpha": one, "beta": two}))
    record = record_of("start/0", artifacts={"beta": three})

    assert run.artifacts(record) == {"alpha": one, "beta": three}
    assert run.artifacts(parameters) == {"alpha": one, "beta": two}


def test_a_run_without_its_parameters_names_the_file(run: RunStore):
    with pytest.raises(DataMissing, match=r"F/1/_parameters/0/task\.json is missing"):
        run.parameters()
