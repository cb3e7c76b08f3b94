"""The page as a Bokeh document: what is selected comes from the browser, parts of HTML and the timeline go there."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from daskflow.dashboard import render
from daskflow.dashboard.plot import Plot
from daskflow.dashboard.task_rows import readable
from daskflow.dashboard.view import View
from daskflow.errors import DaskflowException

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bokeh.document import Document

    from daskflow.dashboard.model import RunModel, Source

REFRESH_MILLISECONDS = 500
DRAW_SECONDS = 0.9
"""How old the timeline may be: to draw thousands of bars takes a browser a while."""
DETAIL_SECONDS = 1.0
"""How old the detail of a task that runs may be."""
MOST_RUNS = 50
"""Runs in the selector above a run."""
BEAT_SECONDS = 2
"""How often a page hears that its server lives, whatever happens."""
_PARTS = ("now", "beat", "mode", "query", "run", "runs", "head", "graph", "tasks", "task")


def document(source: Source, variables: Mapping[str, Any] | None = None) -> Callable[[Document], None]:
    """What fills the documents of the page ``/daskflow``.

    ``variables`` go into the page's template: under a scheduler those of Dask's own pages, ``pages`` and ``plots``, for the
    navigation bar.
    """

    def fill(doc: Document) -> None:
        _Page(source, doc, dict(variables or {}))

    return fill


class _Page:
    """One browser's page."""

    def __init__(self, source: Source, doc: Document, variables: dict[str, Any]) -> None:
        from bokeh.models import ColumnDataSource, CustomJS

        self._source = source
        self._doc = doc
        self._parts = dict.fromkeys(_PARTS, "") | {"now": str(time.time())}
        self._drawn: Any = None
        self._drawn_at = 0.0
        self._made_of: Any = None
        self._steps: list[dict[str, Any]] = []
        self._details = _Details(source, self._soon)
        self._view = View.of(_query(doc))
        self._plot = Plot()
        self._sent = ColumnDataSource({name: [text] for name, text in self._parts.items()}, name="parts")
        self._asked = ColumnDataSource({"query": [self._view.query]}, name="view")
        self._update()
        if self._details.waiting is not None:
            wait_for([self._details.waiting], source.patience)
            self._update()
        self._asked.on_change("data", self._on_asked)
        doc.title = "daskflow"
        if hasattr(doc, "config"):  # the page says by itself that it has no connection
            doc.config.notify_connection_status = doc.config.reconnect_session = False
        doc.template = render.page()
        doc.template_variables.update(
            {"pages": ["daskflow"], "plots": []}
            | variables
            | {"parts": dict(self._parts), "view": self._view}
        )
        with doc.models.freeze():  # else Bokeh goes through all of them after each
            for root in (self._plot.plot, self._sent, self._asked):
                doc.add_root(root)
        args = {
            "parts": self._sent,
            "view": self._asked,
            "bars": self._plot.bars,
            "plot": self._plot.plot,
            "axes": [self._plot.time, self._plot.rows],
            "grids": [self._plot.grid],
        }
        doc.js_on_event("document_ready", CustomJS(args=args, code=_script()))
        doc.add_periodic_callback(self._update, REFRESH_MILLISECONDS)

    def _on_asked(self, _attribute: str, _old: object, new: Mapping[str, list[str]]) -> None:
        self._view = View.of(str(new["query"][0]))
        self._update()

    def _soon(self) -> None:
        """Update from another thread."""
        self._doc.add_next_tick_callback(self._update)

    def _update(self) -> None:
        now = time.time()
        runs = self._source.runs()
        view = self._view
        if not view.flow and not _lists(view) and self._source.opens_latest and runs:
            view = replace(view, flow=runs[0]["flow"], run=runs[0]["run"])
        model = self._source.model(view.flow, view.run) if view.flow else None
        if model is None:
            trouble = self._source.trouble
            if view.flow:
                trouble = trouble or f"There is no run {view.flow}/{view.run} here."
            self._made_of = None
            found = {
                "mode": "runs",
                "run": "",
                "runs": render.runs(runs, view, trouble, self._source.place),
            }
        else:
            found = self._of_run(model, runs, view, now)
        self._send(found | {"query": self._view.query, "beat": str(int(now) // BEAT_SECONDS)})

    def _of_run(self, model: RunModel, runs: list[dict[str, Any]], view: View, now: float) -> dict[str, str]:
        """The parts of a run's page, without those that are as they were: a scheduler has more to do than to make them anew."""
        others = [(each["flow"], each["run"], each["status"]) for each in runs[:MOST_RUNS]]
        made_of = (model, model.version, view, others)
        found = {} if made_of == self._made_of else self._made(model, runs, view)
        self._made_of = made_of
        self._draw(model, self._steps, now)
        step = view.step or _of_interest(self._steps)
        return found | {"task": self._task(model, replace(view, step=step)) if view.task else ""}

    def _made(self, model: RunModel, runs: list[dict[str, Any]], view: View) -> dict[str, str]:
        self._steps = steps = model.steps()
        if not view.step:
            view = replace(view, step=_of_interest(steps))
        selected = next((step for step in steps if step["name"] == view.step), None)
        head = model.head()
        others = runs[:MOST_RUNS]
        if not any((each["flow"], each["run"]) == (model.flow, model.run) for each in others):
            others = [head, *others]
        return {
            "mode": "run",
            "run": f"{model.flow}/{model.run}",
            "head": render.head(head, others, model.failure(), view),
            "graph": render.graph(steps, view, over=model.is_over),
            "tasks": render.tasks(model, selected, view),
        }

    def _task(self, model: RunModel, view: View) -> str:
        row = model.task(view.step, view.task)
        detail, table, trouble = self._details.of(view, model)
        if row is not None and row["state"] in ("running", "waiting") and detail is None:
            trouble = ""  # a store has nothing of it before it has written something
        tail = model.tail(view.step, view.task)
        return render.task(_with_tail(detail, tail), row, tail, table, view, trouble)

    def _draw(self, model: RunModel, steps: list[dict[str, Any]], now: float) -> None:
        """Draw the timeline anew if something has changed, or runs on."""
        moves = int(now) if not model.is_over and any(step["running"] for step in steps) else 0
        state = (model.flow, model.run, model.version, moves)
        same_run = self._drawn is not None and self._drawn[:2] == state[:2]
        if state != self._drawn and not (same_run and 0 <= now - self._drawn_at < DRAW_SECONDS):
            self._drawn, self._drawn_at = state, now
            self._plot.show(model.timeline(now), render.colours(steps))

    def _send(self, found: Mapping[str, str]) -> None:
        changed = {name: text for name, text in found.items() if self._parts[name] != text}
        if changed:
            self._parts |= changed
            self._sent.patch({name: [(0, text)] for name, text in changed.items()})


class _Details:
    """What takes a look into the store: read in threads, a thing at a time, and again while it may change."""

    def __init__(self, source: Source, tell: Callable[[], None]) -> None:
        self._source = source
        self._tell = tell
        self.waiting: Future[Any] | None = None
        self._key: Any = None
        self._found: tuple[dict[str, Any] | None, dict[str, Any] | None, str] = (None, None, "")
        self._found_of: Any = None
        self._at = 0.0

    def of(self, view: View, model: RunModel) -> tuple[dict[str, Any] | None, dict[str, Any] | None, str]:
        """The detail of the selected task, the table of it that is selected, and what prevents them; by now."""
        what = (view.flow, view.run, view.step, view.task, view.table, view.column)
        if self.waiting is not None and self.waiting.done():
            self._found, self._found_of, self.waiting = self.waiting.result(), self._key[0], None
        if self.waiting is None and self._is_old(what, view, model):
            self.waiting = _threads().submit(self._read, view)
            self.waiting.add_done_callback(lambda _: self._tell())
        if self._found_of is None or self._found_of[:4] != what[:4]:
            return None, None, ""
        detail, table, trouble = self._found
        return detail, table if self._found_of == what else None, trouble

    def _is_old(self, what: Any, view: View, model: RunModel) -> bool:
        """Whether what was found is of something else, or the task has gone on since."""
        row = model.task(view.step, view.task)
        state = (row["state"], row["attempt"]) if row else None
        moves = not model.is_over and (row is None or row["state"] in ("running", "waiting"))
        if self._key == (what, state) and not (moves and time.monotonic() - self._at > DETAIL_SECONDS):
            return False
        self._key, self._at = (what, state), time.monotonic()
        return True

    def _read(self, view: View) -> tuple[dict[str, Any] | None, dict[str, Any] | None, str]:
        where = (view.flow, view.run, view.step, view.task)
        detail = table = None
        try:
            detail = self._source.detail(*where)
            if view.table:
                table = self._source.table(*where, view.table, view.column)
        except DaskflowException as error:
            return detail, table, error.message
        except Exception as error:  # noqa: BLE001 - a page must not end because a store holds something strange
            return detail, table, f"It can't be shown: {error!r}"
        return detail, table, ""


def _with_tail(detail: dict[str, Any] | None, tail: dict[str, list[str]]) -> dict[str, Any] | None:
    """A task's detail with the lines that were told, if the store has none yet."""
    if detail is None or detail["state"] != "running":
        return detail
    logs = dict(detail["logs"])
    for stream, lines in tail.items():
        if stream in logs and not logs[stream]["lines"]:
            logs[stream] = {"lines": list(map(readable, lines)), "bytes": sum(map(len, lines)), "cut": False}
    return detail | {"logs": logs}


def _of_interest(steps: list[dict[str, Any]]) -> str:
    """The step whose tasks are shown as long as none is selected: one that failed, else one that runs, else the last that ran."""
    for of_interest in ("failed", "lost", "running"):
        for step in steps:
            if step[of_interest]:
                return str(step["name"])
    return next((str(step["name"]) for step in reversed(steps) if step["done"]), "")


def _lists(view: View) -> bool:
    return bool(view.find or view.status or view.begin or view.all)


def _query(doc: Document) -> str:
    context = doc.session_context
    request = context.request if context is not None else None
    if request is None:
        return ""
    given = {name: values[-1].decode("utf-8", "replace") for name, values in request.arguments.items()}
    return urlencode(given)


@cache
def _script() -> str:
    return (Path(__file__).parent / "templates" / "page.js").read_text()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(4, "daskflow-detail")
