"""Records as text: exact, readable by anyone, and never trusted blindly."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskflow.errors import StoreError
from daskflow.pathspec import TaskName
from daskflow.store import records
from daskflow.store.records import COPY_LIMIT, FORMAT, ArtifactRef, Log, TaskRecord, decode, encode


def paired(text: str) -> str:
    """JSON can't tell two halves of a surrogate pair from the character that they make."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


texts = st.text(st.characters(exclude_categories=()), max_size=20).map(paired)
names = texts.filter(bool)
counts = st.integers(0, 2**70)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
objects = st.dictionaries(texts, values, max_size=3)
times = st.datetimes().map(lambda t: t.isoformat(timespec="microseconds") + "Z")

refs = st.builds(
    lambda basic, place, info: ArtifactRef(*basic, **place, info=info),
    st.tuples(texts, texts, counts, texts),
    values.map(lambda value: {"inline": value})
    | texts.map(lambda t: {"path": t})
    | texts.map(lambda t: {"record": t}),
    objects,
)
frames = st.builds(
    lambda required, more: more | required,
    st.fixed_dictionaries({"kind": texts, "split": texts, "index": counts, "size": counts}),
    objects,
)
foreachs = st.lists(scalars, min_size=1, max_size=4).map(
    lambda items: {"size": len(items), "items": items}
) | st.builds(lambda size, path: {"size": size, "path": path}, st.integers(1, 10**6), texts)
logs = st.builds(Log, counts, text=texts) | st.builds(Log, counts, path=texts)
task_records = st.builds(
    TaskRecord,
    flow=names,
    run=names,
    step=names,
    task=names,
    attempt=counts,
    execution=names,
    status=st.sampled_from(["ok", "failed"]),
    started=times,
    finished=times,
    parents=st.lists(texts, max_size=3),
    stack=st.lists(frames, max_size=2),
    iteration=counts,
    transition=st.none() | st.lists(texts, max_size=2).map(lambda targets: {"targets": targets}),
    foreach=st.none() | foreachs,
    artifacts=st.dictionaries(texts, refs, max_size=3),
    error=st.none() | st.fixed_dictionaries({"type": texts, "exception": texts, "stacktrace": texts}),
    process=objects,
    logs=st.dictionaries(texts, logs, max_size=2),
)

SAMPLE = TaskRecord(
    flow="F",
    run="1",
    step="fit",
    task="4-2",
    attempt=1,
    execution="1.ab12",
    status="ok",
    started="2024-01-02T03:04:05.000006Z",
    finished="2024-01-02T03:04:06.000006Z",
    parents=["start/0"],
    stack=[{"kind": "foreach", "split": "start/0", "step": "start", "index": 4, "size": 5, "var": "xs"}],
    iteration=2,
    transition={"kind": "foreach", "targets": ["each"]},
    foreach={"size": 2, "items": [1, "ü"]},
    artifacts={
        "here": ArtifactRef("a" * 32, "json", 1, "int", inline=5),
        "nothing": ArtifactRef("a" * 32, "json", 4, "NoneType"),
        "file": ArtifactRef(
            "b" * 32, "parquet", 10**10, "pandas.DataFrame", path="F/1/fit/x.parquet", info={"rows": 3}
        ),
        "there": ArtifactRef("c" * 32, "json", 400, "str", record="start/0"),
    },
    error={"type": "builtins.ValueError", "exception": "no", "stacktrace": "Traceback"},
    process={"pid": 7, "cpu_user": 0.5},
    logs={
        "stdout": Log(9, text="2024-01-02T03:04:05.000006Z grün\n"),
        "stderr": Log(10**6, path="F/1/x.log"),
    },
)


@settings(max_examples=200, deadline=None)
@given(task_records)
def test_a_record_comes_back_as_it_was(record: TaskRecord):
    raw = encode(record.to_json())

    again = TaskRecord.of_json(decode(raw, "task.json"))

    assert repr(again) == repr(record)
    assert again == record


@settings(deadline=None)
@given(task_records)
def test_a_record_is_json_in_utf8_whatever_it_holds(record: TaskRecord):
    raw = encode(record.to_json())

    assert json.loads(raw.decode("utf-8")) == json.loads(json.dumps(record.to_json()))


def test_a_record_has_one_line_for_each_field():
    lines = encode(SAMPLE.to_json()).decode().splitlines()

    assert lines[0] == "{"
    assert lines[1] == ' "format": 1,'
    assert lines[-1] == "}"
    assert '"text": "2024-01-02T03:04:05.000006Z grün\\n"' in lines[-2]
    assert len(lines) == len(SAMPLE.to_json()) + 2


def test_a_record_that_ends_too_early_anywhere_is_an_error_that_names_the_file():
    raw = encode(SAMPLE.to_json())

    for length in range(len(raw) - 1):  # without the last line's end it is whole
        with pytest.raises(StoreError, match=r"fit/4-2/task\.json is damaged"):
            decode(raw[:length], "fit/4-2/task.json")
    assert decode(raw[:-1], "task.json") == SAMPLE.to_json()


@settings(deadline=None)
@given(
    st.binary() | st.lists(st.sampled_from([b"[", b"{", b'"', b"\\", b"\xff", b"1", b"null"])).map(b"".join)
)
def test_bytes_that_are_no_record_are_an_error_that_names_the_file(raw: bytes):
    with pytest.raises(StoreError, match=r"task\.json is damaged"):
        decode(raw, "task.json")


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b"[]",
        b"null",
        b"{}",
        b'{"format": "1"}',
        b'{"format": true}',
        b'{"format": 0}',
        b"9" * 5000,
    ],
    ids=lambda raw: raw[:15].decode(),
)
def test_json_that_is_no_record_is_an_error_that_names_the_file(raw: bytes):
    with pytest.raises(StoreError, match=r"task\.json is damaged"):
        decode(raw, "task.json")


@pytest.mark.parametrize("newer", [FORMAT + 1, FORMAT + 100])
def test_a_newer_format_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch, newer: int):
    raw = encode(SAMPLE.to_json() | {"format": newer})

    with pytest.raises(
        StoreError, match=rf"task\.json has format {newer}; this version of daskflow reads up to {FORMAT}\."
    ):
        decode(raw, "task.json")

    monkeypatch.setattr(records, "FORMAT", newer)
    assert TaskRecord.of_json(decode(raw, "task.json")) == SAMPLE


def test_fields_of_a_later_version_of_this_format_are_left_out():
    data = SAMPLE.to_json() | {"mood": "fine"}
    data["logs"]["stdout"]["colour"] = "red"

    assert TaskRecord.of_json(data) == SAMPLE


# Edited by hand

Step = str | int


def places(value: Any, here: tuple[Step, ...] = ()) -> list[tuple[Step, ...]]:
    found = [here] if here else []
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [place for key, item in inner for place in places(item, (*here, key))]


def changed(place: tuple[Step, ...], value: Any) -> dict[str, Any]:
    data = copy.deepcopy(SAMPLE.to_json())
    holder: Any = data
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return data


REFUSED = {
    ("flow",): [None, 5, ["F"]],
    ("attempt",): ["1", 1.0, True, None],
    ("iteration",): ["0", [0]],
    ("status",): ["fine", 1],
    ("started",): ["yesterday", 5],
    ("parents",): ["start/0", {}],
    ("parents", 0): [7, None],
    ("stack",): [{}, "s"],
    ("stack", 0): ["frame", []],
    ("stack", 0, "index"): ["4", None],
    ("transition",): [[], "each"],
    ("transition", "targets"): ["each", None],
    ("transition", "targets", 0): [1],
    ("foreach",): [5, []],
    ("foreach", "size"): ["2", 3, 0, -1],
    ("foreach", "items"): [[], {}, "xs", [1]],
    ("artifacts",): [[], "x"],
    ("artifacts", "here"): [5, "x", None],
    ("artifacts", "here", "size"): ["1", None],
    ("artifacts", "here", "hash"): [7],
    ("artifacts", "file", "path"): [7, None],
    ("artifacts", "file", "info"): [[], None],
    ("artifacts", "there", "record"): [[]],
    ("error",): ["ValueError", []],
    ("error", "type"): [None],
    ("process",): [7],
    ("logs",): [[]],
    ("logs", "stdout"): ["text"],
    ("logs", "stdout", "text"): [7],
    ("logs", "stdout", "size"): ["9"],
}


@pytest.mark.parametrize(
    ("place", "value"), [(place, value) for place, wrong in REFUSED.items() for value in wrong], ids=str
)
def test_a_field_of_the_wrong_type_is_refused_by_its_name(place: tuple[Step, ...], value: Any):
    with pytest.raises(ValueError, match=str(next(key for key in reversed(place) if isinstance(key, str)))):
        TaskRecord.of_json(changed(place, value))


@pytest.mark.parametrize(
    "field", ["flow", "run", "step", "task", "attempt", "execution", "status", "started", "finished"]
)
def test_a_field_that_is_missing_is_named(field: str):
    data = SAMPLE.to_json()
    del data[field]

    with pytest.raises(ValueError, match=f"'{field}' is missing"):
        TaskRecord.of_json(data)


@pytest.mark.parametrize("places_of_it", [[], ["value", "path"], ["path", "record"], ["value", "record"]])
def test_an_artifact_is_in_exactly_one_place(places_of_it: list[str]):
    data = {"hash": "a", "encoding": "json", "size": 1, "type": "int"} | dict.fromkeys(places_of_it, "x")

    with pytest.raises(ValueError, match="not one of 'value', 'path' and 'record'"):
        ArtifactRef.of_json(data)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(places(SAMPLE.to_json())), values)
def test_any_edit_gives_a_record_or_a_plain_refusal(place: tuple[Step, ...], value: Any):
    try:
        record = TaskRecord.of_json(changed(place, value))
    except ValueError as error:
        assert str(error)
    else:
        assert TaskRecord.of_json(record.to_json()) == record


# References


@pytest.mark.parametrize(
    ("size", "inherited"), [(COPY_LIMIT, "copied"), (COPY_LIMIT + 1, "referred to")], ids=["small", "large"]
)
def test_a_small_value_is_copied_into_later_records_and_a_large_one_referred_to(size: int, inherited: str):
    ref = ArtifactRef("h", "json", size, "str", inline="value", info={"k": 1})

    later = ref.inherited(TaskName("start", "0"))

    if inherited == "copied":
        assert later == ref
    else:
        assert later == ArtifactRef("h", "json", size, "str", record="start/0", info={"k": 1})
        assert later.inherited(TaskName("middle", "0")) == later


def test_what_is_in_a_file_stays_where_it_is_for_later_tasks():
    ref = ArtifactRef("h", "parquet", 10**9, "pandas.DataFrame", path="F/1/start/0/0.a/x.parquet")

    assert ref.inherited(TaskName("start", "0")) is ref


def test_a_time_comes_back_to_the_microsecond():
    text = records.timestamp()

    assert records.moment(text).isoformat(timespec="microseconds") == text.replace("Z", "+00:00")
