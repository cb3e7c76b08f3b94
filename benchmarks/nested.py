"""A foreach of 100 within one of 100, beside a flat one of 10,000."""

from __future__ import annotations

from benchmarks.harness import Bench, flow, run_flow
from benchmarks.table import Line, ratio

WIDTH = 100
SHORT_WIDTH = 4
RUNS = 5


def measure(bench: Bench) -> list[Line]:
    """Wall time of both runs."""
    width = SHORT_WIDTH if bench.short else WIDTH
    items = width**2
    nested, flat = bench.in_turn(
        RUNS,
        lambda side: run_flow(side, flow("nested"), "--width", str(width)),
        lambda side: run_flow(side, flow("wide"), "--items", str(items)),
    )
    work = f"foreach of {width} x {width}"
    return [Line(work, "s", nested.wall, flat.wall, ratio(1.2), f"flat, {items:,}")]
