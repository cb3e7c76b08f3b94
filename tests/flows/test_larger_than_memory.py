"""A Dask DataFrame eight times as large as the memory of the workers that write and read it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

PARTS, ROWS, COLUMNS = 256, 250_000, 8
GIGABYTE = 10**9
LIMIT = 500 * 10**6
"""Bytes of memory for each of two workers: an eighth of the frame."""

LARGE = f"""
    import os

    from daskflow import FlowSpec, resources, step


    def part(number):
        import numpy as np
        import pandas as pd

        random = np.random.default_rng(number)
        columns = {{f"x{{n}}": random.standard_normal({ROWS}) for n in range({COLUMNS})}}
        return pd.DataFrame(columns, index=np.arange(number * {ROWS}, (number + 1) * {ROWS}))


    class Large(FlowSpec):
        @resources(cpu=2, memory={2 * LIMIT / 1e6})
        @step
        def start(self):
            import dask.dataframe as dd

            self.large = dd.from_map(part, range({PARTS}))
            self.next(self.change)

        @resources(cpu=2, memory={2 * LIMIT / 1e6})
        @step
        def change(self):
            self.changed = self.large.assign(total=self.large.x0 + self.large.x1)[["x0", "x1", "total"]]
            self.next(self.end)

        @resources(cpu=2, memory={2 * LIMIT / 1e6})
        @step
        def end(self):
            difference = self.changed.total - self.changed.x0 - self.changed.x1
            self.rows, self.worst = len(self.changed), float(difference.abs().max().compute())


    if __name__ == "__main__":
        Large()
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_frame_of_eight_times_the_memory_passes_through_three_steps(workspace):
    place = workspace()
    needed = 2 * PARTS * ROWS * COLUMNS * 8
    free = shutil.disk_usage(place.folder).free
    if free < needed:
        pytest.skip(f"it takes {needed / GIGABYTE:.0f} GB of disk, {free / GIGABYTE:.0f} GB are free")
    assert PARTS * ROWS * COLUMNS * 8 > 8 * LIMIT

    try:
        flow = place.write(LARGE)
        with place.start("flow.py", "run", stdout=subprocess.PIPE) as process:
            out, err = process.communicate()
        result = place.result(process, flow, out, err)

        assert result.returncode == 0, result.text
        assert result.value("end", "rows") == PARTS * ROWS
        assert result.value("end", "worst") < 1e-12
        info = result.record("change").artifacts["changed"].info
        assert (info["npartitions"], info["rows"]) == (PARTS, PARTS * ROWS)
        peaks = [result.record(step).process["max_rss"] for step in ("start", "change", "end")]
        assert max(peaks) < LIMIT, "a step's own process had more than a part of it"
    finally:
        shutil.rmtree(place.folder / "store", ignore_errors=True)
