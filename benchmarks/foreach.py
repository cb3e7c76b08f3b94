"""A foreach over a thousand trivial items."""

from __future__ import annotations

from benchmarks.harness import Bench, flow, run_flow
from benchmarks.table import Line, ratio

ITEMS = 1000
SHORT_ITEMS = 5
RUNS = 1  # the peer takes minutes


def measure(bench: Bench) -> list[Line]:
    """Wall time of the whole run."""
    items = str(SHORT_ITEMS if bench.short else ITEMS)
    # The peer refuses more than 100 items unless told otherwise.
    options = ("--items", items, "--max-num-splits", items)
    source = flow("foreach")
    ours, peer = bench.alternate(lambda side: run_flow(side, source, *options), RUNS)
    return [Line(f"foreach of {items} items", "s", ours.wall, peer.wall, ratio(0.05))]
