"""Flows on a store in a bucket whose server is busy, silent or gone now and then."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daskflow import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3server import Asked, Bucket, Proxy

ROOT = Path(__file__).parents[2]
FAULTS = ("SlowDown", "reset", "unanswered", "cut")

FLOW = """
    import pandas
    from daskflow import FlowSpec, step

    class Shaken(FlowSpec):
        @step
        def start(self):
            self.table = pandas.DataFrame({"x": range(20_000), "even": [i % 2 == 0 for i in range(20_000)]})
            self.next(self.middle)

        @step
        def middle(self):
            self.total = int(self.table["x"].sum())
            self.items = [[i] * 100 for i in range(50)]
            self.next(self.work, foreach="items")

        @step
        def work(self):
            print("item", self.index)
            self.double = 2 * self.input[0]
            self.part = self.table.head(self.index)
            self.next(self.join)

        @step
        def join(self, inputs):
            self.doubles = [each.double for each in inputs]
            self.rows = [len(each.part) for each in inputs]
            self.merge_artifacts(inputs, include=["table", "total"])
            self.next(self.end)

        @step
        def end(self):
            self.parts = self.table.groupby("even").size().to_frame("rows")

    if __name__ == "__main__":
        Shaken()
"""


def now_and_then(seed: int, rate: float, struck: Counter[str]) -> Callable[[Asked], str | None]:
    """So many of the requests go wrong; the same ones, by their number, each time."""

    def plan(asked: Asked) -> str | None:
        draw = random.Random(f"{seed} {asked.number}")
        if draw.random() >= rate:
            return None
        fault = draw.choice(FAULTS)
        struck[fault] += 1
        return fault

    return plan


@pytest.mark.parametrize(
    ("seed", "how"), [(1, ["--isolate"]), pytest.param(2, ["--chunk", "10"], marks=pytest.mark.slow)]
)
def test_a_flow_whose_requests_go_wrong_now_and_then_succeeds_and_each_task_is_committed_once(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, seed: int, how: list[str]
):
    (tmp_path / "flow.py").write_text(textwrap.dedent(FLOW))
    struck: Counter[str] = Counter()
    proxy.plan = now_and_then(seed, 0.03, struck)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DASKFLOW_")}
    environment = kept | {
        "PYTHONPATH": str(ROOT),
        "AWS_ENDPOINT_URL": proxy.address,
        "AWS_MAX_ATTEMPTS": "1",  # what the SDK would try again is ours to see
        "DASKFLOW_DATASTORE": bucket.url(),
        "DASKFLOW_USER": "ada",
        "DASKFLOW_TRACE_FILE": str(tmp_path / "trace"),
    }

    done = subprocess.run(
        [sys.executable, "flow.py", "run", *how],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert struck.total() > 1
    assert "It is tried again" in done.stdout + done.stderr
    run = Run("Shaken/1", store=bucket.url())
    assert run.successful
    assert run.data.total == sum(range(20_000))
    assert run.data.doubles == [2 * i for i in range(50)]
    assert run.data.rows == list(range(50))
    assert run.data.parts["rows"].tolist() == [10_000, 10_000]
    assert [task.stdout for task in sorted(run["work"], key=lambda task: task.index)] == [
        f"item {i}\n" for i in range(50)
    ]
    assert set(commits(tmp_path / "trace").values()) == {1}
    assert commits(tmp_path / "trace").total() == 54


def commits(trace: Path) -> Counter[str]:
    """How often the executions of each task believed that theirs counts."""
    from daskflow.pathspec import TaskRange

    found: Counter[str] = Counter()
    for line in trace.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "committed":
            tasks = TaskRange.of(event["task"])
            found.update(map(str, tasks.part(0, event.get("done", tasks.count)).names()))
    return found
