"""Rows of tasks, a column an array."""

from __future__ import annotations

import re
from array import array
from math import isnan, nan
from typing import Any

from daskflow.pathspec import TaskRange, natural_order

LONGEST_TEXT = 200
"""Characters of a text that a row keeps."""
COLUMNS = (
    "task", "state", "value", "attempt", "started", "seconds", "cpu_seconds", "peak_memory", "worker", "pid", "error",
)  # fmt: skip
"""What a row says. ``state`` is one of :data:`STATES`; ``started`` is in seconds of the epoch, ``peak_memory`` in bytes."""
STATES = ("failed", "running", "waiting", "stopped", "lost", "done", "reused")
"""In the order in which they are shown. A task of a run that is over and that never ended is lost."""
FAILED, RUNNING, WAITING, STOPPED, DONE, REUSED = (
    STATES.index(name) for name in ("failed", "running", "waiting", "stopped", "done", "reused")
)
_NUMBERS = ("started", "seconds", "cpu_seconds", "peak_memory")


class TaskRows:
    """Rows of tasks, column by column, each number in eight bytes."""

    def __init__(self) -> None:
        self.place: dict[str, int] = {}
        self.ids: list[str] = []
        self.keys: list[Any] = []
        self.state = bytearray()
        self.attempt = array("i")
        self.pid = array("q")
        self.numbers = {name: array("d") for name in _NUMBERS}
        self.worker = array("i")
        self.value: dict[int, str] = {}
        self.error: dict[int, str] = {}
        self._workers: dict[str, int] = {"": 0}
        self._names: list[str] = [""]

    def __len__(self) -> int:
        return len(self.ids)

    def row_of(self, task: str) -> int:
        """The place of a task's row, which is made if there is none."""
        found = self.place.get(task)
        if found is not None:
            return found
        place = self.place[task] = len(self.ids)
        self.ids.append(task)
        self.keys.append(order(task))
        self.state.append(WAITING)
        self.attempt.append(0)
        self.pid.append(0)
        self.worker.append(0)
        for numbers in self.numbers.values():
            numbers.append(nan)
        return place

    def set_worker(self, place: int, worker: str) -> None:
        """Say where a task ran."""
        number = self._workers.get(worker)
        if number is None:
            number = self._workers[worker] = len(self._names)
            self._names.append(worker)
        self.worker[place] = number

    def worker_of(self, place: int) -> str:
        """Where a task ran; empty if that is not known."""
        return self._names[self.worker[place]]

    def text(self, place: int) -> str:
        """The texts of a row in small letters, for who looks for a word."""
        value, error = self.value.get(place, ""), self.error.get(place, "")
        return (
            f"{self.ids[place]} {STATES[self.state[place]]} {value} {self.worker_of(place)} {error}".lower()
        )

    def number(self, name: str, place: int) -> float | int | None:
        """A number of a row, None if it is not known; bytes are whole."""
        found = known(self.numbers[name][place])
        return int(found) if found is not None and name == "peak_memory" else found

    def row(self, place: int) -> dict[str, Any]:
        """All that is known of a task."""
        return {
            "task": self.ids[place],
            "state": STATES[self.state[place]],
            "value": self.value.get(place),
            "attempt": self.attempt[place],
            **{name: self.number(name, place) for name in self.numbers},
            "worker": self.worker_of(place),
            "pid": self.pid[place] or None,
            "error": self.error.get(place),
        }


def cut(text: str, longest: int = LONGEST_TEXT) -> str:
    """A text, of which no more is kept than a row needs."""
    text = str(text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def readable(text: str) -> str:
    """A text as a page can show it: without the codes that colour a terminal, other controls visible."""
    text = _ANSI.sub("", text)
    if "\r" in text:  # a progress bar: what was written last
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return text.translate(_VISIBLE)


_ANSI = re.compile(r"\x1b(?:\[[0-9;:<=>?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_VISIBLE = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {127: 0x2421}


def order(task: str) -> Any:
    """What sorts tasks by their ids."""
    try:
        return natural_order(first_of(task))
    except ValueError:
        return ((), 0)


def first_of(tasks: str) -> str:
    """The id of the first of some neighbours."""
    if ".." not in tasks:
        return tasks
    return TaskRange.of_ids("", tasks).name().task_id


def known(number: float) -> float | None:
    """A number of a column; None if there is none."""
    return None if isnan(number) else number
