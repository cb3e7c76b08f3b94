"""A foreach of ten thousand items, each with a process of its own, while its page in the dashboard is open or not."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Bench, Measurement, flow, printed, run_command, script
from benchmarks.table import Line, absolute, ratio, scaled

if TYPE_CHECKING:
    from benchmarks.sides import Side

ITEMS, SHORT_ITEMS = 10_000, 100
SLOTS = 2
RUNS = 3
MEGABYTE = 1e6


def measure(bench: Bench) -> list[Line]:
    """Seconds with the page open beside those with the page closed, and without a dashboard; what the page was sent."""
    items = SHORT_ITEMS if bench.short else ITEMS
    watched, alone, without = bench.in_turn(
        RUNS,
        lambda side: run_watched(side, items, "open"),
        lambda side: run_watched(side, items, "closed"),
        lambda side: run_watched(side, items, "closed", "--no-dashboard"),
    )
    work = f"{items:,} items of a process each"
    seconds = alone.found("seconds")
    sent = scaled(watched.found("bytes"), MEGABYTE)
    more = None if watched.peak is None or without.peak is None else watched.peak - without.peak
    return [
        Line(f"{work}, the page open", "s", watched.found("seconds"), seconds, ratio(1.05), "page closed"),
        Line(f"{work}, the page closed", "s", seconds, without.found("seconds"), None, "--no-dashboard"),
        Line("what the page is sent meanwhile", "MB", sent),
        Line("memory that page and plugin take", "MB", scaled(more, MEGABYTE), None, absolute(60)),
    ]


def run_watched(side: Side, items: int, how: str, *options: str) -> Measurement:
    """Run the flow, with its page open or closed."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        for file, text in {"watched.py": script("watched"), "flow.py": flow("wide")}.items():
            (folder / file).write_text(text)
        words = ("run", "--items", str(items), "--chunk", "1", "--max-workers", str(SLOTS), *options)
        command = side.command(folder / "flow.py", folder / "store", words)
        watched = [str(side.python), str(folder / "watched.py"), how, *command]
        return printed(run_command(watched, folder, side.environment(folder, folder)))
