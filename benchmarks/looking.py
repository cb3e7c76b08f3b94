"""Looking at a store in a browser: the list of a thousand runs, and a run of ten thousand tasks."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.harness import SCRIPTS, Bench, Measurement, flow, printed, run_command, run_flow
from benchmarks.table import Line, absolute, scaled

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.sides import Side

RUNS, TASKS = 1_000, 10_000
SHORT_RUNS, SHORT_TASKS = 3, 10


def measure(bench: Bench) -> list[Line]:
    """Seconds until the page shows them."""
    runs, tasks = (SHORT_RUNS, SHORT_TASKS) if bench.short else (RUNS, TASKS)
    few, many = bench.in_turn(
        1,
        lambda side: run_flow(side, flow("wide"), "--items", "1", inspect=partial(listed, side, runs)),
        lambda side: run_flow(
            side, flow("wide"), "--items", str(tasks), "--chunk", "1", inspect=partial(opened, side, tasks)
        ),
    )
    return [
        Line(f"ui: list of {runs:,} runs, complete", "s", few.found("there"), None, absolute(1)),
        Line(
            f"ui: first paint of a run of {tasks:,} tasks",
            "s",
            scaled(many.found("paint"), 1e3),
            None,
            absolute(1.5),
        ),
        Line("ui: all of its tasks are counted", "s", many.found("there"), None, None),
    ]


def listed(side: Side, runs: int, store: Path, measurement: Measurement) -> Measurement:
    """Make many runs of one, and list them."""
    for number in range(2, runs + 1):
        shutil.copytree(store / "Wide" / "1", store / "Wide" / str(number))
    return looked_at(side, store, measurement, "", f".df-chip:has-text('successful {runs:,}')")


def opened(side: Side, tasks: int, store: Path, measurement: Measurement) -> Measurement:
    """Open the page of the run."""
    there = f"#df-done:has-text('{tasks + 3:,} of {tasks + 3:,}')"
    return looked_at(side, store, measurement, "?flow=Wide&run=1&step=work", there)


def looked_at(side: Side, store: Path, measurement: Measurement, query: str, selector: str) -> Measurement:
    """What a browser takes to show something."""
    words = [str(side.python), str(SCRIPTS / "looking.py"), str(store), query, selector]
    seen = printed(run_command(words, store.parent, side.environment(store.parent, store)))
    return replace(measurement, found=seen.found)
