"""Items that sleep, on two slots: how far from the best possible schedule the run ends."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import times
from benchmarks.harness import Bench, Measurement, flow, run_flow
from benchmarks.table import Line, ratio

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.sides import Side

SLOTS = 2
RUNS = 3


@dataclass(frozen=True)
class Items:
    """How many items there are, and how long they sleep, in seconds."""

    count: int
    shortest: float
    longest: float
    seed: int = 6

    @property
    def options(self) -> tuple[str, ...]:
        """What tells the flow."""
        lengths = ("--shortest", str(self.shortest), "--longest", str(self.longest))
        return ("--items", str(self.count), *lengths, "--seed", str(self.seed))

    def best(self, slots: int) -> float:
        """Seconds that no schedule can beat."""
        numbers = random.Random(self.seed)  # as the flow draws them
        lengths = [numbers.uniform(self.shortest, self.longest) for _ in range(self.count)]
        return max(sum(lengths) / slots, *lengths)


EQUAL, RANDOM = Items(1000, 0.02, 0.02), Items(200, 0.05, 2)
SHORT_EQUAL, SHORT_RANDOM = Items(20, 0.02, 0.02), Items(10, 0.01, 0.1)


def measure(bench: Bench) -> list[Line]:
    """Seconds beyond start-up beside the ideal, and how long slots were idle in the end."""
    return [
        line
        for kind, items in (
            ("of {0.shortest} s", SHORT_EQUAL if bench.short else EQUAL),
            ("of {0.shortest} to {0.longest} s", SHORT_RANDOM if bench.short else RANDOM),
        )
        for line in lines_of(bench, f"{items.count:,} items {kind.format(items)}", items)
    ]


def lines_of(bench: Bench, work: str, items: Items) -> list[Line]:
    """The lines of one kind of items."""
    least = replace(items, count=1, shortest=0, longest=0)
    whole, start_up = bench.in_turn(
        RUNS, lambda side: run_sleep(side, items), lambda side: run_sleep(side, least)
    )
    beyond = None if whole.wall is None or start_up.wall is None else whole.wall - start_up.wall
    slots = f"on {SLOTS} slots"
    return [
        Line(f"{work} {slots}, beyond start-up", "s", beyond, items.best(SLOTS), ratio(1.05), "ideal"),
        Line("a slot idle in the end", "s", whole.found("idle")),
        Line("of that while another had a queue", "s", whole.found("queued")),
    ]


def run_sleep(side: Side, items: Items) -> Measurement:
    """Run the flow over these items."""
    options = (*items.options, "--max-workers", str(SLOTS))
    return run_flow(side, flow("sleep"), *options, inspect=partial(looked_at, side))


def looked_at(side: Side, store: Path, measurement: Measurement) -> Measurement:
    """See how the slots were used in the end."""
    found = times.read(side, store, "Sleep/1/work")
    idle, queued = found.idle_at_the_end(SLOTS), found.queued_at_the_end(SLOTS)
    return replace(measurement, found={"idle": idle, "queued": queued})
