"""What `import daskflow` costs, and what it loads."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Bench, Measurement, run_command
from benchmarks.table import Line, absolute

if TYPE_CHECKING:
    from benchmarks.sides import Side

RUNS = 21
HEAVY = ("bokeh", "click", "dask", "distributed", "fsspec", "numpy", "pandas", "polars", "pyarrow", "rich")
IMPORT = "import {name}, sys; print(*(m for m in {heavy!r} if m in sys.modules))"


def measure(bench: Bench) -> list[Line]:
    """Milliseconds beyond an empty program, and how many large libraries were loaded."""
    empty, peer_empty = bench.alternate(lambda side: run_code(side, "pass"), RUNS)
    ours, peer = bench.alternate(
        lambda side: run_code(side, IMPORT.format(name=side.name, heavy=HEAVY)), RUNS
    )

    def beyond(loaded: float | None, nothing: float | None) -> float | None:
        return None if loaded is None or nothing is None else 1000 * (loaded - nothing)

    times = beyond(ours.wall, empty.wall), beyond(peer.wall, peer_empty.wall)
    loaded = ours.median(libraries_loaded), peer.median(libraries_loaded)
    names = ", ".join(sorted({name for run in ours.measurements for name in run.output.split()}))
    return [
        Line("import, beyond python -c pass", "ms", *times, absolute(50)),
        Line(f"large libraries it loads{f' ({names})' if names else ''}", "", *loaded, absolute(0)),
    ]


def libraries_loaded(measurement: Measurement) -> int:
    """How many names the program printed."""
    return len(measurement.output.split())


def run_code(side: Side, code: str) -> Measurement:
    """Run one line of Python in the side's interpreter."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        return run_command([str(side.python), "-c", code], folder, side.environment(folder, folder))
