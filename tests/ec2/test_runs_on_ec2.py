"""The flow of a laptop, unchanged, on machines in EC2; of which nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daskflow import Run, Task
from tests.ec2.simulator import PATIENCE, ROOT, Cloud
from tests.ec2.tables import toml
from tests.watching import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3server import Bucket

    from tests.ec2.gate import Gate

pytestmark = pytest.mark.timeout(300)
FLOW = """
    import os
    from daskflow import FlowSpec, step


    class F(FlowSpec):
        @step
        def start(self):
            self.items = list(range(4))
            self.next(self.work, foreach="items")

        @step
        def work(self):
            self.double = 2 * self.input
            self.said = os.environ.get("SAYS")
            self.home = os.environ["HOME"]
            self.next(self.join)

        @step
        def join(self, inputs):
            self.doubles = [each.double for each in inputs]
            self.said, self.home = inputs[0].said, inputs[0].home
            self.next(self.end)

        @step
        def end(self):
            pass


    if __name__ == "__main__":
        F()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.py").write_text(textwrap.dedent(FLOW))
    return tmp_path


def command(bucket: Bucket, *arguments: str) -> list[str]:
    return [sys.executable, "flow.py", "--datastore", bucket.url(), "run", *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": ROOT, "DASKFLOW_USER": "ada"}


def run(folder: Path, bucket: Bucket, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(bucket, *arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("image", [Cloud.profile, Cloud.profile_of_ami], ids=["container", "machine"])
def test_a_flow_runs_on_machines_that_are_started_for_it_and_ended_with_it(
    folder: Path, bucket: Bucket, cloud: Cloud, image: Callable[..., dict[str, Any]]
):
    says = 'it\'s "$HOME"\nand `more`'
    (folder / "daskflow.toml").write_text(toml({"team": image(cloud, environment={"SAYS": says})}))

    done = run(folder, bucket, "--cluster", "team")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    found = Task("F/1/join/0", store=bucket.url()).data
    assert found.doubles == [0, 2, 4, 6]
    assert found.said == says
    assert Path(found.home).parent == cloud.folder
    assert len(cloud.shown) == 2
    assert cloud.left() == []


def test_a_run_whose_machines_are_refused_ends_with_one_error(
    folder: Path, bucket: Bucket, cloud: Cloud, gate: Gate
):
    (folder / "daskflow.toml").write_text(toml({"team": cloud.profile()}))
    gate.refuses = lambda action, *_: "UnauthorizedOperation" if action == "RunInstances" else None

    done = run(folder, bucket, "--cluster", "team")

    assert done.returncode == 1
    assert "Your AWS credentials don't allow ec2:RunInstances in us-east-1" in done.stderr
    assert "Traceback" not in done.stderr
    assert cloud.left() == []


def test_an_order_to_stop_does_not_keep_machines_from_being_ended(
    folder: Path, bucket: Bucket, cloud: Cloud, gate: Gate
):
    (folder / "daskflow.toml").write_text(toml({"team": cloud.profile()}))
    orders: list[str] = []

    def stops(action: str, *_: object) -> None:
        if action == "TerminateInstances":
            started.send_signal(signal.SIGINT)
            orders.append(action)

    gate.refuses = stops
    with subprocess.Popen(
        command(bucket, "--cluster", "team"),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as started:
        output, _ = started.communicate(timeout=PATIENCE)

    assert started.returncode == 130, output
    assert orders
    assert Run("F/1", store=bucket.url()).status == "successful"  # it was over by then
    assert cloud.left() == []


@pytest.mark.slow
def test_a_run_was_as_it_was_also_if_its_machines_can_not_be_ended(
    folder: Path, bucket: Bucket, cloud: Cloud, gate: Gate
):
    (folder / "daskflow.toml").write_text(toml({"team": cloud.profile()}))
    gate.refuses = lambda action, *_: "UnauthorizedOperation" if action == "TerminateInstances" else None

    done = run(folder, bucket, "--cluster", "team")

    assert done.returncode == 1
    assert (
        "The cluster could not be ended: Your AWS credentials don't allow ec2:TerminateInstances"
        in done.stderr
    )
    assert Run("F/1", store=bucket.url()).status == "successful"
    assert cloud.left()
    cloud.close()


@pytest.mark.slow
def test_workers_are_spot_instances_if_the_profile_says_so(
    folder: Path, bucket: Bucket, cloud: Cloud, gate: Gate
):
    (folder / "daskflow.toml").write_text(toml({"team": cloud.profile()}))
    markets: list[str | None] = []

    def looks(action: str, arguments: dict[str, str], _: int) -> None:
        if action == "RunInstances":
            markets.append(arguments.get("InstanceMarketOptions.MarketType"))

    gate.refuses = looks
    done = run(folder, bucket, "--cluster", "team", "--cluster-option", "spot=true")

    assert done.returncode == 0, done.stdout + done.stderr
    assert markets == [None, "spot"]


SLOW = """
    import os, time, uuid
    from pathlib import Path
    from daskflow import FlowSpec, step

    THERE = Path({there!r})


    class F(FlowSpec):
        @step
        def start(self):
            self.items = list(range({width}))
            self.next(self.work, foreach="items")

        @step
        def work(self):
            mark = THERE / f"{{self.input}}-{{uuid.uuid4()}}"
            mark.with_suffix(".begun").touch()
            while not (THERE / "go on").exists() and self.input >= {free}:
                time.sleep(0.05)
            self.value = self.input
            mark.with_suffix(".done").touch()
            self.next(self.join)

        @step
        def join(self, inputs):
            self.values = [each.value for each in inputs]
            self.next(self.end)

        @step
        def end(self):
            pass


    if __name__ == "__main__":
        F()
"""


def begun(there: Path, item: int) -> int:
    return len(list(there.glob(f"{item}-*.begun")))


@pytest.fixture
def there(folder: Path) -> Path:
    """Where the steps say how far they are."""
    there = folder / "there"
    there.mkdir()
    return there


@pytest.mark.slow
def test_of_a_machine_that_vanishes_only_what_was_not_committed_runs_again(
    folder: Path, there: Path, bucket: Bucket, cloud: Cloud
):
    (folder / "flow.py").write_text(textwrap.dedent(SLOW.format(there=str(there), width=3, free=2)))
    profile = cloud.profile(spot=True)
    (folder / "daskflow.toml").write_text(toml({"team": profile}))
    soon = {"DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "1s"}

    with subprocess.Popen(
        command(bucket, "--cluster", "team", "--isolate"),
        cwd=folder,
        env=environment() | soon,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as started:
        wait_until(lambda: begun(there, 2) and all(is_committed(bucket, item) for item in range(2)), PATIENCE)
        [worker] = cloud.running("worker")
        cloud.lose(worker)
        wait_until(lambda: begun(there, 2) == 2, PATIENCE)
        (there / "go on").touch()
        output, _ = started.communicate(timeout=PATIENCE)

    assert started.returncode == 0, output
    assert Task("F/1/join/0", store=bucket.url()).data.values == [0, 1, 2]
    assert [begun(there, item) for item in range(3)] == [1, 1, 2]
    assert len(cloud.shown) == 3
    assert cloud.left() == []


def is_committed(bucket: Bucket, item: int) -> bool:
    return any(f"/work/{item}/" in key and key.endswith("task.json") for key in bucket.objects())


@pytest.mark.slow
def test_workers_come_with_the_work_and_go_with_it(folder: Path, there: Path, bucket: Bucket, cloud: Cloud):
    (folder / "flow.py").write_text(textwrap.dedent(SLOW.format(there=str(there), width=6, free=1)))
    profile = cloud.profile(min_workers=0, max_workers=2, idle_worker="1 second")
    (folder / "daskflow.toml").write_text(toml({"team": profile}))

    with subprocess.Popen(
        command(bucket, "--cluster", "team", "--isolate"),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as started:
        wait_until(lambda: len(cloud.running("worker")) == 2, PATIENCE)
        (there / "go on").touch()
        output, _ = started.communicate(timeout=PATIENCE)

    assert started.returncode == 0, output
    assert Task("F/1/join/0", store=bucket.url()).data.values == list(range(6))
    assert [begun(there, item) for item in range(6)] == [1] * 6
    assert cloud.left() == []


@pytest.mark.slow
def test_when_the_schedulers_machine_is_lost_the_run_can_go_on_and_nothing_is_left(
    folder: Path, there: Path, bucket: Bucket, cloud: Cloud
):
    (folder / "flow.py").write_text(textwrap.dedent(SLOW.format(there=str(there), width=2, free=1)))
    (folder / "daskflow.toml").write_text(toml({"team": cloud.profile()}))

    with subprocess.Popen(
        command(bucket, "--cluster", "team", "--isolate"),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as started:
        wait_until(lambda: begun(there, 1) and is_committed(bucket, 0), PATIENCE)
        [scheduler] = cloud.running("scheduler")
        cloud.lose(scheduler)
        output, _ = started.communicate(timeout=PATIENCE)

    assert started.returncode == 1, output
    assert "Traceback" not in output
    assert "continue" in output
    assert cloud.left() == []
