"""A foreach over a hundred thousand trivial items: time, files, the driver's memory, and the join over all of them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import times
from benchmarks.harness import Bench, Measurement, each, flow, run_flow
from benchmarks.table import Line, absolute, scaled

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.sides import Side

ITEMS = 100_000
SHORT_ITEMS = 60
RUNS = 3
MEGABYTE = 1e6
RUN = "Wide/1"


def measure(bench: Bench) -> list[Line]:
    """Time of an item beyond start-up, what is left on disk, the driver's peak memory, seconds of the join."""
    items = SHORT_ITEMS if bench.short else ITEMS
    whole, start_up = bench.in_turn(RUNS, lambda side: run_wide(side, items), lambda side: run_wide(side, 1))
    work = f"foreach of {items:,} items"
    return [
        Line(
            f"{work}, an item beyond start-up",
            "ms",
            each(whole.wall, start_up.wall, items, 1000),
            None,
            absolute(0.25),
        ),
        Line("files in its run's folder", "", whole.found("files"), None, absolute(500)),
        Line("its driver's peak memory", "MB", scaled(whole.own_peak, MEGABYTE), None, absolute(300)),
        Line("its join, sum(i.x for i in inputs)", "s", whole.found("join"), None, absolute(1.5)),
    ]


def run_wide(side: Side, items: int) -> Measurement:
    """Run the flow over so many items."""
    return run_flow(side, flow("wide"), "--items", str(items), inspect=partial(looked_at, side))


def looked_at(side: Side, store: Path, measurement: Measurement) -> Measurement:
    """Count the run's files, and see how long its join took."""
    files = sum(path.is_file() for path in (store / RUN).rglob("*"))
    join = times.read(side, store, f"{RUN}/join").total
    return replace(measurement, found={"files": files, "join": join})
