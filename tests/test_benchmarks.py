"""The benchmarks still run; how long they take is nobody's business here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_benchmark_runs_in_its_short_form():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--short", "--only", "daskflow"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "foreach" in done.stdout
