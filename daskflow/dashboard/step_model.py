"""What is known of the tasks of one step of a run: how many are where, and a row for each that began."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime
from math import nan
from typing import TYPE_CHECKING, Any

from daskflow.dashboard.task_rows import (
    DONE,
    FAILED,
    REUSED,
    RUNNING,
    STOPPED,
    WAITING,
    TaskRows,
    cut,
    first_of,
    known,
    order,
    readable,
)
from daskflow.pathspec import TaskRange, TaskSet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from daskflow.dashboard.events import Back, Committed, Failed, Progress, Started

MOST_ROWS = 50_000
"""Tasks of a step that have rows; of what is done beyond that only the number is known."""
_OF_FAILURE = ("attempt", "started", "seconds", "worker", "value", "cpu_seconds", "peak_memory", "pid")


@dataclass
class Process:
    """A process that runs: for one task, or for ``count`` of them, of which ``done`` are, and ``kept`` more in the store."""

    tasks: str
    count: int
    at: float
    worker: str
    pid: int
    attempt: int
    value: str | None = None
    done: int = 0
    kept: int = 0


class Median:
    """The median of numbers that come one by one, exactly, at the cost of two heaps."""

    def __init__(self) -> None:
        self._low: list[float] = []
        self._high: list[float] = []

    def add(self, number: float) -> None:
        """Take one more."""
        heapq.heappush(self._high, -heapq.heappushpop(self._low, -number))
        if len(self._high) > len(self._low):
            heapq.heappush(self._low, -heapq.heappop(self._high))

    @property
    def value(self) -> float | None:
        """The median; None of no numbers."""
        if not self._low:
            return None
        if len(self._low) > len(self._high):
            return -self._low[0]
        return (self._high[0] - self._low[0]) / 2


class StepModel:
    """How far a step is.

    Every task counts once: as done, running, waiting, failed or stopped. Of those that share a process one is running.
    Events may come in any order, and more than once but for what is planned: that adds up.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.planned = 0
        self.done = self.failed = self.stopped = self.reused = self.retried = self.caught = 0
        self.iterations = 0
        self.began: float | None = None
        self.ended: float | None = None
        self.taken: dict[str, int] = {}
        self.processes: dict[str, Process] = {}
        self.rows = TaskRows()
        self._median = Median()
        self._beyond = TaskSet()
        self._under_way = 0
        self._attempts: set[tuple[str, int]] = set()

    @property
    def median(self) -> float | None:
        """The median of the seconds that its tasks took; None if that is not known of any."""
        return self._median.value

    @property
    def is_known(self) -> bool:
        """Whether there is or was anything to do."""
        return bool(self.planned or self.done or self.processes or len(self.rows))

    def counts(self, over: bool) -> dict[str, int]:
        """How many tasks are where. They add up to ``known``; ``reused`` and ``caught`` (of which a failure was) of ``done``, ``retried`` are attempts.

        Once the run is over none runs: a task that did not end is lost.
        """
        done, running = self.done + self._under_way, len(self.processes)
        accounted = done + running + self.failed + self.stopped
        known = max(self.planned + self.reused, accounted)
        return {
            "known": known,
            "done": done,
            "running": 0 if over else running,
            "waiting": known - accounted,
            "failed": self.failed,
            "stopped": self.stopped,
            "lost": running if over else 0,
            "reused": self.reused,
            "retried": self.retried,
            "caught": self.caught,
        }

    def start(self, event: Started) -> None:
        """A process runs."""
        first = first_of(event.tasks)
        if self._is_done(first) or (first, event.attempt) in self._attempts:
            return  # told late
        self._end_process(first)
        self.processes[first] = Process(
            event.tasks, max(1, event.count), event.at, event.worker, event.pid, event.attempt, event.value
        )
        self._wait_again(first)
        self._saw(first, event.at, None)

    def progress(self, event: Progress) -> None:
        """Of a process's tasks so many are done."""
        process = self.processes.get(first_of(event.tasks))
        if process is not None:
            done = max(process.done, min(event.done - process.kept, process.count - 1))
            self._under_way += done - process.done
            process.done = done

    def commit(self, event: Committed) -> Iterator[int]:
        """Tasks are in the store; gives the places of those that were new and have rows."""
        columns = event.columns
        shared = first_of(event.process) if event.process else None
        if shared is not None:
            self._keep(shared, len(columns["task"]))
        for number, task in enumerate(columns["task"]):
            if task != shared:
                self._end_process(task)
            if self._is_done(task):
                continue
            told = {name: values[number] for name, values in columns.items()}
            place = self._row_for(task)
            self._count_done(told, event.reused, place)
            if place is not None:
                self._fill(place, told, REUSED if event.reused else DONE)
                if caught := told.get("caught"):
                    self.rows.error[place] = cut(readable(f"caught: {caught}"))
                yield place

    def fail(self, event: Failed) -> bool:
        """An attempt failed; whether that was new."""
        if (event.task, event.attempt) in self._attempts:
            return False
        self._attempts.add((event.task, event.attempt))
        process = self.processes.get(event.task)
        if process is not None and process.attempt <= event.attempt:
            self._end_process(event.task)
        self.retried += event.again
        if event.started is not None:
            self._saw(event.task, event.started, event.started + (event.seconds or 0.0))
        if self._is_done(event.task) or event.task in self.processes:
            return True  # told late
        self._wait_again(event.task)
        place = self.rows.row_of(event.task)
        told = {name: getattr(event, name) for name in _OF_FAILURE}
        self._fill(place, told, WAITING if event.again else STOPPED if event.stopped else FAILED)
        self.rows.error[place] = cut(readable(event.error))
        self.failed += not event.again and not event.stopped
        self.stopped += event.stopped and not event.again
        return True

    @property
    def first_failed(self) -> str | None:
        """A task that failed; None if none did."""
        place = self.rows.state.find(FAILED) if self.failed else -1
        return None if place < 0 else self.rows.ids[place]

    def put_back(self, event: Back) -> None:
        """What had been started waits again."""
        self._end_process(first_of(event.tasks))

    def listed(
        self, over: bool, sort_by: str | None, descending: bool, words: Sequence[str]
    ) -> list[Process | int]:
        """The tasks that began and have all of some words: processes that run, and places of rows of other tasks.

        They are sorted by a column, those that lack it last; by None failed ones first, then by what is under way.
        """
        places = [
            place
            for task, place in self.rows.place.items()
            if task not in self.processes or self.rows.state[place] in (DONE, REUSED)
        ]
        found: list[Process | int] = [*self.processes.values(), *places]
        if words:
            found = [each for each in found if self._has(each, over, words)]
        found.sort(key=self._id_order)
        if sort_by == "task":
            return found[::-1] if descending else found
        if sort_by in (None, "state"):
            return sorted(found, key=self._state_order, reverse=descending)
        there = [(value, each) for each in found if (value := self._value(each, sort_by)) is not None]
        there.sort(key=lambda pair: _sortable(pair[0]), reverse=descending)
        missing = (
            [each for each in found if self._value(each, sort_by) is None] if len(there) < len(found) else []
        )
        return [each for _, each in there] + missing

    def described(self, each: Process | int, over: bool) -> dict[str, Any]:
        """The row of one of them."""
        if isinstance(each, Process):
            return _of_process(each, "lost" if over else "running", self.rows)
        return self.rows.row(each)

    def _has(self, each: Process | int, over: bool, words: Sequence[str]) -> bool:
        """Whether each of some words is in one of the texts of a row."""
        if isinstance(each, Process):
            row = _of_process(each, "lost" if over else "running", self.rows)
            texts = [row[name] for name in ("task", "state", "value", "worker", "error")]
            text = " ".join(str(value) for value in texts if value is not None).lower()
        else:
            text = self.rows.text(each)
        return all(word in text for word in words)

    def _id_order(self, each: Process | int) -> Any:
        return order(each.tasks) if isinstance(each, Process) else self.rows.keys[each]

    def _state_order(self, each: Process | int) -> int:
        return RUNNING if isinstance(each, Process) else self.rows.state[each]

    def _value(self, each: Process | int, column: str) -> Any:
        if isinstance(each, Process):
            return self.described(each, over=False)[column]
        rows = self.rows
        if column in rows.numbers:
            return known(rows.numbers[column][each])
        if column == "worker":
            return rows.worker_of(each)
        if column in ("value", "error"):
            return (rows.value if column == "value" else rows.error).get(each)
        return (rows.attempt if column == "attempt" else rows.pid)[each]

    def row(self, task: str, over: bool) -> dict[str, Any] | None:
        """What is known of a task, or of the process that begins with it; None if it did not begin."""
        if task in self.processes and not self._is_done(task):
            return _of_process(self.processes[task], "lost" if over else "running", self.rows)
        place = self.rows.place.get(task)
        return None if place is None else self.rows.row(place)

    def _end_process(self, first: str) -> None:
        process = self.processes.pop(first, None)
        if process is not None:
            self._under_way -= process.done

    def _keep(self, first: str, count: int) -> None:
        """So many tasks of a process are in the store; it is over if it is not known to have done more."""
        process = self.processes.get(first)
        if process is None or process.done <= count:
            self._end_process(first)
            return
        self._under_way -= count
        process.done -= count
        process.count -= count
        process.kept += count

    def _is_done(self, task: str) -> bool:
        place = self.rows.place.get(task)
        if place is not None:
            return self.rows.state[place] in (DONE, REUSED)
        return bool(self._beyond) and f"{self.name}/{task}" in self._beyond

    def _row_for(self, task: str) -> int | None:
        if task in self.rows.place or len(self.rows) < MOST_ROWS:
            return self.rows.row_of(task)
        self._beyond.add(TaskRange.of(f"{self.name}/{task}"))
        return None

    def _count_done(self, told: dict[str, Any], reused: bool, place: int | None) -> None:
        if place is not None:
            self._wait_again(told["task"])
        self.done += 1
        self.reused += reused
        self.caught += bool(told.get("caught"))
        started, seconds = _moment(told.get("started")), _seconds(told)
        if seconds is not None:
            self._median.add(seconds)
        if not reused and started is not None:
            self._saw(told["task"], started, started + (seconds or 0.0))
        else:
            self._saw(told["task"], None, None)
        if to := told.get("to"):
            self.taken[to] = self.taken.get(to, 0) + 1

    def _wait_again(self, task: str) -> None:
        """Whatever became of a task before, it has another try."""
        place = self.rows.place.get(task)
        if place is None:
            return
        self.failed -= self.rows.state[place] == FAILED
        self.retried += self.rows.state[place] == FAILED
        self.stopped -= self.rows.state[place] == STOPPED
        self.rows.state[place] = WAITING
        self.rows.error.pop(place, None)

    def _saw(self, task: str, began: float | None, ended: float | None) -> None:
        iteration = task.rpartition(".")[2] if "." in task else ""
        if iteration.isdecimal():
            self.iterations = max(self.iterations, int(iteration) + 1)
        if began is not None:
            self.began = began if self.began is None else min(self.began, began)
        if ended is not None:
            self.ended = ended if self.ended is None else max(self.ended, ended)

    def _fill(self, place: int, told: dict[str, Any], state: int) -> None:
        rows = self.rows
        rows.state[place] = state
        rows.attempt[place] = told.get("attempt") or 0
        rows.pid[place] = told.get("pid") or 0
        rows.set_worker(place, cut(told.get("worker") or ""))
        numbers = {
            "started": _moment(told.get("started")),
            "seconds": _seconds(told),
            "cpu_seconds": told.get("cpu_seconds"),
            "peak_memory": told.get("peak_memory"),
        }
        for name, number in numbers.items():
            rows.numbers[name][place] = nan if number is None else number
        value = told.get("value")
        if value is not None:
            rows.value[place] = cut(value)


def _sortable(value: Any) -> tuple[int, Any]:
    """Values of foreaches are texts: those that are numbers are sorted as numbers, before the others."""
    if isinstance(value, str):
        try:
            return 0, float(value)
        except ValueError:
            return 1, value
    return 0, value


def _of_process(process: Process, state: str, rows: TaskRows) -> dict[str, Any]:
    place = rows.place.get(first_of(process.tasks))
    return {
        "task": process.tasks,
        "state": state,
        "value": process.value if place is None else rows.value.get(place, process.value),
        "attempt": process.attempt,
        "started": process.at,
        "seconds": None,
        "cpu_seconds": None,
        "peak_memory": None,
        "worker": process.worker,
        "pid": process.pid or None,
        "error": f"{process.done} of {process.count} done" if process.count > 1 else None,
    }


def _moment(value: Any) -> float | None:
    return value.timestamp() if isinstance(value, datetime) else value


def _seconds(told: dict[str, Any]) -> float | None:
    if told.get("seconds") is not None:
        return float(told["seconds"])
    began, ended = _moment(told.get("started")), _moment(told.get("finished"))
    return None if began is None or ended is None else ended - began
