"""The timeline as a figure of Bokeh's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskflow.dashboard.render import FAILED_COLOUR, short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bokeh.models import ColumnDataSource
    from bokeh.plotting import figure as Figure

MOST_LABELS, MOST_MARKED = 24, 200
_PATTERNS = {"failed": "/", "stopped": " ", "running": "."}
_TICKS = """
const two = number => String(Math.floor(number)).padStart(2, "0");
if (tick < 60) return `${Number(tick.toPrecision(4))} s`;
if (tick < 3600) return `${Math.floor(tick / 60)}:${two(tick % 60)} min`;
return `${Math.floor(tick / 3600)}:${two(tick % 3600 / 60)} h`;
"""


class Plot:
    """Bars in rows, seconds after the first of them began.

    Attributes
    ----------
    figure
        A root of the document, called ``timeline``.
    bars
        What it draws.
    """

    def __init__(self) -> None:
        from bokeh.models import (
            BasicTicker,
            ColumnDataSource,
            CustomJS,
            CustomJSTickFormatter,
            DataRange1d,
            FixedTicker,
            HoverTool,
            Range1d,
            TapTool,
        )  # fmt: skip
        from bokeh.plotting import figure

        self.bars: ColumnDataSource = ColumnDataSource(_columns({}, {}))
        self.figure: Figure = figure(
            name="timeline",
            height=80,
            sizing_mode="stretch_width",
            x_range=DataRange1d(start=0, range_padding=0.01, only_visible=True),
            y_range=Range1d(1, 0),
            tools="xbox_zoom,reset",
            active_drag="xbox_zoom",
            toolbar_location=None,
            output_backend="canvas",
            background_fill_color=None,
            border_fill_color=None,
            min_border_left=10,
            min_border_right=24,
        )
        self._marked: ColumnDataSource = ColumnDataSource(_marked({}))
        place = {"left": "left", "right": "right", "top": "top", "bottom": "bottom"}
        rectangles = self.figure.quad(
            **place, source=self.bars, fill_color="color", line_color=None, nonselection_fill_alpha=1.0
        )
        self.figure.quad(  # a pattern takes a browser as long as many bars: only few have one
            **place, source=self._marked, fill_color=None, line_color="edge", hatch_pattern="hatch",
            hatch_color="#000000", hatch_alpha=0.6, hatch_scale=6,
        )  # fmt: skip
        hover = HoverTool(
            renderers=[rectangles],
            tooltips=[
                ("task", "@step @task"),
                ("state", "@state"),
                ("took", "@took{0.000} s"),
                ("tasks", "@count"),
            ],
        )
        self.figure.add_tools(hover, TapTool(renderers=[rectangles]))
        whole = CustomJS(args={"figure": self.figure}, code="figure.reset.emit()")
        self.figure.js_on_event("doubletap", whole)
        self.figure.ygrid.grid_line_color = None
        self.figure.xaxis.ticker = BasicTicker(desired_num_ticks=10)
        self.figure.xaxis.formatter = CustomJSTickFormatter(code=_TICKS)
        self.figure.yaxis.ticker = FixedTicker(ticks=[])
        self._names: list[str] = []

    def show(self, timeline: Mapping[str, Any], colours: Mapping[str, str]) -> None:
        """Draw what :meth:`RunModel.timeline` says."""
        names = timeline["rows"]
        if names != self._names:
            self._names = list(names)
            self.figure.height = min(56 + 24 * max(len(names), 1), 420)
            self.figure.y_range.start, self.figure.y_range.end = len(names) or 1, 0
            every = len(names) // MOST_LABELS + 1
            ticks = [number + 0.5 for number in range(0, len(names), every)]
            self.figure.yaxis.ticker.ticks = ticks
            self.figure.yaxis.major_label_overrides = {tick: short(names[int(tick)], 28) for tick in ticks}
        self.bars.data = _columns(timeline, colours)
        self._marked.data = _marked(self.bars.data)


def _columns(timeline: Mapping[str, Any], colours: Mapping[str, str]) -> dict[str, Any]:
    import numpy

    begin = numpy.array(timeline.get("begin", ()), dtype="float64")
    end = numpy.array(timeline.get("end", ()), dtype="float64")
    row = numpy.array(timeline.get("row", ()), dtype="float64")
    first = begin.min() if len(begin) else 0.0
    steps, states = timeline.get("step", []), timeline.get("state", [])
    return {
        "left": begin - first,
        "right": end - first,
        "top": row + 0.1,
        "bottom": row + 0.9,
        "took": end - begin,
        "color": [colours.get(step, "#BBBBBB") for step in steps],
        "step": list(steps),
        "state": list(states),
        "task": list(timeline.get("task", ())),
        "count": list(timeline.get("count", ())),
    }


def _marked(bars: Mapping[str, Any]) -> dict[str, Any]:
    """The bars of what failed and of what runs."""
    states = bars.get("state", ())
    places = [place for place, state in enumerate(states) if state in _PATTERNS][-MOST_MARKED:]
    found: dict[str, Any] = {
        name: [bars[name][place] for place in places] if places else []
        for name in ("left", "right", "top", "bottom")
    }
    shown = [states[place] for place in places]
    return found | {
        "hatch": [_PATTERNS[state] for state in shown],
        "edge": [FAILED_COLOUR if state != "running" else None for state in shown],
    }
