"""A cluster in a simulated EC2 until all its workers are there, beside dask-cloudprovider alone in the same simulation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Bench, printed, run_script, script
from benchmarks.table import Line, absolute

if TYPE_CHECKING:
    from benchmarks.harness import Measurement
    from benchmarks.sides import Side

WORKERS, SHORT_WORKERS = 4, 1
RUNS = 5
ROOT = Path(__file__).parents[1]


def measure(bench: Bench) -> list[Line]:
    """Seconds, and how often EC2 was asked."""
    workers = SHORT_WORKERS if bench.short else WORKERS
    ours, stock = bench.in_turn(
        RUNS, lambda side: start(side, workers, "daskflow"), lambda side: start(side, workers, "stock")
    )
    work = f"scheduler and {workers} workers in a simulated EC2"
    seconds, theirs = ours.found("seconds"), stock.found("seconds")
    more = None if seconds is None or theirs is None else seconds - theirs
    return [
        Line(work, "s", seconds, theirs, None, "dask-cloudprovider"),
        Line("what is beyond that", "s", more, None, absolute(1)),
        Line("calls of EC2", "", ours.found("calls"), None, absolute(2 * workers + 15)),
    ]


def start(side: Side, workers: int, who: str) -> Measurement:
    """Start such a cluster and end it."""
    return printed(run_script(side, script("ec2_start"), str(ROOT), str(workers), who))
