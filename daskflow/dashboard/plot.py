"""The timeline as a plot of Bokeh's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskflow.dashboard.render import FAILED_COLOUR, short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bokeh.models import ColumnDataSource, Grid, LinearAxis
    from bokeh.models import Plot as BokehPlot

MOST_LABELS, MOST_MARKED = 24, 200
_PATTERNS = {"failed": "/", "stopped": " ", "lost": "x", "running": "."}
_TICKS = """
const {start, end} = cb_data.range, least = (end - start) / 11, days = 86400;
const known = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, days];
const unit = least > days ? days : 1, power = unit * 10 ** Math.floor(Math.log10(least / unit));
const round = least > 1 && least <= days ? known : [power, 2 * power, 5 * power, 10 * power];
const step = round.find(each => each >= least), ticks = [];
for (let place = Math.ceil(start / step); place * step <= end; place++) ticks.push(place * step);
return ticks;
"""
_LABELS = """
const rounded = Number(tick.toFixed(3));
if (rounded < 60) return `${Number(tick.toPrecision(6))} s`;
const second = Number((rounded % 60).toFixed(3)), minute = Math.floor(rounded / 60) % 60;
const hour = Math.floor(rounded / 3600) % 24, day = Math.floor(rounded / 86400);
const seconds = second ? (second < 10 ? ":0" : ":") + second : "";
if (rounded < 3600) return `${minute}${seconds} min`;
const minutes = minute || second ? ":" + String(minute).padStart(2, "0") : "";
const clock = `${hour}${minutes}${seconds}`;
return [day ? `${day} d` : "", day && clock === "0" ? "" : `${clock} h`].join(" ").trim();
"""


class Plot:
    """Bars in rows, seconds after the first of them began.

    Attributes
    ----------
    plot
        A root of the document, called ``timeline``.
    bars
        What it draws.
    time, rows, grid
        Its axes and lines.
    """

    def __init__(self) -> None:
        from bokeh.models import (
            BoxZoomTool,
            ColumnDataSource,
            CustomJS,
            CustomJSTicker,
            CustomJSTickFormatter,
            DataRange1d,
            FixedTicker,
            GlyphRenderer,
            Grid,
            HoverTool,
            LinearAxis,
            Plot,
            Quad,
            Range1d,
            ResetTool,
            TapTool,
            Toolbar,
        )  # fmt: skip

        self.bars: ColumnDataSource = ColumnDataSource(_columns({}, {}))
        self._marked: ColumnDataSource = ColumnDataSource(_marked({}))
        place = {"left": "left", "right": "right", "top": "top", "bottom": "bottom"}
        rectangles = GlyphRenderer(
            data_source=self.bars,
            glyph=Quad(**place, fill_color="color", line_color=None),
            nonselection_glyph=None,  # as all others are drawn
        )
        marks = GlyphRenderer(  # a pattern takes a browser as long as many bars: only few have one
            data_source=self._marked,
            glyph=Quad(
                **place, fill_color=None, line_color="edge", hatch_pattern="hatch",
                hatch_color="#000000", hatch_alpha=0.6, hatch_scale=6,
            ),
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
        zoom = BoxZoomTool(dimensions="width")
        self.time: LinearAxis = LinearAxis(
            ticker=CustomJSTicker(major_code=_TICKS), formatter=CustomJSTickFormatter(code=_LABELS)
        )
        self.rows: LinearAxis = LinearAxis(ticker=FixedTicker(ticks=[]))
        self.grid: Grid = Grid(axis=self.time)
        self.plot: BokehPlot = (
            Plot(  # bokeh.plotting.figure makes half as many models again, and takes as much longer
                name="timeline",
                height=80,
                sizing_mode="stretch_width",
                title=None,
                x_range=DataRange1d(start=0, range_padding=0.01, only_visible=True),
                y_range=Range1d(1, 0),
                renderers=[rectangles, marks],
                below=[self.time],
                left=[self.rows],
                center=[self.grid],
                toolbar=Toolbar(
                    tools=[zoom, ResetTool(), hover, TapTool(renderers=[rectangles])], active_drag=zoom
                ),
                toolbar_location=None,
                output_backend="canvas",
                background_fill_color=None,
                border_fill_color=None,
                min_border_left=10,
                min_border_right=24,
            )
        )
        self.plot.js_on_event("doubletap", CustomJS(args={"plot": self.plot}, code="plot.reset.emit()"))
        self._names: list[str] = []

    def show(self, timeline: Mapping[str, Any], colours: Mapping[str, str]) -> None:
        """Draw what :meth:`RunModel.timeline` says."""
        names = timeline["rows"]
        if names != self._names:
            self._names = list(names)
            self.plot.height = min(56 + 24 * max(len(names), 1), 420)
            self.plot.y_range.start, self.plot.y_range.end = len(names) or 1, 0
            every = len(names) // MOST_LABELS + 1
            ticks = [number + 0.5 for number in range(0, len(names), every)]
            self.rows.ticker.ticks = ticks
            self.rows.major_label_overrides = {tick: short(names[int(tick)], 28) for tick in ticks}
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
