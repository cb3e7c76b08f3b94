"""Items that have a process each, in a flow that imports pandas, beside what forking alone costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.harness import Bench, Measurement, each, flow, printed, run_flow, run_script, script
from benchmarks.table import Line, ratio

if TYPE_CHECKING:
    from benchmarks.sides import Side

ITEMS = 1000
SHORT_ITEMS = 6
SLOTS = 2
RUNS = 3
PANDAS = "import pandas\n"


def measure(bench: Bench) -> list[Line]:
    """Milliseconds of an item, beyond start-up on both sides."""
    items = SHORT_ITEMS if bench.short else ITEMS
    whole, start_up, bare = bench.in_turn(
        RUNS,
        lambda side: run_isolated(side, items),
        lambda side: run_isolated(side, 1),
        lambda side: run_bare(side, items),
    )
    item = each(whole.wall, start_up.wall, items, 1000)
    step, nothing = (each(bare.found(name), 0, items, 1000) for name in ("step", "nothing"))
    work = f"one of {items:,} isolated items, beyond start-up"
    return [
        Line(work, "ms", item, step, ratio(1.5), "zygote, no-op step"),
        Line("the same", "ms", item, nothing, None, "zygote, no step"),
    ]


def run_isolated(side: Side, items: int) -> Measurement:
    """Run the flow with a process for each item."""
    options = ("--items", str(items), "--isolate", "--max-workers", str(SLOTS))
    return run_flow(side, PANDAS + flow("wide"), *options)


def run_bare(side: Side, items: int) -> Measurement:
    """Fork as often, and no more."""
    beside = {"noop.py": PANDAS + flow("noop")}
    return printed(run_script(side, script("bare_zygote"), str(items), str(SLOTS), beside=beside))
