"""Looking at a run of a hundred thousand items, each time in a new process."""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.harness import SCRIPTS, Bench, Measurement, RunFailed, flow, printed, run_command, run_flow
from benchmarks.table import Line, absolute, scaled

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.sides import Side

ITEMS = 100_000
SHORT_ITEMS = 60
LOOKS = 5
STEP = "Wide/1/work"


def measure(bench: Bench) -> list[Line]:
    """Seconds until all tasks are listed, milliseconds until the first artifact is there."""
    items = SHORT_ITEMS if bench.short else ITEMS
    looks = 1 if bench.short else bench.runs or LOOKS
    [sample] = bench.in_turn(
        1,
        lambda side: run_flow(
            side, flow("wide"), "--items", str(items), inspect=partial(looked_at, side, items, looks)
        ),
    )
    first = scaled(sample.found("first"), 1e-3)
    return [
        Line(f"client: list all of {items:,} tasks", "s", sample.found("list"), None, absolute(2)),
        Line("client: the first artifact of one of them", "ms", first, None, absolute(50)),
    ]


def looked_at(side: Side, items: int, looks: int, store: Path, measurement: Measurement) -> Measurement:
    """Look at the run, several times, by turns."""
    task = items * 3 // 4
    wanted = {"list": (STEP, items), "first": (f"{STEP}/{task}", task)}
    took: dict[str, list[float]] = {what: [] for what in wanted}
    for _ in range(looks):
        for what, (pathspec, answer) in wanted.items():
            words = [str(side.python), str(SCRIPTS / "client.py"), what, str(store), pathspec]
            found = printed(run_command(words, store.parent, side.environment(store.parent, store))).found
            if found["found"] != answer:
                raise RunFailed(f"the client found {found['found']:g} in {pathspec}, not {answer}")
            took[what].append(found[what])
    return replace(measurement, found={what: statistics.median(each) for what, each in took.items()})
