"""What is known of a run: events in, columns out. No clock, no I/O; for one thread at a time."""

from __future__ import annotations

from collections import OrderedDict, deque
from math import isnan
from typing import TYPE_CHECKING, Any, Protocol

from daskflow.dashboard.events import Back, Committed, Failed, Lines, Planned, Progress, Started, Told
from daskflow.dashboard.step_model import StepModel
from daskflow.dashboard.task_rows import COLUMNS, cut, readable
from daskflow.dashboard.timeline import Bar, Timeline

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.dashboard.events import Event

RUNNING = "running"
MOST_TAILS, LINES_OF_TAIL, LONGEST_LINE = 100, 200, 1000
"""Tasks whose last lines are kept, how many lines, and how much of each."""
GONE = "Its driver has gone."
"""Why a run is lost."""
_FACTS = (
    "status",
    "started",
    "finished",
    "user",
    "parameters",
    "tags",
    "store",
    "reason",
    "commands",
    "damaged",
)


class Source(Protocol):
    """Where a page gets runs from; the base class of all of them.

    ``runs`` and ``model`` are called in the event loop, and answer at once; the others in a thread.

    Attributes
    ----------
    opens_latest
        Whether the page shows the latest run unless another is asked for.
    patience
        Seconds that the first answer of a page waits for the detail of a task.
    trouble
        Why the list of runs can't be read; empty if it can.
    place
        The store whose runs these are; empty if they are those of a cluster.
    """

    opens_latest: bool = False
    patience: float = 0.15
    trouble: str = ""
    place: str = ""

    def runs(self) -> list[dict[str, Any]]:
        """What :meth:`RunModel.head` says of every run that is known by now, newest first."""
        ...

    def model(self, flow: str, run: str) -> RunModel | None:
        """A run as it is known by now; None if there is none."""
        ...

    def read(self, flow: str, run: str) -> bool:
        """Wait a moment; whether all of a run has been read that there was. To be called after :meth:`model`, and that again."""
        return True

    def detail(self, flow: str, run: str, step: str, task: str) -> dict[str, Any]:
        """What :func:`daskflow.dashboard.details.detail` says of a task; it may take its time."""
        ...

    def table(self, flow: str, run: str, step: str, task: str, name: str, first: int) -> dict[str, Any]:
        """What :func:`daskflow.dashboard.details.table` says of a table."""
        ...


class RunModel:
    """One run.

    Attributes
    ----------
    version
        Another number after each change.
    """

    def __init__(self, flow: str, run: str) -> None:
        self.flow = flow
        self.run = run
        self.version = 0
        self._facts: dict[str, Any] = {"status": RUNNING}
        self._graph: dict[str, dict[str, Any]] = {}
        self._steps: dict[str, StepModel] = {}
        self._timeline = Timeline()
        self._tails: OrderedDict[tuple[str, str], dict[str, deque[str]]] = OrderedDict()
        self._do: dict[type, Callable[[Any], None]] = {
            Told: self._told,
            Planned: self._planned,
            Started: lambda event: self._step(event.step).start(event),
            Progress: lambda event: self._step(event.step).progress(event),
            Committed: self._committed,
            Failed: self._failed,
            Back: lambda event: self._step(event.step).put_back(event),
            Lines: self._lines,
        }

    def apply(self, event: Event) -> None:
        """Take notice of what happened."""
        self._do[type(event)](event)
        self.version += 1

    @property
    def is_over(self) -> bool:
        """Whether nobody drives the run."""
        return bool(self._facts["status"] != RUNNING)

    def head(self) -> dict[str, Any]:
        """The run as a whole: ``flow``, ``run``, what was told of it, and how many tasks are where."""
        totals: dict[str, int] = {}
        for step in self._steps.values():
            for name, count in step.counts(self.is_over).items():
                totals[name] = totals.get(name, 0) + count
        none = StepModel("").counts(over=False)
        facts = {name: self._facts.get(name) for name in _FACTS}
        if facts["status"] in (RUNNING, "successful"):
            facts["commands"] = None
        return {"flow": self.flow, "run": self.run} | facts | none | totals

    def steps(self) -> list[dict[str, Any]]:
        """A dict a step, in the order of the flow.

        ``name``, ``type`` and ``next`` of the graph; how many tasks are where; ``median`` seconds of those that are done;
        ``iterations`` of a recursion (0 outside); ``taken``: of a switch how often each of its ways was taken, as far as known;
        ``began`` and ``ended``.
        """
        return [self._described(name) for name in dict.fromkeys([*self._graph, *self._steps])]

    def timeline(self, now: float) -> dict[str, Any]:
        """See :meth:`Timeline.columns`; processes run until ``now``, in seconds of the epoch, or were lost when the run ended."""
        running = [
            (step.name, process) for step in self._steps.values() for process in step.processes.values()
        ]
        if not self.is_over:
            return self._timeline.columns(running, now)
        end = self._facts.get("finished")
        known = [step.ended for step in self._steps.values() if step.ended is not None]
        return self._timeline.columns(running if end else (), max(end or 0.0, *known, 0.0), "lost")

    def tasks(
        self,
        step: str,
        *,
        offset: int = 0,
        limit: int = 50,
        sort_by: str | None = None,
        descending: bool = False,
        words: str = "",
    ) -> tuple[dict[str, list[Any]], int]:
        """Tasks of a step that began, as columns, and how many there are.

        Parameters
        ----------
        step
            Whose.
        offset, limit
            Which of them.
        sort_by
            One of :data:`COLUMNS`; None puts failed ones first, then those under way.
        descending
            The largest first.
        words
            Only tasks of which each of these words is part of a text: id, value, state, worker or error.

        Raises ``ValueError`` if there is no such column.
        """
        if sort_by is not None and sort_by not in COLUMNS:
            raise ValueError(f"There is no column '{sort_by}': use one of {', '.join(COLUMNS)}.")
        of = self._steps.get(step)
        if of is None:
            return {name: [] for name in COLUMNS}, 0
        found = of.listed(self.is_over, sort_by, descending, words.lower().split())
        shown = [of.described(each, self.is_over) for each in found[offset : offset + limit]]
        return {name: [row[name] for row in shown] for name in COLUMNS}, len(found)

    def task(self, step: str, task: str) -> dict[str, Any] | None:
        """The row of a task; None if it did not begin, or is in a process with others."""
        found = self._steps.get(step)
        return None if found is None else found.row(task, self.is_over)

    def failure(self) -> tuple[str, str] | None:
        """Step and id of a task that failed, of the first step that has one; None if there is none."""
        for name in dict.fromkeys([*self._graph, *self._steps]):
            found = self._steps.get(name)
            if found is not None and (task := found.first_failed) is not None:
                return name, task
        return None

    def tail(self, step: str, task: str) -> dict[str, list[str]]:
        """The last lines that a task wrote, by stream, as far as somebody told."""
        return {stream: list(lines) for stream, lines in self._tails.get((step, task), {}).items()}

    def _step(self, name: str) -> StepModel:
        found = self._steps.get(name)
        if found is None:
            found = self._steps[name] = StepModel(name)
        return found

    def _told(self, event: Told) -> None:
        facts = dict(event.facts)
        for step in facts.pop("steps", ()):
            self._graph[step["name"]] = step
        if facts.get("reason"):
            facts["reason"] = readable(facts["reason"])
        self._facts |= facts

    def _planned(self, event: Planned) -> None:
        self._step(event.step).planned += event.count

    def _committed(self, event: Committed) -> None:
        step = self._step(event.step)
        places = list(step.commit(event))
        for task in event.columns["task"]:
            self._tails.pop((event.step, task), None)
        if event.reused or not places:
            return
        groups = [places] if event.process else [[place] for place in places]
        for group in groups:
            self._add_bar(step, group)

    def _add_bar(self, step: StepModel, places: list[int]) -> None:
        rows = step.rows
        times = [(rows.numbers["started"][place], rows.numbers["seconds"][place]) for place in places]
        known = [(began, began + took) for began, took in times if not isnan(began + took)]
        if not known:
            return
        began, ended = min(began for began, _ in known), max(end for _, end in known)
        state = "failed" if places[0] in rows.error else "done"  # also if a decorator has dealt with that
        bar = Bar(began, ended, step.name, state, rows.ids[places[0]], len(places))
        self._timeline.add(rows.worker_of(places[0]), bar)

    def _failed(self, event: Failed) -> None:
        if not self._step(event.step).fail(event) or event.started is None:
            return
        end = event.started + (event.seconds or 0.0)
        state = "stopped" if event.stopped else "failed"
        self._timeline.add(event.worker, Bar(event.started, end, event.step, state, event.task, 1))

    def _lines(self, event: Lines) -> None:
        key = event.step, event.task
        tail = self._tails.setdefault(key, {})
        self._tails.move_to_end(key)
        kept = tail.setdefault(event.stream, deque(maxlen=LINES_OF_TAIL))
        kept.extend(cut(line, LONGEST_LINE) for line in event.lines[-LINES_OF_TAIL:])
        while len(self._tails) > MOST_TAILS:
            self._tails.popitem(last=False)

    def _described(self, name: str) -> dict[str, Any]:
        graph, step = self._graph.get(name, {}), self._steps.get(name) or StepModel(name)
        following = list(graph.get("next", ()))
        return {
            "name": name,
            "type": graph.get("type", "linear"),
            "next": following,
            "doc": graph.get("doc", ""),
            "median": step.median,
            "iterations": step.iterations if name in following else 0,
            "taken": self._taken(name, step, following) if graph.get("type") == "switch" else {},
            "began": step.began,
            "ended": step.ended,
        } | step.counts(self.is_over)

    def _taken(self, name: str, step: StepModel, following: list[str]) -> dict[str, int]:
        """Of a switch: the ways that were taken. If nobody told, those that lead to what can't have begun otherwise."""
        if step.taken:
            return dict(step.taken)
        begun = [to for to in following if to in self._steps and self._steps[to].is_known]
        if name in begun and step.iterations < 2:
            begun.remove(name)
        elsewhere = {to for other in begun for to in self._beyond(other) if other != name}
        return dict.fromkeys((to for to in begun if to not in elsewhere), 0)

    def _beyond(self, name: str) -> set[str]:
        """The steps to which ways lead from a step."""
        found: set[str] = set()
        left = list(self._graph.get(name, {}).get("next", ()))
        while left:
            step = left.pop()
            if step not in found:
                found.add(step)
                left += self._graph.get(step, {}).get("next", ())
        return found - {name}
