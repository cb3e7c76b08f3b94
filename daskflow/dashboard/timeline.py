"""What ran where and when: bars in the rows of slots, as few as a page can draw."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from daskflow.dashboard.step_model import Process

MOST_BARS = 2000
"""Beyond that, neighbours in a row become one bar."""
_SLACK = 0.002
"""Seconds by which the clocks of a task and the next may disagree about who came first."""

_begin = attrgetter("begin")


@dataclass(slots=True)
class Bar:
    """A process's time, or that of several, one after the other.

    Attributes
    ----------
    begin, end
        Seconds of the epoch.
    step
        "" if there are several.
    count
        Of tasks.
    """

    begin: float
    end: float
    step: str
    state: str
    task: str
    count: int
    busy: float = 0.0
    """Seconds of that time in which its tasks ran; 0 for all."""

    def takes(self, other: Bar) -> bool:
        """Count another one, that has its time within this one's, as part of it, if there is room for it."""
        took = other.end - other.begin
        if self.count < 2 or not self.busy or other.end > self.end:
            return False
        if self.busy + took > self.end - self.begin or other.step != self.step or other.state != self.state:
            return False
        self.busy += took
        self.count += other.count
        return True


class _Free:
    """The rows of a worker that are free, for processes in the order in which they began."""

    def __init__(self, ends: list[tuple[float, int]]) -> None:
        self._left = deque(ends)
        self._more = len(ends)
        self._free: list[int] = []

    def take(self, at: float) -> int:
        """The first row that is free since a time."""
        while self._left and self._left[0][0] <= at + _SLACK:
            heappush(self._free, self._left.popleft()[1])
        if self._free:
            return heappop(self._free)
        self._more += 1
        return self._more - 1


class Timeline:
    """Bars of what has ended, in rows: two that overlap are never in the same one.

    A row is a slot of a worker as far as the times tell. If there are too many bars, those with less than a growing span
    between them are joined.
    """

    def __init__(self, most: int = MOST_BARS) -> None:
        self._most = most
        self._rows: dict[str, list[list[Bar]]] = {}
        self._ends: dict[str, list[tuple[float, int]]] = {}
        self._next: dict[str, int] = {}
        self._latest: dict[str, float] = {}
        self._untidy: set[str] = set()
        self._count = 0
        self._span = 0.0

    def add(self, worker: str, bar: Bar) -> None:
        """Add what has ended. It is done fastest in the order of time, more or less."""
        rows = self._rows.setdefault(worker, [])
        if bar.begin < self._latest.setdefault(worker, bar.begin):
            self._untidy.add(worker)
        self._latest[worker] = max(self._latest[worker], bar.begin)
        for number in self._worth_a_try(worker, bar):
            row, ended = rows[number], rows[number][-1].end
            place = bisect_right(row, bar.begin, key=_begin)
            before, after = row[max(place - 1, 0) : place], row[place : place + 1]
            if any(each.takes(bar) for each in before):
                return
            if any(each.end > bar.begin + _SLACK for each in before):
                continue
            if any(each.begin < bar.end - _SLACK for each in after):
                continue
            if not after and any(self._join(each, bar) for each in before):
                self._ends_later(worker, number, ended)
                return
            row.insert(place, bar)
            self._ends_later(worker, number, ended)
            break
        else:
            rows.append([bar])
            insort(self._ends.setdefault(worker, []), (bar.end, len(rows) - 1))
        self._count += 1
        while self._count > self._most and any(len(row) > 1 for rows in self._rows.values() for row in rows):
            self._widen()

    def _worth_a_try(self, worker: str, bar: Bar) -> Iterator[int]:
        """The rows of a worker: first the one that became free last before a bar began, then those after the last one tried."""
        count, ends = len(self._rows[worker]), self._ends.get(worker, [])
        place = bisect_right(ends, (bar.begin + _SLACK, count))
        if place:
            yield ends[place - 1][1]
        first = self._next.get(worker, 0)
        for number in range(first, first + count):
            self._next[worker] = (number + 1) % count
            yield number % count

    def _ends_later(self, worker: str, number: int, ended: float) -> None:
        """Take notice of a row that may have ended otherwise."""
        end, ends = self._rows[worker][number][-1].end, self._ends[worker]
        if end != ended:
            del ends[bisect_left(ends, (ended, number))]
            insort(ends, (end, number))

    def columns(
        self, running: Iterable[tuple[str, Process]], now: float, state: str = "running"
    ) -> dict[str, Any]:
        """All bars, those of processes that did not end as well: ``step`` and process. They are in a ``state`` until ``now``.

        ``rows`` are the names of the rows; the other columns have an element a bar, ``row`` the number of its row.
        """
        while self._untidy:
            self._tidy(self._untidy.pop())
        names: list[str] = []
        numbers: dict[tuple[str, int], int] = {}
        alive = self._places(running, now, state)
        workers = sorted({*self._rows, *(worker for worker, _, _ in alive)})
        for worker in workers:
            used = [number for name, number, _ in alive if name == worker]
            for number in range(max([len(self._rows.get(worker, [])), *(each + 1 for each in used)])):
                numbers[worker, number] = len(names)
                names.append(f"{worker} {number + 1}".strip())
        placed = [(worker, number, bar) for worker in workers for number, row in enumerate(self._rows.get(worker, [])) for bar in row]  # fmt: skip
        placed += alive
        return {
            "rows": names,
            "row": [numbers[worker, number] for worker, number, _ in placed],
            **{
                field: [getattr(bar, field) for _, _, bar in placed]
                for field in ("begin", "end", "step", "state", "task", "count")
            },
        }

    def _tidy(self, worker: str) -> None:
        """Place the bars of a worker anew, in the order of time, if that takes fewer rows: they came in another order."""
        rows: list[list[Bar]] = []
        ends: list[tuple[float, int]] = []
        bars = [bar for row in self._rows[worker] for bar in row]
        for bar in sorted(bars, key=attrgetter("begin", "end")):
            if ends and ends[0][0] <= bar.begin + _SLACK:
                number = heappop(ends)[1]
                rows[number].append(bar)
            else:
                number = len(rows)
                rows.append([bar])
            heappush(ends, (bar.end, number))
        if len(rows) < len(self._rows[worker]):
            self._rows[worker], self._ends[worker] = rows, sorted(ends)
            self._next.pop(worker, None)

    def _places(
        self, running: Iterable[tuple[str, Process]], now: float, state: str
    ) -> list[tuple[str, int, Bar]]:
        """For each process that did not end a row of its worker that is free since it began."""
        free: dict[str, _Free] = {}
        found = []
        only = next(iter(self._rows)) if len(self._rows) == 1 else "?"
        for step, process in sorted(running, key=lambda pair: pair[1].at):
            worker = process.worker or only  # a store does not tell where a task runs before it has ended
            if worker not in free:
                free[worker] = _Free(self._ends.get(worker, []))
            number = free[worker].take(process.at)
            bar = Bar(process.at, max(now, process.at), step, state, process.tasks, process.count)
            found.append((worker, number, bar))
        return found

    def _join(self, last: Bar, bar: Bar) -> bool:
        """Let a bar be part of the one before it, if they are so near that nobody could tell them apart."""
        if not self._span or bar.begin - last.end > self._span:
            return False
        alike = (last.step, last.state) == (bar.step, bar.state)
        tiny = max(last.end - last.begin, bar.end - bar.begin) <= self._span
        if not alike and not tiny:
            return False
        last.busy = (last.busy or last.end - last.begin) + (bar.busy or bar.end - bar.begin)
        last.end = max(last.end, bar.end)
        last.count += bar.count
        last.task = ""
        if last.step != bar.step:
            last.step = ""
        if "failed" in (last.state, bar.state):
            last.state = "failed"
        return True

    def _widen(self) -> None:
        bars = [bar for rows in self._rows.values() for row in rows for bar in row]
        whole = max(bar.end for bar in bars) - min(bar.begin for bar in bars)
        self._span = max(self._span * 2, whole / self._most, 1e-6)
        for worker, rows in self._rows.items():
            for number, row in enumerate(rows):
                joined: list[Bar] = row[:1]
                for bar in row[1:]:
                    if not self._join(joined[-1], bar):
                        joined.append(bar)
                rows[number] = joined
            self._ends[worker] = sorted((row[-1].end, number) for number, row in enumerate(rows))
        self._count = sum(len(row) for rows in self._rows.values() for row in rows)
