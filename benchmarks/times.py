"""When the tasks of a step ran, from their records, and what follows from that."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.harness import SCRIPTS

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.sides import Side


@dataclass(frozen=True)
class Times:
    """When each task started and finished, in seconds of the epoch."""

    spans: tuple[tuple[float, float], ...]

    @property
    def first_start(self) -> float:
        """When the first one started."""
        return min(start for start, _ in self.spans)

    @property
    def last_end(self) -> float:
        """When the last one finished."""
        return max(end for _, end in self.spans)

    @property
    def total(self) -> float:
        """The seconds that all of them took together."""
        return sum(end - start for start, end in self.spans)

    def last_busy(self, slots: int) -> float:
        """When so many of them ran at once for the last time; the first start if they never did."""
        # Of events at the same moment an end comes first: what follows it is in the same slot.
        events = sorted([(start, 1) for start, _ in self.spans] + [(end, -1) for _, end in self.spans])
        running, last = 0, self.first_start
        for moment, change in events:
            if running >= slots:
                last = moment
            running += change
        return last

    def idle_at_the_end(self, slots: int) -> float:
        """Seconds of the end in which not all slots were busy."""
        return self.last_end - self.last_busy(slots)

    def queued_at_the_end(self, slots: int) -> float:
        """Seconds of the end in which a slot was idle while tasks were still to start in another."""
        return max(0.0, max(start for start, _ in self.spans) - self.last_busy(slots))


def read(side: Side, store: Path, step: str) -> Times:
    """The times of a step's tasks.

    The client reads them, in a process of its own: this one has to stay small.

    Args:
        side: the side that is this project.
        store: where the run is.
        step: `Flow/run/step`.
    """
    done = subprocess.run(
        [str(side.python), str(SCRIPTS / "records.py"), str(store), step],
        env=side.environment(store, store),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Times(tuple((start, end) for start, end in json.loads(done.stdout)))
