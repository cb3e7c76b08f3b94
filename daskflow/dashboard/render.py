"""The parts of the page as HTML. Whatever comes from a run is escaped: by the templates, all of which do so by themselves."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from daskflow.dashboard.graph import HEIGHT, WIDTH, drawn
from daskflow.dashboard.task_rows import readable
from daskflow.dashboard.view import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jinja2 import Environment, Template
    from markupsafe import Markup

    from daskflow.dashboard.graph import Drawing
    from daskflow.dashboard.model import RunModel
    from daskflow.dashboard.view import View

STEP_COLOURS = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#0072B2", "#F0E442", "#999999")
"""Those that Okabe and Ito chose so that all people can tell them apart; vermilion stands for what failed."""
FAILED_COLOUR = "#D55E00"
SYMBOLS = {
    "done": "✓", "running": "▶", "waiting": "·", "failed": "✗", "stopped": "■", "lost": "?", "reused": "↺", "retried": "⟳",
    "caught": "◆",
    "successful": "✓", "interrupted": "■", "damaged": "!",
}  # fmt: skip
STATUSES = ("running", "failed", "successful", "interrupted", "lost", "damaged")
TASK_COLUMNS = (
    ("task", "task"), ("value", "value"), ("state", "state"), ("attempt", "try"), ("seconds", "time"),
    ("cpu_seconds", "CPU"), ("peak_memory", "memory"), ("worker", "worker"),
)  # fmt: skip


def head(
    head: dict[str, Any], runs: Sequence[dict[str, Any]], failure: tuple[str, str] | None, view: View
) -> str:
    """The run as a whole, and a way to a task that failed."""
    return _part("head.html", head=head, runs=runs, failure=failure, view=view)


def graph(steps: Sequence[dict[str, Any]], view: View, *, over: bool = False) -> str:
    """The steps and the ways between them. What is as it was, step by step, is not made anew."""
    drawing, ways = _laid_out(
        tuple(
            (step["name"], step["type"], tuple(step["next"]), tuple(step["taken"].items())) for step in steps
        )
    )
    beside = replace(view, step="", task="", table="", column=0, offset=0, words="", sort="", down=0)
    found = colours(steps)
    nodes = [
        _node(
            tuple(step.get(name) for name in _OF_NODE),
            beside,
            step["name"] == view.step,
            found[step["name"]],
            *drawing.places[step["name"]],
        )
        for step in steps
    ]
    return _part("graph.html", steps=steps, drawing=drawing, ways=ways, nodes=nodes, over=over)


_OF_NODE = (
    "name", "doc", "type", "known", "done", "failed", "running", "waiting", "stopped", "lost", "reused", "retried",
    "caught", "median", "iterations", "began",
)  # fmt: skip


@lru_cache(maxsize=2_000)
def _node(told: tuple[Any, ...], beside: View, selected: bool, colour: str, x: int, y: int) -> Markup:
    """A step, in a page that shows ``beside``."""
    from markupsafe import Markup

    step = dict(zip(_OF_NODE, told, strict=True))
    address = beside.but(step=step["name"])
    return Markup(
        _part(
            "node.html", step=step, selected=selected, address=address, colour=colour, x=x, y=y,
            width=WIDTH, height=HEIGHT,
        )
    )  # fmt: skip


@lru_cache(maxsize=20)
def _laid_out(steps: tuple[tuple[str, str, tuple[str, ...], tuple[Any, ...]], ...]) -> tuple[Drawing, Markup]:
    """Where steps are, and the ways between them."""
    from markupsafe import Markup

    drawing = drawn(
        [
            {"name": name, "type": kind, "next": list(following), "taken": dict(taken)}
            for name, kind, following, taken in steps
        ]
    )
    return drawing, Markup(_part("ways.html", edges=drawing.edges))


def tasks(model: RunModel, step: dict[str, Any] | None, view: View) -> str:
    """The tasks of the selected step, a page of them."""
    if step is None:
        return _part("tasks.html", step=None, view=view)
    columns, total = model.tasks(
        step["name"],
        offset=view.offset,
        limit=PAGE,
        sort_by=view.sort or None,
        descending=bool(view.down),
        words=view.words,
    )
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return _part(
        "tasks.html", step=step, rows=rows, total=total, view=view, page=PAGE, columns=TASK_COLUMNS,
        over=model.is_over,
    )  # fmt: skip


def task(
    detail: dict[str, Any] | None,
    row: dict[str, Any] | None,
    tail: dict[str, list[str]],
    table: dict[str, Any] | None,
    view: View,
    trouble: str,
) -> str:
    """One task. ``row`` and ``tail`` are what the model has of it, ``trouble`` is why there is no detail."""
    lines = {stream: list(map(readable, told)) for stream, told in tail.items()}
    return _part("task.html", detail=detail, row=row, tail=lines, table=table, view=view, trouble=trouble)


def runs(heads: Sequence[dict[str, Any]], view: View, trouble: str, place: str = "") -> str:
    """The runs that are to be listed, a page of them, and where they are."""
    words = view.find.lower().split()
    found = [head for head in heads if matches(head, words)]
    counts = {status: sum(head["status"] == status for head in found) for status in STATUSES}
    shown = [head for head in found if not view.status or head["status"] == view.status]
    return _part(
        "runs.html",
        rows=shown[view.begin : view.begin + PAGE],
        total=len(shown),
        everything=len(heads),
        counts=counts,
        view=view,
        page=PAGE,
        trouble=trouble,
        place=place,
    )


def page() -> Template:
    """The template of the whole page, for Bokeh."""
    return _environment().get_template("page.html")


def compiled() -> Iterator[None]:
    """Make the templates ready, one after another."""
    for name in _environment().list_templates(extensions=["html"]):
        _environment().get_template(name)
        yield


def colours(steps: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The colour of each step."""
    return {step["name"]: STEP_COLOURS[number % len(STEP_COLOURS)] for number, step in enumerate(steps)}


def seconds(value: float | None) -> str:
    """A duration for people: ``3.7 ms``, ``12.3 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if value is None or not math.isfinite(value):
        return ""
    value = max(0.0, value)
    if value < 0.1:
        return f"{value * 1000:.1f} ms"
    if value < 10:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600:02d} h"


def size(value: float | None) -> str:
    """A number of bytes for people."""
    if value is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def count(value: int) -> str:
    """A number for a narrow place."""
    return (
        f"{value:,}"
        if value < 100_000
        else f"{value / 1000:,.0f}k"
        if value < 10_000_000
        else f"{value / 1e6:,.0f}M"
    )


def short(name: str, longest: int = 22) -> str:
    """A name of which the middle is left out if it is too long: names that many have often differ at their ends."""
    half = longest // 2
    return name if len(name) <= longest else f"{name[: half - 1]}…{name[-half:]}"


def moment(value: float | None) -> str:
    """A time, in the zone of this machine."""
    try:
        return "" if value is None else f"{datetime.fromtimestamp(value):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return ""


def matches(head: dict[str, Any], words: Sequence[str]) -> bool:
    """Whether each of some words is part of what is known of a run."""
    if not words:
        return True
    parts = [
        f"{head['flow']}/{head['run']}",
        head["status"],
        head.get("user") or "",
        *(head.get("tags") or ()),
        head.get("reason") or "",
    ]
    text = " ".join(map(str, parts)).lower()
    return all(word in text for word in words)


def _part(name: str, **values: Any) -> str:
    """A part as it can be sent: half a surrogate pair, as in a tag that was no UTF-8, is a question mark."""
    text = _environment().get_template(name).render(values)
    return text.encode("utf-8", "replace").decode("utf-8")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("daskflow.dashboard"),
        autoescape=lambda name: name != "page.html",  # Bokeh hands it scripts that must not be escaped
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"seconds": seconds, "bytes": size, "count": count, "moment": moment}
    found.globals |= {"symbols": SYMBOLS}
    return found
