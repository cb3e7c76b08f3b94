"""The benchmarks still run; how long they take is nobody's business here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.times import Times

ROOT = Path(__file__).parents[1]


def benchmarks(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m benchmarks` with these words, without peers that have to be installed first."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", "daskflow", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_benchmark_runs_in_its_short_form_and_measures_something():
    done = benchmarks("--short", "--json")

    assert done.returncode == 0, done.stdout + done.stderr
    lines = json.loads(done.stdout)["lines"]
    assert [line["work"] for line in lines if line["ours"] is None] == []
    told = {name for name in done.stderr.split() if name != "..."}
    assert told == {
        path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def measure(" in path.read_text()
    }


def test_a_benchmark_that_is_not_there_is_named_with_those_that_are():
    done = benchmarks("--short", "wode")

    assert done.returncode == 2
    assert "no benchmark wode; there are imports, " in done.stderr


def test_a_slot_that_is_idle_while_another_has_a_queue_shows():
    fair = Times(((0, 1), (0, 2), (1, 2.5)))
    unfair = Times(((0, 1), (0, 1), (1, 2), (2, 3)))

    assert (fair.idle_at_the_end(2), fair.queued_at_the_end(2)) == (0.5, 0)
    assert (unfair.idle_at_the_end(2), unfair.queued_at_the_end(2)) == (2, 1)
