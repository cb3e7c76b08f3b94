"""Twenty trivial steps, one after the other: what a step costs beyond start-up."""

from __future__ import annotations

from benchmarks.harness import Bench, run_flow
from benchmarks.table import Line, absolute, ratio

STEPS = 20
SHORT_STEPS = 4
FEWEST = 2  # a flow has a start and an end
RUNS = 3


def chain(steps: int) -> str:
    """The source of a flow whose steps follow each other and do nothing."""
    names = ["start", *(f"step_{number}" for number in range(1, steps - 1)), "end"]
    lines = ["from daskflow import FlowSpec, step", "", "", "class Chain(FlowSpec):"]
    for name, following in zip(names, [*names[1:], None], strict=True):
        body = f"self.next(self.{following})" if following else "pass"
        lines += ["    @step", f"    def {name}(self):", f"        {body}", ""]
    lines += ["", 'if __name__ == "__main__":', "    Chain()", ""]
    return "\n".join(lines)


def measure(bench: Bench) -> list[Line]:
    """Wall time of the chain, and the cost of each further step."""
    steps = SHORT_STEPS if bench.short else STEPS
    long, short = chain(steps), chain(FEWEST)
    ours, peer = bench.alternate(lambda side: run_flow(side, long), RUNS)
    start_up, peer_start_up = bench.alternate(lambda side: run_flow(side, short), RUNS)

    def each(whole: float | None, fewest: float | None) -> float | None:
        return None if whole is None or fewest is None else 1000 * (whole - fewest) / (steps - FEWEST)

    per_step = each(ours.wall, start_up.wall), each(peer.wall, peer_start_up.wall)
    return [
        Line(f"chain of {steps} steps", "s", ours.wall, peer.wall, ratio(0.2)),
        Line("a step of it, beyond start-up", "ms", *per_step, absolute(12)),
    ]
