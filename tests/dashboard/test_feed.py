"""What a feed makes of what the engine tells it, and what it does when nobody takes it."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fan import Fan

from daskflow.cli.drive import _shown
from daskflow.cli.run import save_parameters
from daskflow.dashboard.events import Back, Committed, Failed, Lines, Planned, Progress, Started, Told
from daskflow.dashboard.feed import Feed, NotShown
from daskflow.dashboard.model import RunModel
from daskflow.dashboard.narrator import (
    MOST_DAMAGED,
    MOST_LINES,
    MOST_ROWS_AT_ONCE,
    MOST_ROWS_OF_BATCH,
    batches,
)
from daskflow.engine.frontier import Frontier
from daskflow.engine.frontier import Planned as PlannedTask
from daskflow.errors import RunHeld
from daskflow.flow.graph import Graph
from daskflow.pathspec import TaskName, TaskRange
from daskflow.store.chunks import Chunk
from daskflow.store.flows import new_run
from daskflow.store.records import timestamp
from daskflow.store.runs import RunStore
from daskflow.store.storage import LocalStorage, storage_at
from daskflow.task.spec import RunContext, TaskResult, record_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daskflow.dashboard.events import Event
    from daskflow.task.spec import TaskSpec


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """A run that has begun."""

    def record(run: str) -> dict[str, object]:
        return {"flow": "Fan", "run": run, "created": timestamp(), "user": "ada", "start_step": "start",
                "end_step": "end", "parameters": [], "tags": ["night"], "system_tags": [], "versions": {},
                "decorators": [], "code": {"hash": "", "files": {}}, "command": ["fan.py", "run"]}  # fmt: skip

    found = new_run(storage_at(str(tmp_path)), "Fan", record)
    save_parameters(found, Fan, Graph.of(Fan), {})
    return found


@pytest.fixture
def frontier(store: RunStore) -> Frontier:
    run = RunContext(store.flow, store.run, store.storage.url, "token", "", 0, "")
    return Frontier(Graph.of(Fan), run)


def told(store: RunStore, tell: Callable[[Feed], None], done: list[TaskRange] | None = None) -> list[Event]:
    """The events of a run of which a feed was told, but for those of the run itself."""
    found: list[Event] = []

    def send(events: list[Event]) -> bool:
        found.extend(events)
        return True

    feed = Feed(store, lambda: send, pytest.fail)
    feed.begin({"status": "running"}, done or [])
    tell(feed)
    feed.end({"status": "successful"})
    assert isinstance(found[0], Told)
    assert isinstance(found[-1], Told)
    return [event for event in found if not isinstance(event, Told)]


def shows(model: RunModel) -> Callable[[list[Event]], bool]:
    """What lets a model know of events."""

    def send(events: list[Event]) -> bool:
        for event in events:
            model.apply(event)
        return True

    return send


def committed(store: RunStore, spec: TaskSpec, **known: object) -> TaskResult:
    record = record_of(replace(spec, execution="0.x"), status="ok", **known)
    store.commit(record)
    return TaskResult(spec.name, spec.attempt, "committed", execution="0.x")


def test_a_task_is_planned_started_and_committed(store: RunStore, frontier: Frontier):
    (task,) = frontier.start()
    record = record_of(
        task.spec, status="ok", process={"pid": 7, "host": "here", "max_rss": 5, "shared_by": 1}
    )

    def tell(feed: Feed) -> None:
        feed.planned([task])
        feed.started(task.spec, 7, 1, "here")
        feed.committed(record)
        feed.finished([TaskResult(task.spec.name, 0, "committed")])

    planned, started, done = told(store, tell)

    assert planned == Planned("start", 1)
    assert isinstance(started, Started)
    assert (started.step, started.tasks, started.worker, started.pid) == ("start", "0", "here", 7)
    assert isinstance(done, Committed)
    assert done.columns["task"] == ["0"]
    assert done.columns["peak_memory"] == [5]
    assert not done.reused


def test_a_commit_of_which_nobody_told_is_read_from_the_store(store: RunStore, frontier: Frontier):
    (task,) = frontier.start()
    result = committed(store, task.spec)

    (done,) = told(store, lambda feed: feed.finished([result]))

    assert isinstance(done, Committed)
    assert done.columns["task"] == ["0"]


def test_what_was_there_before_is_reused(store: RunStore, frontier: Frontier):
    (task,) = frontier.start()
    committed(store, task.spec, foreach={"size": 2, "items": ["a", "b"]})
    frontier.done(TaskResult(task.spec.name, 0, "committed", size=2))

    (done,) = told(store, lambda _: None, frontier.committed())

    assert isinstance(done, Committed)
    assert (done.columns["task"], done.reused) == (["0"], True)


def test_items_that_share_a_process_are_told_by_the_chunk_with_their_values(
    store: RunStore, frontier: Frontier
):
    (task,) = frontier.start()
    committed(store, task.spec, foreach={"size": 3, "items": ["a", "b", "c"]})
    (items,) = frontier.done(TaskResult(task.spec.name, 0, "committed", size=3))
    spec = items.spec
    first = record_of(replace(spec.item(0), execution="0.y"), status="ok").to_json()
    chunk = Chunk(spec.tasks, first, [{"at": 0.0, "took": 1.0}, {"at": 1.0, "took": 2.0}])

    def tell(feed: Feed) -> None:
        feed.started(spec, 7, 3, "here")
        feed.progress(spec, 1)
        feed.committed(chunk, "0")
        feed.finished([
            TaskResult(spec.name, 0, "committed", count=2),
            TaskResult(TaskName("work", "2"), 0, "released"),
        ])  # fmt: skip

    started, progress, done, over, back = told(store, tell)

    assert over == Back("work", "0", 1)

    assert isinstance(started, Started)
    assert (started.tasks, started.count, started.value) == ("0..2", 3, "a … c")
    assert progress == Progress("work", "0..2", 1)
    assert isinstance(done, Committed)
    assert done.process == "0"
    assert done.columns["value"] == ["a", "b"]
    assert done.columns["finished"][1] - done.columns["started"][1] == pytest.approx(2.0)
    assert back == Back("work", "2", 1)


def test_a_failed_attempt_is_told_as_its_record_has_it(store: RunStore, frontier: Frontier):
    (task,) = frontier.start()
    record = record_of(
        replace(task.spec, execution="0.x"),
        status="failed",
        error={"type": "ValueError", "exception": "no", "stacktrace": ""},
        process={"pid": 7, "host": "here", "max_rss": 5},
    )
    store.save_attempt(record)
    result = TaskResult(task.spec.name, 0, "failed", error=("ValueError", "no"), execution="0.x")

    (failed,) = told(store, lambda feed: feed.finished([result], {task.spec.name}))

    assert isinstance(failed, Failed)
    assert (failed.error, failed.again, failed.worker, failed.peak_memory) == (
        "ValueError: no",
        True,
        "here",
        5,
    )


def test_of_what_a_task_writes_at_once_the_last_lines_are_told(store: RunStore, frontier: Frontier):
    (task,) = frontier.start()

    def tell(feed: Feed) -> None:
        for number in range(3 * MOST_LINES):
            feed.lines(task.spec, 7, "stdout", [str(number)])

    events = told(store, tell)

    assert all(isinstance(event, Lines) for event in events)
    assert all(len(event.lines) <= MOST_LINES for event in events)  # type: ignore[union-attr]
    assert [line for event in events for line in event.lines][-1] == str(3 * MOST_LINES - 1)  # type: ignore[union-attr]


def test_no_batch_is_larger_than_its_taker_likes():
    many = Committed("work", {"task": [str(number) for number in range(2 * MOST_ROWS_OF_BATCH + 1)]})

    found = list(batches([Planned("work", 1), many]))

    rows = [
        [len(event.columns["task"]) for event in batch if isinstance(event, Committed)] for batch in found
    ]
    assert max(map(max, rows)) == MOST_ROWS_AT_ONCE
    assert max(map(sum, rows)) == MOST_ROWS_OF_BATCH
    assert sum(map(sum, rows)) == 2 * MOST_ROWS_OF_BATCH + 1
    assert list(batches([])) == [[]]


def test_lines_of_one_task_are_one_event_of_a_batch_the_last_of_them():
    count = 3 * MOST_LINES
    lines = [Lines("work", "0", "stdout", [str(number)]) for number in range(count)]

    ((event, other),) = batches([*lines, Lines("work", "0", "stderr", ["no"])])

    assert isinstance(event, Lines)
    assert event.lines == [str(number) for number in range(count - MOST_LINES, count)]
    assert other == Lines("work", "0", "stderr", ["no"])


def test_what_is_known_is_sent_before_the_next_event_is_made():
    made: list[Event] = []

    def events() -> Iterator[Event]:
        for event in (Told({"status": "running"}), Planned("work", 1), Planned("join", 1)):
            made.append(event)
            yield event

    assert next(batches(events())) == [Told({"status": "running"})]
    assert len(made) == 1


def test_a_run_is_shown_before_the_tasks_that_were_there_are_read(store: RunStore, frontier: Frontier):
    (task,) = frontier.start()
    committed(store, task.spec, foreach={"size": 1, "items": ["a"]})
    frontier.done(TaskResult(task.spec.name, 0, "committed", size=1))
    sent: list[Event] = []
    is_shown = threading.Event()

    class Waits(LocalStorage):
        def read(self, path: str) -> bytes | None:
            if path == store.layout.commit(task.spec.name):
                assert is_shown.wait(60)
            return super().read(path)

    def send(events: list[Event]) -> bool:
        sent.extend(events)
        if any(isinstance(event, Told) and "steps" in event.facts for event in sent):
            is_shown.set()
        return True

    feed = Feed(RunStore(Waits(store.storage.url), "Fan", store.run), lambda: send, pytest.fail)
    feed.begin({"status": "running"}, frontier.committed())
    assert is_shown.wait(30)
    feed.end({"status": "successful"})

    assert [event.step for event in sent if isinstance(event, Committed)] == ["start"]


def test_a_damaged_record_is_told_of_and_the_others_are_shown(store: RunStore, frontier: Frontier):
    (task,) = frontier.start()
    committed(store, task.spec, foreach={"size": 3, "items": ["a", "b", "c"]})
    (items,) = frontier.done(TaskResult(task.spec.name, 0, "committed", size=3))
    for place in range(3):
        committed(store, items.spec.item(place))
    for place, damage in ((0, b"{"), (1, b"{}")):
        Path(store.storage.locate(store.layout.commit(TaskName("work", str(place))))).write_bytes(damage)
    model = RunModel("Fan", store.run)

    feed = Feed(store, lambda: shows(model), pytest.fail)
    feed.begin({"status": "running"}, [TaskRange.of("start/0"), TaskRange.of("work/0..2")])
    feed.end({"status": "successful"})

    head = model.head()
    assert (head["status"], head["done"]) == ("successful", 2)
    assert model.tasks("work")[0]["task"] == ["2"]
    assert len(head["damaged"]) == 2


def test_of_what_is_damaged_so_much_is_told_as_somebody_reads(store: RunStore):
    for place in range(MOST_DAMAGED + 10):
        path = Path(store.storage.locate(store.layout.commit(TaskName("work", str(place)))))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{")
    model = RunModel("Fan", store.run)

    feed = Feed(store, lambda: shows(model), pytest.fail)
    feed.begin({"status": "running"}, [TaskRange.of(f"work/0..{MOST_DAMAGED + 9}")])
    feed.end({"status": "successful"})

    assert len(model.head()["damaged"]) == MOST_DAMAGED


def test_a_run_that_another_driver_took_is_lost_to_this_one_and_did_not_fail(
    store: RunStore, frontier: Frontier
):
    model = RunModel("Fan", store.run)
    feed = Feed(store, lambda: shows(model), pytest.fail)

    with pytest.raises(RunHeld), _shown(feed, frontier):
        raise RunHeld("Another driver has it.")

    assert (model.head()["status"], model.head()["reason"]) == ("lost", "Another driver has it.")


def test_whatever_goes_wrong_is_told_once_and_the_run_goes_on(store: RunStore, frontier: Frontier):
    (task,) = frontier.start()
    notices: list[str] = []
    heard = threading.Event()

    def send(_events: list[Event]) -> bool:
        raise RuntimeError("no page")

    def notice(text: str) -> None:
        notices.append(text)
        heard.set()

    feed = Feed(store, lambda: send, notice)
    feed.begin({})
    heard.wait(60)
    feed.planned([PlannedTask(task.spec)])
    feed.end({})

    assert notices == ["The dashboard is told no more of this run: RuntimeError('no page')"]


def test_a_dashboard_that_can_not_show_it_says_why(store: RunStore):
    notices: list[str] = []

    def connect() -> Callable[[list[Event]], bool]:
        raise NotShown("There is none.")

    feed = Feed(store, connect, notices.append)
    feed.begin({})
    feed.end({})

    assert notices == ["There is none."]


def test_a_run_that_is_over_at_once_is_told_to_nobody(store: RunStore):
    feed = Feed(store, lambda: pytest.fail("it was"), pytest.fail, after=60.0)
    feed.begin({})

    feed.end({"status": "successful"})

    assert not feed._thread.is_alive()
