"""Three trivial steps: what a run costs before it does anything."""

from __future__ import annotations

from benchmarks.harness import Bench, flow, run_flow
from benchmarks.table import Line, absolute, ratio, scaled

LIBRARIES = "import pandas\nimport pyarrow\n"
RUNS = 7
MEGABYTE = 1e6


def measure(bench: Bench) -> list[Line]:
    """Wall time of the hello flow, plain and with large libraries imported, and the driver's peak memory."""
    hello = flow("hello")
    plain, plain_peer = bench.alternate(lambda side: run_flow(side, hello), RUNS)
    loaded, loaded_peer = bench.alternate(lambda side: run_flow(side, LIBRARIES + hello), RUNS)
    # The largest process of a plain hello run is the driver: its tasks load less than it does.
    peaks = scaled(plain.peak, MEGABYTE), scaled(plain_peer.peak, MEGABYTE)
    return [
        Line("hello, 3 steps", "s", plain.wall, plain_peer.wall, ratio(0.6)),
        Line("hello, importing pandas and pyarrow", "s", loaded.wall, loaded_peer.wall, ratio(0.35)),
        Line("hello, peak memory of the driver", "MB", *peaks, absolute(150)),
    ]
