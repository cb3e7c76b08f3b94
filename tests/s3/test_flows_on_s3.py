"""Whole flows on a store in a bucket: all that holds for a directory holds there."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.watching import wait_until

if TYPE_CHECKING:
    from s3server import Bucket

ROOT = Path(__file__).parents[2]
SECONDS = 3000


def started_for(bucket: str) -> list[psutil.Process]:
    """All processes that live and were told of this bucket."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TEST_BUCKET") == bucket and process.status() != "zombie":
                found.append(process)
    return found


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 100)
def test_whatever_flows_do_in_a_directory_they_do_in_a_bucket(bucket: Bucket, tmp_path: Path):
    place = f"s3://{bucket.name}"
    words = [
        "-q",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "-m",
        "not slow",
        "--tb",
        "short",
        "--basetemp",
        tmp_path / "t",
    ]

    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/flows", *words],
            cwd=ROOT,
            env=os.environ | {"TEST_BUCKET": place, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        wait_until(lambda: not started_for(place))
    finally:
        for process in started_for(place):
            process.kill()

    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert any(key.endswith("task.json") for key in bucket.objects())
