"""Chunks: the outcomes of items that shared a process, in one record that says of each what its own would say."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from children import at_once
from faulty import only_local
from hypothesis import given
from hypothesis import strategies as st

from daskflow.errors import StoreError
from daskflow.pathspec import TaskName, TaskRange
from daskflow.store.chunks import OTHER, Chunk, differences, encoded
from daskflow.store.records import ArtifactRef, Frame, Log, TaskRecord, decode, moment
from daskflow.store.runs import RunStore

if TYPE_CHECKING:
    from daskflow.store.storage import Storage

BEGAN = moment("2026-01-01T00:00:00.000000Z")
PROCESS = {"pid": 7, "host": "h", "exit_code": 0, "shared_by": 3}

# What a chunk is made of


def time_of(microseconds: int) -> str:
    then = BEGAN + timedelta(microseconds=microseconds)
    return then.isoformat(timespec="microseconds").replace("+00:00", "Z")


def surroundings_of(tasks: TaskRange, place: int, step_before: str) -> dict[str, Any]:
    """Parents and splits of an item: of a body's first step, or of a later one."""
    indices = (*tasks.outer, tasks.first + place)
    stack = [
        Frame(
            "foreach", TaskRange("split", indices[:depth][:-1], indices[depth - 1]).name(), index, 99, "items"
        )
        if depth
        else Frame("foreach", TaskName("start", "0"), index, 99, "items")
        for depth, index in enumerate(indices)
    ]
    parent = str(stack[-1].split) if not step_before else f"{step_before}/{tasks.name(place).task_id}"
    return {"parents": [parent], "stack": [frame.to_json() for frame in stack]}


def plain_record(tasks: TaskRange, place: int) -> TaskRecord:
    """What an item has alone that did nothing."""
    return TaskRecord(
        "F", "1", tasks.step, tasks.name(place).task_id, 0, "0.a", "ok", time_of(place), time_of(place + 1),
        process=PROCESS, **surroundings_of(tasks, place, ""),
    )  # fmt: skip


def chunk_of(tasks: TaskRange, records: list[TaskRecord], **known: Any) -> Chunk:
    """As the process of some items tells of them."""
    told = [record.to_json() for record in records]
    first = {key: value for key, value in told[0].items() if key not in ("process", "logs")} if told else {}
    each = []
    for record, data in zip(records, told, strict=True):
        began = moment(record.started)
        at = (began - moment(records[0].started)) / timedelta(seconds=1)
        took = (moment(record.finished) - began) / timedelta(seconds=1)
        each.append({"at": round(at, 6), "took": round(took, 6)} | differences(first, without_apart(data)))
    logs = {place: record.logs for place, record in enumerate(records) if record.logs}
    process = {"process": records[0].process} if records else {}
    return Chunk(tasks, first | process, each, logs, **known)


def without_apart(data: dict[str, Any]) -> dict[str, Any]:
    """What a task's process tells; its facts and its logs are known to the worker."""
    return {key: value for key, value in data.items() if key not in ("process", "logs")}


def reread(chunk: Chunk) -> Chunk:
    return Chunk.of_json(decode(chunk.encoded(), "there"), "there")


def committed(run: RunStore, chunk: Chunk) -> Chunk:
    lines = [json.dumps(each).encode() for each in chunk.each]
    return run.chunks.commit(chunk, encoded(chunk, lines))


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([0.5, "", "a", [None], {}, {"k": None}])
)
INFO = st.sampled_from([{}, {}, {"why": "so"}, {"why": "other", "rows": 3}, {"rows": None}])
TEXTS = st.sampled_from(["", "a", "\ud800", "é\n"])


@st.composite
def references(draw: st.DrawFn) -> ArtifactRef:
    place = draw(
        st.one_of(
            VALUES.map(lambda value: {"encoding": "json", "inline": value}),
            st.sampled_from(["F/1/x", "F/1/y"]).map(lambda path: {"encoding": "parquet", "path": path}),
            st.sampled_from(["start/0", "split/1"]).map(lambda task: {"encoding": "json", "record": task}),
            st.just({"encoding": "pickle", "inline": "gAU="}),
        )
    )
    content = json.dumps(
        place.get("inline")
    )  # what differs has another hash, also where Python sees no difference
    return ArtifactRef(
        hash=draw(st.sampled_from("ab")) + content, size=draw(st.integers(1, 2)), type=draw(st.sampled_from(["int", "T"])),
        info=draw(INFO), **place,
    )  # fmt: skip


FORKS = st.sampled_from(
    [
        {"kind": "linear", "targets": ["join"], "foreach": None, "condition": None},
        {"kind": "switch", "targets": ["a"], "foreach": None, "condition": "where"},
        {"kind": "switch", "targets": ["b"], "foreach": None, "condition": "where"},
    ]
)
FOREACHES = st.sampled_from([{"size": 2, "items": [1, None]}, {"size": 1, "path": "F/1/items"}])
ERRORS = st.fixed_dictionaries({"type": st.just("E"), "exception": TEXTS, "stacktrace": TEXTS})
LOGS = st.dictionaries(
    st.sampled_from(["stdout", "stderr"]),
    st.sampled_from([Log(3, "2026-01-01T00:00:00.000000Z é\n"), Log(9, path="F/1/log")]),
)


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[TaskRange, list[TaskRecord]]:
    """Items of a foreach, and the records that they would have alone."""
    tasks = TaskRange(
        "fit",
        draw(st.lists(st.integers(0, 2), max_size=2).map(tuple)),
        draw(st.integers(0, 12)),
        draw(st.integers(1, 5)),
        iteration := draw(st.integers(0, 1)),
    )
    step_before = draw(st.sampled_from(["", "before"]))
    now = 0
    records = []
    foreaches = draw(st.sampled_from([st.none(), FOREACHES, st.one_of(st.none(), FOREACHES)]))
    errors = draw(st.sampled_from([st.none(), ERRORS, st.one_of(st.none(), ERRORS)]))
    for place in range(tasks.count):
        took = draw(st.integers(0, 3_000_000))
        records.append(
            TaskRecord(
                **{
                    "flow": "F",
                    "run": "1",
                    "step": "fit",
                    "task": tasks.name(place).task_id,
                    "attempt": 0,
                    "execution": "0.a",
                    "status": "ok",
                    "started": time_of(now),
                    "finished": time_of(now + took),
                    "iteration": iteration or None,
                    "transition": draw(FORKS),
                    "foreach": draw(foreaches),
                    "error": draw(errors),
                    "artifacts": draw(st.dictionaries(st.sampled_from("xyz"), references())),
                    "process": PROCESS,
                    "logs": draw(LOGS),
                },
                **surroundings_of(tasks, place, step_before),
            )
        )
        now += took + draw(st.integers(0, 1_000_000))
    return tasks, records


# What it says


@given(neighbours())
def test_each_item_has_the_record_that_it_would_have_alone(told: tuple[TaskRange, list[TaskRecord]]):
    tasks, records = told

    found = reread(chunk_of(tasks, records))

    assert found.tasks == found.done == tasks
    assert [found.record(place) for place in range(tasks.count)] == records


@given(neighbours(), st.data())
def test_a_part_says_of_its_items_what_the_whole_does(
    told: tuple[TaskRange, list[TaskRecord]], data: st.DataObject
):
    tasks, records = told
    start = data.draw(st.integers(0, tasks.count - 1))
    stop = data.draw(st.integers(start + 1, tasks.count))
    chunk = reread(chunk_of(tasks, records))

    part = chunk.part(tasks.part(start, stop))

    assert part.done == tasks.part(start, stop)
    assert [part.record(place) for place in range(stop - start)] == records[start:stop]
    assert [part.started(place) for place in range(stop - start)] == [
        pytest.approx(moment(record.started).timestamp(), abs=1e-6) for record in records[start:stop]
    ]
    assert [[frame.to_json() for frame in part.stack(place)] for place in range(stop - start)] == [
        record.stack for record in records[start:stop]
    ]


@given(neighbours())
def test_what_is_asked_of_one_item_is_what_its_record_says(told: tuple[TaskRange, list[TaskRecord]]):
    tasks, records = told
    chunk = reread(chunk_of(tasks, records))

    for place, record in enumerate(records):
        assert set(chunk.names(place)) == set(record.artifacts)
        assert chunk.fact(place, "transition") == record.transition
        assert chunk.fact(place, "foreach") == record.foreach
        for name in "xyz":
            ref = record.artifacts.get(name)
            assert chunk.ref(place, name) == (None if ref is None else ref.to_json())
            scalar = chunk.scalar(place, name)
            inline = ref is not None and ref.encoding == "json" and ref.record is None
            if inline and isinstance(ref.inline, (int, float, str, bool, type(None))):
                assert (type(scalar), scalar) == (type(ref.inline), ref.inline)
            else:
                assert scalar is OTHER


@given(neighbours())
def test_of_what_the_first_item_says_too_nothing_is_kept_again(told: tuple[TaskRange, list[TaskRecord]]):
    _, records = told
    first = without_apart(records[0].to_json())

    for record in records:
        data = without_apart(record.to_json())
        found = differences(first, data)
        assert {key for key in found if key != "artifacts"} == {
            key for key in ("transition", "foreach", "error") if first.get(key) != data.get(key)
        }
        same = {
            name
            for name, ref in first.get("artifacts", {}).items()
            if data.get("artifacts", {}).get(name) == ref
        }
        assert same.isdisjoint(found.get("artifacts", {}))
    assert differences(first, first) == {}


def test_what_every_item_has_is_stored_once():
    tasks = TaskRange("fit", (), 0, 100)
    big = ArtifactRef("a" * 32, "json", 200, "str", "x" * 200)
    counts = [ArtifactRef(f"{n:032d}", "json", len(str(n)), "int", n) for n in range(100)]
    records = [
        replace(plain_record(tasks, place), artifacts={"big": big, "count": counts[place]})
        for place in range(100)
    ]

    raw = chunk_of(tasks, records).encoded()

    assert raw.count(b"x" * 200) == 1
    assert len(raw) < 100 * 150
    assert len(raw.splitlines()) > 100, "a line an item, for a person to read"


# Who commits


@pytest.fixture
def simple() -> Any:
    """A function: a range, how many of it are done, by which execution, to a chunk; what is left is its rest."""

    def make(text: str, done: int | None = None, execution: str = "0.a", **known: Any) -> Chunk:
        tasks = TaskRange.of(text)
        done = tasks.count if done is None else done
        x = [ArtifactRef("a", "json", 1, "int", tasks.first + place) for place in range(done)]
        records = [
            replace(plain_record(tasks, place), execution=execution, artifacts={"x": x[place]})
            for place in range(done)
        ]
        rest = [tasks.part(done, tasks.count)] if done < tasks.count else []
        return chunk_of(tasks, records, **({"rest": rest} | known))

    return make


def values(run: RunStore, step: str) -> dict[str, Any]:
    """By task id: what the only artifact of each task of a step is."""
    found = {}
    for task in run.tasks(step):
        record = run.task(TaskName(step, task))
        assert record is not None, task
        assert record.name == TaskName(step, task)
        found[task] = record.artifacts["x"].inline
    return found


def test_of_two_that_commit_a_chunk_one_wins_and_both_get_the_winners(
    storage: Storage, run: RunStore, simple: Any
):
    first, second = simple("fit/0..9", 4, "0.first"), simple("fit/0..9", 9, "0.second")
    other_worker = RunStore(storage, "F", "1")

    assert committed(run, first).execution == "0.first"
    found = committed(other_worker, second)

    assert found.execution == "0.first"
    assert found.done == TaskRange.of("fit/0..3")
    assert found.rest == [TaskRange.of("fit/4..9")]
    assert run.chunks.read(first.tasks) == other_worker.chunks.read(first.tasks) == reread(first)


@only_local
def test_those_that_commit_chunks_at_the_same_moment_agree_on_who_won(
    storage: Storage, run: RunStore, simple: Any
):
    def worker(name: str, done: int) -> Any:
        store = RunStore(storage, "F", "1")
        mine = [simple(f"fit/{n}0..{n}9", done, f"0.{name}") for n in range(1, 10)]
        return lambda: [(found := committed(store, chunk)).execution + f" {found.done}" for chunk in mine]

    answers = at_once([worker(name, done) for name, done in zip("abcd", (2, 4, 6, 10), strict=True)])

    for n, told in enumerate(zip(*answers, strict=True), start=1):
        counts = run.chunks.read(TaskRange.of(f"fit/{n}0..{n}9"))
        assert counts is not None
        assert set(told) == {f"{counts.execution} {counts.done}"}


def test_one_that_commits_a_whole_chunk_late_can_commit_nothing_of_its_rest(
    storage: Storage, run: RunStore, simple: Any
):
    committed(run, simple("fit/0..9", 3, "0.a"))
    committed(run, simple("fit/3..9", execution="0.b"))

    late = committed(RunStore(storage, "F", "1"), simple("fit/0..9", 10, "0.late"))

    assert late.done == TaskRange.of("fit/0..2")
    assert values(run, "fit") == {str(n): n for n in range(10)}
    executions = {run.task(TaskName("fit", str(n))).execution for n in range(10)}
    assert executions == {"0.a", "0.b"}


def test_the_items_of_a_chunk_that_was_set_free_as_a_whole_are_in_none(run: RunStore, simple: Any):
    tasks = TaskRange.of("fit/0..4")
    free = Chunk(tasks, rest=[tasks.part(place, place + 1) for place in range(5)])

    assert committed(run, free).done is None
    assert run.task(TaskName("fit", "2")) is None
    assert run.tasks("fit") == []
    late = committed(run, simple("fit/0..4"))
    assert late.done is None
    assert [str(piece) for piece in late.rest] == [f"fit/{n}" for n in range(5)]


# Whose record a task has


def test_a_task_is_found_in_the_chunk_that_has_it_however_the_rest_went_on(
    run: RunStore, simple: Any, record_of: Any
):
    tasks = TaskRange.of("fit/0..9")
    committed(run, simple("fit/0..9", 3, rest=[tasks.part(3, 4), tasks.part(4, 10)]))  # 3 was to blame
    run.commit(record_of("fit/3", artifacts={"x": ArtifactRef("a", "json", 1, "int", 3)}))
    committed(run, simple("fit/4..9", 2, rest=[TaskRange.of("fit/6..7"), TaskRange.of("fit/8..9")]))
    committed(run, simple("fit/6..7"))
    committed(run, simple("fit/8..9", 1))
    run.commit(record_of("fit/9", artifacts={"x": ArtifactRef("a", "json", 1, "int", 9)}))
    committed(run, simple("fit/10..12"))

    assert values(run, "fit") == {str(n): n for n in range(13)}
    found = {
        str(piece): None if chunk is None else str(chunk.tasks)
        for piece, chunk in run.pieces(TaskRange.of("fit/1..11"))
    }
    assert found == {
        "fit/1..2": "fit/0..9",
        "fit/3": None,
        "fit/4..5": "fit/4..9",
        "fit/6..7": "fit/6..7",
        "fit/8": "fit/8..9",
        "fit/9": None,
        "fit/10..11": "fit/10..12",
    }


@given(st.data())
def test_of_any_way_to_cut_a_foreach_each_item_has_one_record(data: st.DataObject):
    run = InMemory()
    expected = {}

    def cut(tasks: TaskRange) -> None:
        """Commit some of it, and then the rest in pieces."""
        if tasks.count == 1:
            expected[tasks.first] = None
            return
        done = data.draw(st.integers(0, tasks.count))
        expected.update(dict.fromkeys(range(tasks.first, tasks.first + done), tasks))
        cuts = sorted({done, tasks.count, *data.draw(st.lists(st.integers(done, tasks.count), max_size=2))})
        if len(cuts) == 2 and not done:
            cuts.insert(1, 1)
        rest = [tasks.part(a, b) for a, b in pairwise(cuts)]
        run.put(chunk_of(tasks, [plain_record(tasks, place) for place in range(done)], rest=rest))
        for piece in rest:
            cut(piece)

    ends = [0, *sorted(data.draw(st.sets(st.integers(1, 29), max_size=3))), 30]
    for first, end in pairwise(ends):
        cut(TaskRange("fit", (1,), first, end - first))

    store = RunStore(run, "F", "1")  # type: ignore[arg-type]
    store.chunks.look("fit")
    for index in range(30):
        held = store.chunks.holding(TaskName("fit", f"1-{index}"))
        tasks = expected[index]
        assert (held and (held[0].tasks, held[1])) == (tasks and (tasks, index - tasks.first))
    assert store.chunks.holding(TaskName("fit", "0-3")) is None
    assert store.chunks.holding(TaskName("fit", "1-30")) is None
    pieces = list(store.chunks.pieces(TaskRange("fit", (1,), 2, 25)))
    assert [index for piece, _ in pieces for index in range(piece.first, piece.end)] == list(range(2, 27))
    for piece, chunk in pieces:
        assert {expected[index] for index in range(piece.first, piece.end)} == {chunk and chunk.tasks}


class InMemory:
    """Just enough of a storage for reading chunks."""

    url = "memory"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put(self, chunk: Chunk) -> None:
        self.files[f"F/1/{chunk.tasks.step}/chunk.{chunk.tasks.ids}.json"] = chunk.encoded()

    def locate(self, path: str) -> str:
        return path

    def read(self, path: str) -> bytes:
        return self.files[path]

    def names(self, path: str) -> list[str]:
        return [file.rpartition("/")[2] for file in self.files if file.startswith(f"{path}/")]


def test_a_chunk_that_came_after_the_last_look_is_found_when_a_task_is_asked_for(
    storage: Storage, run: RunStore, simple: Any
):
    reader = RunStore(storage, "F", "1")
    committed(run, simple("fit/0..4"))
    assert reader.task(TaskName("fit", "2")) is not None
    committed(run, simple("fit/5..9"))

    assert reader.task(TaskName("fit", "7")).artifacts["x"].inline == 7


def test_chunks_of_nested_foreaches_and_of_iterations_are_apart(run: RunStore, simple: Any):
    for name in ("fit/0-0..2", "fit/1-0..2", "fit/0-0..2.1", "fit/0..2"):
        committed(run, simple(name, execution=f"0.{name[4:].replace('.', '_')}"))

    for name in ("fit/0-1", "fit/1-1", "fit/0-1.1", "fit/1"):
        found = run.task(TaskName.of(name))
        assert found is not None
        assert str(found.name) == name
    assert run.task(TaskName("fit", "2-1")) is None
    assert sorted(run.tasks("fit")) == sorted(
        [*"012", *(f"{a}-{b}" for a in (0, 1) for b in range(3)), *(f"0-{b}.1" for b in range(3))]
    )


# How it was cut


def test_the_plan_is_a_chain_to_which_one_adds_and_the_other_gets_what_was_added(
    storage: Storage, run: RunStore
):
    other = RunStore(storage, "F", "1")
    assert run.plan("fit") == other.plan("fit") == []
    one = [TaskRange.of("fit/0..3"), TaskRange.of("fit/4")]
    two = [TaskRange.of("fit/0..1")]

    assert list(run.extend_plan("fit", one)) == one
    assert list(other.extend_plan("fit", two)) == one
    assert list(other.extend_plan("fit", [TaskRange.of("fit/5..6")])) == [TaskRange.of("fit/5..6")]

    assert RunStore(storage, "F", "1").plan("fit") == [*one, TaskRange.of("fit/5..6")]


# Damage


DAMAGES: dict[str, Any] = {
    "cut in the middle": lambda raw: raw[: len(raw) // 2],
    "empty": lambda raw: b"",
    "no record": lambda raw: b"[]",
    "no items": lambda raw: changed(raw, items=None),
    "items of another": lambda raw: changed(raw, items="0..2"),
    "items that are none": lambda raw: changed(raw, items="x"),
    "a rest that is none": lambda raw: changed(raw, rest=["9..7"]),
    "logs that are none": lambda raw: changed(raw, logs={"x": {}}),
    "a log that is none": lambda raw: changed(raw, logs={"0": {"stdout": {"size": "3"}}}),
    "no times": lambda raw: changed(raw, each=[{}, {}, {}, {}]),
    "no first": lambda raw: changed(raw, first={}),
    "a first that is none": lambda raw: changed(raw, first=[1]),
    "items that are no list": lambda raw: changed(raw, each={"0": {}}),
    "an item that is none": lambda raw: changed(raw, each=["x"] * 4),
    "more items than there are": lambda raw: changed(raw, each=[{"at": 0, "took": 0}] * 9),
    "fewer items than are done": lambda raw: changed(raw, each=[{"at": 0, "took": 0}] * 2),
    "a time that is none": lambda raw: changed(raw, each=[{"at": "x", "took": 0}] * 4),
    "an artifact that is none": lambda raw: changed(
        raw, each=[{"at": 0, "took": 0, "artifacts": {"x": {"size": "1"}}}] * 4
    ),
    "artifacts that are none": lambda raw: changed(raw, each=[{"at": 0, "took": 0, "artifacts": [1]}] * 4),
    "parents that are none": lambda raw: changed(raw, first=json.loads(raw)["first"] | {"parents": ["x"]}),
    "splits that are none": lambda raw: changed(
        raw, first=json.loads(raw)["first"] | {"stack": [{"kind": 1}]}
    ),
}


def changed(raw: bytes, **fields: Any) -> bytes:
    data = json.loads(raw) | fields
    return json.dumps({key: value for key, value in data.items() if value is not None}).encode()


@only_local
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_chunk_names_its_file(storage: Storage, run: RunStore, simple: Any, damage: str):
    committed(run, simple("fit/0..3"))
    path = Path(storage.locate("F/1/fit/chunk.0..3.json"))
    path.write_bytes(DAMAGES[damage](path.read_bytes()))

    with pytest.raises(StoreError, match=r"F/1/fit/chunk\.0\.\.3\.json is damaged"):
        RunStore(storage, "F", "1").task(TaskName("fit", "1"))


@only_local
def test_a_chunk_of_a_newer_format_is_refused(storage: Storage, run: RunStore, simple: Any):
    committed(run, simple("fit/0..3"))
    path = Path(storage.locate("F/1/fit/chunk.0..3.json"))
    path.write_bytes(changed(path.read_bytes(), format=99))

    with pytest.raises(StoreError, match="has format 99"):
        RunStore(storage, "F", "1").task(TaskName("fit", "1"))


@only_local
def test_a_damaged_plan_names_its_file(storage: Storage, run: RunStore):
    run.plan("fit")
    run.extend_plan("fit", [TaskRange.of("fit/0..3")])
    path = Path(storage.locate("F/1/fit/plan.0.json"))
    path.write_text(path.read_text().replace("0..3", "3..0"))

    with pytest.raises(StoreError, match=r"F/1/fit/plan\.0\.json is damaged"):
        RunStore(storage, "F", "1").plan("fit")


@only_local
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_items_whose_part_of_the_plan_is_lost_stay_as_they_were_begun(
    storage: Storage, run: RunStore, simple: Any, lost: int
):
    parts = ["fit/0", "fit/1..3"], ["fit/4..9", "fit/10"], ["fit/11..14"]
    for names in parts:
        run.extend_plan("fit", list(map(TaskRange.of, names)))
    for name in ("fit/1..3", "fit/4..9", "fit/11..14"):
        committed(run, simple(name))
    Path(storage.locate("F/1/fit/0")).mkdir()
    Path(storage.locate("F/1/fit/10")).mkdir()

    Path(storage.locate(f"F/1/fit/plan.{lost}.json")).unlink()

    found = RunStore(storage, "F", "1").plan("fit")
    assert sorted(each.ids for each in found) == sorted(
        TaskRange.of(name).ids for names in parts for name in names
    )


@only_local
def test_single_items_whose_only_part_of_the_plan_is_lost_stay_single(storage: Storage, run: RunStore):
    run.extend_plan("fit", list(map(TaskRange.of, ("fit/0", "fit/1"))))
    for item in "01":
        Path(storage.locate(f"F/1/fit/{item}")).mkdir(parents=True)

    Path(storage.locate("F/1/fit/plan.0.json")).unlink()

    assert sorted(each.ids for each in RunStore(storage, "F", "1").plan("fit")) == ["0", "1"]


@only_local
@pytest.mark.parametrize(
    "name", ["chunk.1..2", "chunk..json", "chunk.a.json", "chunk.5--6.json", "chunk.3..1.json", "plan.x.json"]
)
def test_a_file_that_only_looks_like_a_chunk_is_none(storage: Storage, run: RunStore, simple: Any, name: str):
    committed(run, simple("fit/0..3"))
    Path(storage.locate(f"F/1/fit/{name}")).write_text("")

    assert values(RunStore(storage, "F", "1"), "fit") == {str(n): n for n in range(4)}
