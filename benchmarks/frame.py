"""A frame of five million rows and eight columns: set in one step, changed in the next, read in the third.

The peak memory of a task is that of the largest process among the run's: the driver holds no frame.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.harness import Bench, Measurement, Sample, flow, run_flow
from benchmarks.table import Line, absolute, ratio, scaled

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.sides import Side

ROWS = 5_000_000
SHORT_ROWS = 1_000
RUNS = 3
NEW_KILOBYTES = 64  # a record differs by some bytes from run to run; a column would be megabytes


def measure(bench: Bench) -> list[Line]:
    """Wall time, stored bytes and peak memory; then what a step that only reads a column adds."""
    rows = str(SHORT_ROWS if bench.short else ROWS)
    changed = flow("frame_changed")
    ours, peer = bench.alternate(lambda side: run_frame(side, changed, "--rows", rows), RUNS)
    work = f"frame of {int(rows):,} x 8, set, changed, read"
    lines = [
        Line(work, "s", ours.wall, peer.wall, ratio(0.25)),
        Line("its bytes in the store", "MB", scaled(ours.stored, 1e6), scaled(peer.stored, 1e6), ratio(1)),
        Line(
            "its task's peak memory, in frames", "x", peak_in_frames(ours), peak_in_frames(peer), absolute(3)
        ),
    ]

    read = flow("frame_read")
    one, peer_one = bench.alternate(lambda side: run_frame(side, read, "--rows", rows, "--look", "True"), 1)
    none, peer_none = bench.alternate(
        lambda side: run_frame(side, read, "--rows", rows, "--look", "False"), 1
    )
    grown = growth(one, none), growth(peer_one, peer_none)
    return [*lines, Line("new bytes when a step reads one column", "kB", *grown, absolute(NEW_KILOBYTES))]


def run_frame(side: Side, source: str, *options: str) -> Measurement:
    """Run a flow of frames; the peak is that of its largest task where the store knows better."""
    return run_flow(side, source, *options, helpers=("eight_columns",), inspect=with_task_peak)


def with_task_peak(store: Path, measurement: Measurement) -> Measurement:
    """Take the peaks that daskflow records for its tasks: their processes may not be waited for by the driver."""
    records = (json.loads(path.read_text()) for path in store.rglob("task.json"))
    peaks = [(record.get("process") or {}).get("max_rss") or 0 for record in records]
    return replace(measurement, peak=max([measurement.peak, *peaks]))


def frame_bytes(measurement: Measurement) -> int:
    """The size of the frame in memory, which the flow prints.

    Raises:
        ValueError: if the run printed no such line.
    """
    found = re.search(r"frame_bytes=(\d+)", measurement.output)
    if found is None:
        raise ValueError(f"The run printed no frame_bytes=N, only:\n{measurement.output[-2000:]}")
    return int(found[1])


def peak_in_frames(sample: Sample) -> float | None:
    """The median peak of a task as a multiple of the frame's own size."""
    return sample.median(lambda measurement: measurement.peak / frame_bytes(measurement))


def growth(look: Sample, skip: Sample) -> float | None:
    """By how many kilobytes the store of one run is larger than that of the other."""
    if look.stored is None or skip.stored is None:
        return None
    return (look.stored - skip.stored) / 1e3
