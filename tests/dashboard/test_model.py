from __future__ import annotations

import pickle
import statistics
import tracemalloc
from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.dashboard.events import Back, Committed, Failed, Lines, Planned, Progress, Started, Told
from daskflow.dashboard.model import RunModel
from daskflow.dashboard.step_model import Median
from daskflow.dashboard.task_rows import TaskRows
from daskflow.dashboard.timeline import Bar, Timeline

OVER = ("done", "running", "waiting", "failed", "stopped", "lost")


def committed(step: str, *tasks: str, at: float = 0.0, seconds: float = 1.0, **more: object) -> Committed:
    columns: dict = {
        "task": list(tasks),
        "attempt": [0] * len(tasks),
        "started": [at] * len(tasks),
        "seconds": [seconds] * len(tasks),
        "worker": ["here"] * len(tasks),
    }
    process, reused = more.pop("process", ""), more.pop("reused", False)
    columns |= {name: [value] * len(tasks) for name, value in more.items()}
    return Committed(step, columns, process, reused)


def model_of(*events: object) -> RunModel:
    model = RunModel("F", "1")
    for event in events:
        model.apply(event)
    return model


def counts_of(model: RunModel, step: str = "fit") -> dict[str, int]:
    (found,) = (each for each in model.steps() if each["name"] == step)
    return {name: found[name] for name in (*OVER, "known", "reused", "retried", "caught") if found[name]}


def test_a_task_is_counted_where_it_is() -> None:
    model = model_of(Planned("fit", 3))
    assert counts_of(model) == {"known": 3, "waiting": 3}

    model.apply(Started("fit", "0", 1, 5.0, "here", 7))
    assert counts_of(model) == {"known": 3, "waiting": 2, "running": 1}

    model.apply(committed("fit", "0"))
    model.apply(Failed("fit", "1", 0, "ValueError: no", 1.0, 2.0, "here"))
    assert counts_of(model) == {"known": 3, "waiting": 1, "done": 1, "failed": 1}


def test_of_tasks_that_share_a_process_one_runs_and_those_before_it_are_done() -> None:
    model = model_of(Planned("fit", 10), Started("fit", "0..9", 10, 0.0, "here", 7))

    model.apply(Progress("fit", "0..9", 4))
    assert counts_of(model) == {"known": 10, "done": 4, "running": 1, "waiting": 5}

    model.apply(committed("fit", *map(str, range(6)), process="0"))
    assert counts_of(model) == {"known": 10, "done": 6, "waiting": 4}


def test_no_task_is_done_no_more_while_a_process_is_committed_part_by_part() -> None:
    model = model_of(
        Planned("fit", 12), Started("fit", "0..3", 12, 0.0, "here", 7), Progress("fit", "0..3", 10)
    )
    assert counts_of(model) == {"known": 12, "done": 10, "running": 1, "waiting": 1}

    model.apply(committed("fit", *map(str, range(4)), process="0"))
    assert counts_of(model) == {"known": 12, "done": 10, "running": 1, "waiting": 1}
    model.apply(committed("fit", *map(str, range(4, 8)), process="0"))
    assert counts_of(model) == {"known": 12, "done": 10, "running": 1, "waiting": 1}
    model.apply(committed("fit", *map(str, range(8, 12)), process="0"))
    assert counts_of(model) == {"known": 12, "done": 12}


def test_what_is_put_back_waits_again() -> None:
    model = model_of(Planned("fit", 4), Started("fit", "0..3", 4, 0.0, "here", 7), Progress("fit", "0..3", 2))

    model.apply(Back("fit", "0..3", 4))

    assert counts_of(model) == {"known": 4, "waiting": 4}


def test_an_attempt_that_another_follows_is_no_failure() -> None:
    model = model_of(Planned("fit", 1), Started("fit", "0", 1, 0.0, "here", 7))

    model.apply(Failed("fit", "0", 0, "ValueError: no", 0.0, 1.0, "here", again=True))
    assert counts_of(model) == {"known": 1, "waiting": 1, "retried": 1}

    model.apply(Started("fit", "0", 1, 2.0, "here", 8, attempt=1))
    model.apply(committed("fit", "0", attempt=1))
    assert counts_of(model) == {"known": 1, "done": 1, "retried": 1}


def test_a_failed_task_that_is_tried_again_by_another_driver_has_failed_no_more() -> None:
    model = model_of(
        Planned("fit", 1), Failed("fit", "0", 0, "no"), Started("fit", "0", 1, 2.0, "here", 8, 1)
    )

    assert counts_of(model) == {"known": 1, "running": 1, "retried": 1}


def test_a_failure_that_was_caught_is_marked_where_the_task_is_done() -> None:
    model = model_of(
        committed("fit", "0", caught="ValueError: no"), committed("fit", "1", at=9.0, caught=None)
    )

    assert counts_of(model) == {"known": 2, "done": 2, "caught": 1}
    assert model.head()["caught"] == 1
    assert model.tasks("fit")[0]["error"] == ["caught: ValueError: no", None]
    assert model.tasks("fit", words="caught")[1] == 1
    assert model.timeline(0.0)["state"] == ["failed", "done"]


def test_reused_tasks_are_done_and_never_waited() -> None:
    model = model_of(Planned("fit", 2), committed("fit", "0", "1", "2", reused=True))

    assert counts_of(model) == {"known": 5, "done": 3, "waiting": 2, "reused": 3}
    assert model.timeline(9.0)["rows"] == []


def test_what_did_not_end_before_the_run_did_is_lost() -> None:
    model = model_of(Planned("fit", 2), Started("fit", "0", 1, 0.0, "here", 7), Told({"status": "lost"}))

    assert counts_of(model) == {"known": 2, "waiting": 1, "lost": 1}
    assert model.tasks("fit")[0]["state"] == ["lost"]
    assert model.timeline(9.0)["state"] == []  # until when it ran nobody knows

    model.apply(Told({"finished": 5.0}))

    bars = model.timeline(9.0)
    assert (bars["state"], bars["begin"], bars["end"]) == (["lost"], [0.0], [5.0])


EVENTS = st.one_of(
    st.builds(Planned, st.just("fit"), st.integers(0, 5)),
    st.builds(
        lambda first, count, attempt: Started(
            "fit", str(first) if count == 1 else f"{first}..{first + count - 1}", count, 0.0, "here", 7, attempt
        ),
        st.integers(0, 5), st.integers(1, 4), st.integers(0, 2),
    ),
    st.builds(
        lambda first, last, done: Progress("fit", f"{first}..{first + last}", done),
        st.integers(0, 5), st.integers(1, 4), st.integers(0, 9),
    ),
    st.builds(
        lambda tasks, process, reused: committed("fit", *tasks, process=process, reused=reused),
        st.lists(st.integers(0, 8).map(str), max_size=4), st.sampled_from(["", "0", "3"]), st.booleans(),
    ),
    st.builds(
        lambda task, attempt, again, stopped: Failed(
            "fit", task, attempt, "no", 1.0, 1.0, "here", again, stopped
        ),
        st.integers(0, 8).map(str), st.integers(0, 2), st.booleans(), st.booleans(),
    ),
    st.builds(lambda first: Back("fit", f"{first}..{first + 2}", 3), st.integers(0, 5)),
    st.builds(lambda task, line: Lines("fit", task, "stdout", [line]), st.just("0"), st.text()),
    st.builds(lambda status: Told({"status": status}), st.sampled_from(["running", "failed"])),
)  # fmt: skip


@given(st.lists(EVENTS, max_size=40))
def test_counts_are_never_negative_and_add_up_whatever_the_order_of_events(events: list) -> None:
    model = model_of(Planned("fit", 1))
    for event in events:
        version = model.version
        model.apply(event)

        assert model.version != version
        (step,) = model.steps()
        assert all(step[name] >= 0 for name in (*OVER, "known", "reused", "retried")), step
        assert sum(step[name] for name in OVER) == step["known"]
        assert step["reused"] <= step["done"]
        columns, total = model.tasks("fit", limit=1000)
        assert len(columns["task"]) == total
        listed = {state: columns["state"].count(state) for state in set(columns["state"])}
        assert listed.get("failed", 0) == step["failed"]
        assert listed.get("stopped", 0) == step["stopped"]
        assert listed.get("reused", 0) == step["reused"]


@given(st.lists(EVENTS, max_size=30), st.randoms())
def test_tasks_that_are_committed_are_done_in_whatever_order_it_is_told(events: list, random: object) -> None:
    tasks = {task for event in events if isinstance(event, Committed) for task in event.columns["task"]}
    random.shuffle(events)
    model = model_of(Planned("fit", 1), *events)

    columns, _ = model.tasks("fit", limit=1000)

    states = dict(zip(columns["task"], columns["state"], strict=True))
    assert all(states.get(task) in ("done", "reused") for task in tasks)
    assert model.steps()[0]["done"] >= len(tasks)


def test_failed_tasks_come_first_then_those_under_way_and_ids_are_in_order() -> None:
    model = model_of(
        committed("fit", "10", "9"),
        Started("fit", "11", 1, 0.0, "here", 7),
        Failed("fit", "12", 0, "ValueError: no", 0.0, 1.0, "here"),
    )

    columns, total = model.tasks("fit")

    assert (columns["task"], total) == (["12", "11", "9", "10"], 4)


def test_tasks_are_sorted_filtered_and_paged() -> None:
    model = model_of(
        *(
            committed("fit", str(number), seconds=float(number % 7), value=f"item {number}")
            for number in range(100)
        )
    )

    slowest, total = model.tasks("fit", sort_by="seconds", descending=True, limit=3)
    found, few = model.tasks("fit", words="ITEM 99")
    last, _ = model.tasks("fit", sort_by="task", offset=98)

    assert (slowest["task"], total) == (["6", "13", "20"], 100)
    assert (found["task"], few) == (["99"], 1)
    assert last["task"] == ["98", "99"]
    with pytest.raises(ValueError, match="There is no column 'colour'"):
        model.tasks("fit", sort_by="colour")


def test_values_are_sorted_as_numbers_if_they_are_and_what_is_missing_comes_last() -> None:
    model = model_of(
        *(committed("fit", str(n), value=value) for n, value in enumerate(["10", "9", None, "x"]))
    )

    assert model.tasks("fit", sort_by="value")[0]["value"] == ["9", "10", "x", None]
    assert model.tasks("fit", sort_by="value", descending=True)[0]["value"] == ["x", "10", "9", None]


def test_a_value_of_many_characters_is_cut() -> None:
    model = model_of(committed("fit", "0", value="x" * 10_000_000))

    (value,) = model.tasks("fit")[0]["value"]

    assert len(value) == 200
    assert value.endswith("x…")


def graph(**steps: tuple[str, list[str]]) -> Told:
    return Told({"steps": [{"name": name, "type": kind, "next": to} for name, (kind, to) in steps.items()]})


def test_of_a_switch_the_ways_are_marked_that_lead_to_what_can_not_have_begun_otherwise() -> None:
    told = graph(
        start=("switch", ["left", "right", "end"]),
        left=("linear", ["end"]),
        right=("linear", ["end"]),
        end=("end", []),
    )
    model = model_of(told, committed("start", "0"), committed("left", "0"), committed("end", "0"))

    assert model.steps()[0]["taken"] == {"left": 0}


def test_of_a_switch_in_a_foreach_it_is_counted_how_often_each_way_was_taken() -> None:
    told = graph(choose=("switch", ["left", "right"]), left=("linear", []), right=("linear", []))
    model = model_of(told, committed("choose", "0", "1", to="left"), committed("choose", "2", to="right"))

    assert model.steps()[0]["taken"] == {"left": 2, "right": 1}


def test_a_recursion_tells_its_iterations() -> None:
    told = graph(start=("linear", ["again"]), again=("switch", ["again", "end"]), end=("end", []))
    model = model_of(told, committed("again", "0"), committed("again", "0.1"), committed("again", "0.2"))

    assert [step["iterations"] for step in model.steps()] == [0, 3, 0]


def test_the_head_says_what_was_told_last_and_sums_the_steps_up() -> None:
    model = model_of(
        Told({"status": "running", "started": 1.0, "tags": ["a"]}),
        Planned("start", 1), Planned("fit", 4), committed("start", "0"),
        Told({"status": "failed", "commands": ["python flow.py continue 1"]}),
    )  # fmt: skip

    head = model.head()

    assert (head["flow"], head["run"], head["status"], head["tags"]) == ("F", "1", "failed", ["a"])
    assert (head["done"], head["known"]) == (1, 5)
    assert head["commands"] == ["python flow.py continue 1"]


def test_the_last_lines_of_a_task_that_runs_are_kept() -> None:
    model = model_of(Lines("fit", "0", "stdout", [f"line {number}" for number in range(1000)]))
    assert model.tail("fit", "0")["stdout"][-1] == "line 999"
    assert len(model.tail("fit", "0")["stdout"]) == 200

    model.apply(committed("fit", "0"))
    assert model.tail("fit", "0") == {}


@given(st.lists(st.floats(0, 1e6), max_size=50))
def test_the_median_is_exact(numbers: list[float]) -> None:
    median = Median()
    for number in numbers:
        median.add(number)

    assert median.value == (statistics.median(numbers) if numbers else None)


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 10), st.sampled_from("ab")), min_size=1, max_size=60)
)
def test_bars_of_a_row_never_overlap_however_many_are_joined(spans: list) -> None:
    timeline = Timeline(most=10)
    for begin, took, step in sorted(spans, key=lambda span: span[0] + span[1]):
        timeline.add("here", Bar(begin, begin + took, step, "done", "0", 1))

    found = timeline.columns([], 0.0)

    assert sum(found["count"]) == len(spans)
    assert len(found["row"]) <= max(10, len(found["rows"]))
    last: dict[int, float] = {}
    for row, begin, end in sorted(zip(found["row"], found["begin"], found["end"], strict=True)):
        assert begin >= last.get(row, begin) - 0.002
        last[row] = end


@given(
    st.permutations([(at, at + 4.0) for at in (0.0, 4.0, 8.0)] + [(at, at + 4.0) for at in (1.0, 5.0, 9.0)])
)
def test_there_are_as_many_rows_as_slots_in_whatever_order_it_is_told(spans: list) -> None:
    timeline = Timeline()
    for begin, end in spans:
        timeline.add("here", Bar(begin, end, "fit", "done", "0", 1))
        timeline.columns((), 20.0)

    found = timeline.columns((), 20.0)

    assert found["rows"] == ["here 1", "here 2"]
    assert sorted(zip(found["begin"], found["end"], strict=True)) == sorted(spans)


def test_a_process_that_runs_is_in_a_row_that_is_free() -> None:
    model = model_of(
        committed("fit", "0", at=0.0, seconds=5.0),
        Started("fit", "1", 1, 3.0, "here", 7),
        Started("fit", "2", 1, 6.0, "here", 8),
    )

    found = model.timeline(10.0)

    bars = dict(zip(found["task"], zip(found["row"], found["begin"], found["end"], strict=True), strict=True))
    assert bars == {"0": (0, 0.0, 5.0), "1": (1, 3.0, 10.0), "2": (0, 6.0, 10.0)}
    assert found["rows"] == ["here 1", "here 2"]


def test_a_bar_is_not_compared_with_all_rows_of_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def counted(row: list, *place: object, **key: object) -> int:
        tried.append(len(row))
        return bisect_right(row, *place, **key)

    monkeypatch.setattr("daskflow.dashboard.timeline.bisect_right", counted)
    timeline = Timeline()
    for number in range(4000):  # each of 200 slots is free a moment before its next task begins
        begin = 1.0 * (number // 200) + number % 200 / 1000
        timeline.add("here", Bar(begin, begin + 0.9, "fit", "done", str(number), 1))

    found = timeline.columns([], 0.0)
    assert (len(found["rows"]), sum(found["count"])) == (200, 4000)
    assert len(tried) < 200 * 200 / 2 + 4 * 4000


def test_processes_that_run_are_each_in_the_first_row_that_is_free() -> None:
    model = model_of(
        committed("fit", "0", at=0.0, seconds=5.0),
        committed("fit", "1", at=0.0, seconds=3.0),
        *(Started("fit", str(n), 1, at, "here", n) for n, at in [(2, 2.0), (3, 4.0), (4, 6.0), (5, 7.0)]),
    )

    found = model.timeline(10.0)

    rows = dict(zip(found["task"], found["row"], strict=True))
    assert rows == {"0": 0, "1": 1, "2": 2, "3": 1, "4": 0, "5": 3}


def test_who_looks_for_a_word_gets_rows_of_what_is_shown_only(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    row = TaskRows.row

    def counted(rows: TaskRows, place: int) -> dict:
        made.append(place)
        return row(rows, place)

    monkeypatch.setattr(TaskRows, "row", counted)
    model = model_of(*(committed("fit", str(n), value=f"Item {n}") for n in range(200)))

    columns, total = model.tasks("fit", words="item 1 DONE here", sort_by="value", limit=5)

    assert (len(columns["task"]), total) == (5, 119)
    assert len(made) == 5


def test_ten_thousand_tasks_take_few_megabytes_and_few_bars() -> None:
    tracemalloc.start()
    model = model_of(Planned("fit", 10_000))
    for number in range(10_000):
        model.apply(Started("fit", str(number), 1, number / 100, "here", number))
        event = committed(
            "fit", str(number), at=number / 100, seconds=0.02, value=f"item {number}", pid=number
        )
        model.apply(pickle.loads(pickle.dumps(event)))  # as from another process: nothing is shared
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert used < 20e6
    assert len(model.timeline(0.0)["row"]) <= 2000


def test_of_a_million_tasks_rows_are_kept_of_the_first_and_all_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daskflow.dashboard.step_model.MOST_ROWS", 10)
    model = model_of(Planned("fit", 30), committed("fit", *map(str, range(20))))

    model.apply(committed("fit", *map(str, range(15, 25))))

    assert counts_of(model) == {"known": 30, "done": 25, "waiting": 5}
    assert model.tasks("fit")[1] == 10
