"""Many drivers at once on one prefix of a bucket."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daskflow import Flow

if TYPE_CHECKING:
    from s3server import Bucket

ROOT = Path(__file__).parents[2]

FLOW = """
    from daskflow import FlowSpec, Parameter, current, step

    class Many(FlowSpec):
        who = Parameter("who", default=0)

        @step
        def start(self):
            self.seen = (self.who, current.run_id)
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Many()
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_of_eight_runs_started_at_once_each_has_its_own_number_and_succeeds(bucket: Bucket, tmp_path: Path):
    (tmp_path / "flow.py").write_text(textwrap.dedent(FLOW))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DASKFLOW_")}
    environment = kept | {
        "PYTHONPATH": str(ROOT),
        "DASKFLOW_DATASTORE": bucket.url(),
        "DASKFLOW_USER": "ada",
    }

    drivers = [
        subprocess.Popen(
            [sys.executable, "flow.py", "run", "--who", str(who)],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for who in range(8)
    ]
    try:
        outputs = [driver.communicate(timeout=250)[0] for driver in drivers]
    finally:
        for driver in drivers:
            driver.kill()

    assert [driver.returncode for driver in drivers] == [0] * 8, outputs
    numbers = [found[1] if (found := re.search(r"Done! Many/(\d+)", out)) else out for out in outputs]
    assert sorted(numbers) == list("12345678")
    runs = list(Flow("Many", store=bucket.url()))
    assert [run.id for run in runs] == list("87654321")
    assert all(run.successful for run in runs)
    assert {run.data.seen for run in runs} == {(who, number) for who, number in enumerate(numbers)}
