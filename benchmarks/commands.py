"""Commands that only look at the flow."""

from __future__ import annotations

from functools import partial

from benchmarks.harness import Bench, flow, run_flow
from benchmarks.table import Line, absolute, scaled

RUNS = 11
COMMANDS = ("check", "show")


def measure(bench: Bench) -> list[Line]:
    """Wall time of each."""
    hello = flow("hello")
    lines = []
    for name in COMMANDS:
        ours, peer = bench.alternate(partial(run_flow, source=hello, command=name), RUNS)
        times = scaled(ours.wall, 1e-3), scaled(peer.wall, 1e-3)
        lines.append(Line(f"python flow.py {name}", "ms", *times, absolute(150)))
    return lines
