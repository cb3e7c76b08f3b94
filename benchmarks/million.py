"""A foreach over a million trivial items, beside one over a hundred thousand."""

from __future__ import annotations

from benchmarks.harness import Bench, Sample, each
from benchmarks.table import Line, absolute, ratio
from benchmarks.wide import run_wide

MANY, FEWER = 1_000_000, 100_000
SHORT_MANY, SHORT_FEWER = 200, 20
RUNS = 1


def measure(bench: Bench) -> list[Line]:
    """Time of an item beyond start-up in both, and by how much the driver grows with each further item."""
    many, fewer = (SHORT_MANY, SHORT_FEWER) if bench.short else (MANY, FEWER)
    large, small, start_up = bench.in_turn(
        RUNS,
        lambda side: run_wide(side, many),
        lambda side: run_wide(side, fewer),
        lambda side: run_wide(side, 1),
    )

    def item(sample: Sample, items: int) -> float | None:
        return each(sample.wall, start_up.wall, items, 1000)

    beside = f"{fewer:,} items"
    return [
        Line(f"foreach of {many:,} items", "s", large.wall, small.wall, beside=beside),
        Line(
            "an item of it, beyond start-up", "ms", item(large, many), item(small, fewer), ratio(1.5), beside
        ),
        Line(
            "the driver's peak, more for each further item",
            "bytes",
            each(large.own_peak, small.own_peak, many - fewer),
            None,
            absolute(300),
        ),
        Line(
            "its join, sum(i.x for i in inputs)", "s", large.found("join"), small.found("join"), beside=beside
        ),
        Line("files in its run's folder", "", large.found("files"), small.found("files"), beside=beside),
    ]
