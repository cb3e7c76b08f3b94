"""A foreach over a thousand trivial items, beside Metaflow and beside Dask alone, which keeps nothing."""

from __future__ import annotations

from benchmarks.harness import Bench, flow, run_flow, run_script, script
from benchmarks.table import Line, ratio

ITEMS = 1000
SHORT_ITEMS = 5
RUNS = 1  # the peer takes minutes
DASK_RUNS = 5


def measure(bench: Bench) -> list[Line]:
    """Wall time of the whole run."""
    items = str(SHORT_ITEMS if bench.short else ITEMS)
    # The peer refuses more than 100 items unless told otherwise.
    options = ("--items", items, "--max-num-splits", items)
    source = flow("foreach")
    ours, peer = bench.alternate(lambda side: run_flow(side, source, *options), RUNS)
    again, bare = bench.in_turn(
        DASK_RUNS,
        lambda side: run_flow(side, source, *options),
        lambda side: run_script(side, script("bare_dask"), items),
    )
    work = f"foreach of {items} items"
    return [
        Line(work, "s", ours.wall, peer.wall, ratio(0.01)),
        Line(work, "s", again.wall, bare.wall, ratio(0.5), "client.map, nothing kept"),
    ]
