"""Each example is short, and runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from daskflow import Run

EXAMPLES = Path(__file__).parents[2] / "examples"
ROOT = str(EXAMPLES.parent)


def run(name: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), "--datastore", "store", "run", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": ROOT, "DASKFLOW_USER": "ada"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["hello.py", "branch.py", "foreach.py", "parameters.py"])
def test_a_small_example_is_small_and_runs(name: str, tmp_path: Path):
    assert len((EXAMPLES / name).read_text().splitlines()) < 40

    assert "Done!" in run(name, tmp_path)


def test_the_flights_of_2013_are_analysed(tmp_path: Path):
    out = run("flight_delays.py", tmp_path)

    assert "336,776 flights" in out
    assert "pandas.read_parquet(" in out
    found = Run("FlightDelays/1", store=str(tmp_path / "store"))
    summary = found.data.summary
    assert len(summary) == 14
    assert summary.set_index("carrier").mean_delay["F9"] == pytest.approx(20.2, abs=0.1)
    task = found["fit"]["4"]
    assert 0 < task.data.score < 1
    assert set(task.artifacts.residuals.data.columns) >= {"predicted", "residual"}
    assert task.artifacts.coefficients.encoding == "parquet"
