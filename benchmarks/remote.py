"""A cluster that was there before, beside one that is made for the run; and what its scheduler has to bear from the page."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.harness import Bench, Measurement, flow, run_flow
from benchmarks.scheduler import cluster
from benchmarks.table import Line, absolute, ratio, scaled
from benchmarks.watched import run_watched

if TYPE_CHECKING:
    from benchmarks.sides import Side

WORKERS, SLOTS = 2, 1
ITEMS, SHORT_ITEMS = 1_000, 20
ALONE, SHORT_ALONE = 10_000, 20
RUNS, WATCHED_RUNS = 15, 3


def measure(bench: Bench) -> list[Line]:
    """A short run there and here; how long the scheduler stands still at most while tasks are watched, or nobody looks."""
    if bench.ours is None:
        return []
    items, alone = (SHORT_ITEMS, SHORT_ALONE) if bench.short else (ITEMS, ALONE)
    source, options = flow("wide"), ("--items", str(items))
    with cluster(bench.ours, WORKERS, SLOTS) as there:
        remote, local = bench.in_turn(
            RUNS,
            lambda side: run_flow(side, source, *options, "--cluster", there.address),
            lambda side: run_flow(side, source, *options, "--max-workers", str(WORKERS * SLOTS)),
        )
    opened, closed = bench.in_turn(
        WATCHED_RUNS,
        lambda side: longest_pause(side, alone, "open"),
        lambda side: longest_pause(side, alone, "closed"),
    )
    pauses = (scaled(sample.found("pause"), 0.001) for sample in (opened, closed))
    work = f"foreach of {items:,} items on {WORKERS} workers of a scheduler that runs"
    return [
        Line(work, "s", remote.wall, local.wall, ratio(1.3), "a cluster of its own"),
        Line(
            f"longest pause of the scheduler, {alone:,} items, the page open",
            "ms",
            *pauses,
            absolute(50),
            "page closed",
        ),
    ]


def longest_pause(side: Side, items: int, how: str) -> Measurement:
    """Run the flow on a new cluster, with its page open or closed."""
    with cluster(side, WORKERS, SLOTS) as there:
        measurement = run_watched(side, items, how, "--cluster", there.address)
        return replace(measurement, found=measurement.found | {"pause": there.longest_pause()})
