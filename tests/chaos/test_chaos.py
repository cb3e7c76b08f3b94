"""`daskflow chaos`: whatever is killed, a flow can be finished; and a promise that is broken is found."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.watching import wait_until

ROOT = Path(__file__).parents[2]

FLOW = """
    import time
    from daskflow import FlowSpec, Parameter, step

    class Wide(FlowSpec):
        width = Parameter("width", default=4)

        @step
        def start(self):
            self.items = list(range(self.width))
            self.next(self.work, foreach="items")

        @step
        def work(self):
            time.sleep(0.05)
            self.double = self.input * 2
            self.next(self.join)

        @step
        def join(self, inputs):
            self.doubles = [each.double for each in inputs]
            self.next(self.end)

        @step
        def end(self):
            self.sum = sum(self.doubles)

    if __name__ == "__main__":
        Wide()
"""

CHAIN = """
    import time
    from daskflow import FlowSpec, step

    class Chain(FlowSpec):
        @step
        def start(self):
            self.next(self.second)

        @step
        def second(self):
            time.sleep(0.2)
            self.next(self.third)

        @step
        def third(self):
            time.sleep(0.5)
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Chain()
"""


class Place:
    """A folder in which flows are tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tmp").mkdir()
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("DASKFLOW_")
        }
        self.environment |= {"PYTHONPATH": str(ROOT), "DASKFLOW_USER": "ada", "TMPDIR": str(folder / "tmp")}

    def start(self, source: str, *options: str) -> subprocess.Popen[str]:
        (self.folder / "flow.py").write_text(textwrap.dedent(source))
        return subprocess.Popen(
            [sys.executable, "-c", "from daskflow.cli.tool import main; main()", "chaos", *options],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, source: str, *options: str, seconds: float = 100) -> subprocess.CompletedProcess[str]:
        with self.start(source, *options) as process:
            try:
                out, err = process.communicate(timeout=seconds)
            finally:
                process.kill()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def report(self, source: str, *options: str, seconds: float = 100) -> dict[str, Any]:
        done = self(source, "flow.py", "--json", *options, seconds=seconds)
        assert done.stdout, done.stderr
        report = json.loads(done.stdout)
        broken = any(report[promise] for promise in PROMISES)
        assert done.returncode == (1 if broken else 0)
        return report

    def processes(self) -> list[psutil.Process]:
        """All that were started here and live."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if (
                    process.status() != "zombie"
                    and process.environ().get("TMPDIR") == self.environment["TMPDIR"]
                ):
                    found.append(process)
        return found


PROMISES = (
    "runs with other results",
    "bodies started after a commit",
    "commits duplicated",
    "runs that could not be finished",
)


@pytest.fixture
def chaos(tmp_path: Path):
    """A function: the source of a flow and options to what `daskflow chaos` says. Nothing it started outlives the test."""
    place = Place(tmp_path)
    yield place
    try:
        wait_until(lambda: not place.processes())
    finally:
        for process in place.processes():
            process.kill()


def kept(report: dict[str, Any]) -> None:
    assert {promise: report[promise] for promise in PROMISES} == dict.fromkeys(PROMISES, 0), report["rounds"]


def test_every_run_is_finished_whatever_is_killed(chaos):
    report = chaos.report(FLOW, "--runs", "5")

    kept(report)
    assert report["runs"] == len(report["rounds"]) == 5
    assert report["kills"] == sum(len(each["kills"]) for each in report["rounds"]) > 0
    assert all(each["finished"] for each in report["rounds"])


@pytest.mark.slow
def test_a_store_that_refuses_now_and_then_changes_nothing_and_is_kept_if_asked_for(chaos):
    report = chaos.report(FLOW, "--runs", "2", "--kill", "worker", "--store-errors", "20%", "--keep")

    kept(report)
    (folder,) = (chaos.folder / "tmp").iterdir()
    assert (folder / "store" / "Wide" / "3" / "end" / "0" / "task.json").exists()
    assert any(b"(injected)" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_runs_in_a_bucket_are_finished_too_and_what_they_stored_is_kept(chaos, bucket):
    chaos.environment |= bucket.environment

    done = chaos(FLOW, "flow.py", "--json", "--runs", "2", "--datastore", f"{bucket.url('tried')}?sse=AES256")

    kept(json.loads(done.stdout))
    (store,) = re.findall(r"^Store: s3://[^/]+/(tried/daskflow-chaos-\w+)\?sse=AES256$", done.stderr, re.M)
    assert f"{store}/Wide/4/end/0/task.json" in bucket.objects()
    assert list((chaos.folder / "tmp").iterdir()) == []


def test_what_was_found_is_shown_in_a_table_and_nothing_is_left_behind(chaos):
    done = chaos(FLOW, "flow.py", "--runs", "1", "--kill", "driver,task", "--", "--width", "2")

    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^1/1: killed ((driver|task)(, )?)+; \d+ drivers; [\d.]+ s; finished$", done.stderr, re.M
    )
    for promise in PROMISES:
        assert re.search(rf"{promise} *│ 0 *│ 0", done.stdout)
    assert list((chaos.folder / "tmp").iterdir()) == []


def test_a_flow_that_gives_other_results_each_time_is_told_so(chaos):
    done = chaos(FLOW.replace("sum(self.doubles)", "time.time()"), "flow.py", "--runs", "1")

    assert done.returncode == 1
    assert "Undisturbed the flow gives other results each time" in done.stderr
    assert "end/0/sum" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_flow_that_fails_by_itself_is_told_so_with_its_last_lines(chaos):
    done = chaos(FLOW.replace("sum(self.doubles)", "1 / 0"), "flow.py", "--runs", "1")

    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "The flow does not succeed undisturbed." in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["flow.py", "--kill", "task,cat"], "cat can't be killed; task, worker, scheduler, driver can."),
        (["flow.py", "--kill", ""], "nothing can't be killed"),
        (["flow.py", "--store-errors", "often"], "'often' is no percentage such as 5%."),
        (["flow.py", "--store-errors", "100%"], "'100%' is no percentage such as 5%."),
        (["flow.py", "--store-errors", "nan"], "'nan' is no percentage such as 5%."),
        (["flow.py", "--runs", "0"], "0 is not in the range"),
        (["flow.py", "--workers", "none"], "'none' is not a valid integer"),
        (["other.py"], "'other.py' does not exist"),
        ([], "Missing argument"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_a_line(chaos, options, words):
    done = chaos(FLOW, *options)

    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("where", ["directory", pytest.param("bucket", marks=pytest.mark.slow)])
def test_a_promise_that_is_broken_is_found(chaos, where, request):
    store = []
    if where == "bucket":
        bucket = request.getfixturevalue("bucket")
        chaos.environment |= bucket.environment
        store = ["--datastore", bucket.url()]
    # Without its look at the commits a worker runs again what another one lost after it was committed.
    (chaos.folder / "sitecustomize.py").write_text(
        "import os\nif 'WITHOUT' in os.environ:\n    import tests.without\n"
    )
    chaos.environment["PYTHONPATH"] = f"{chaos.folder}{os.pathsep}{ROOT}"
    chaos.environment["WITHOUT"] = "no_look_before_running"

    report = chaos.report(CHAIN, "--runs", "3", "--kill", "worker", "--workers", "1", *store)

    assert report["bodies started after a commit"] > 0
    assert report["commits duplicated"] == report["runs that could not be finished"] == 0
    late = [line for each in report["rounds"] for line in each["late_starts"]]
    assert any("was started after its commit" in line for line in late)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whoever_stops_it_finds_no_process_of_it(chaos, number):
    hangs = FLOW.replace("time.sleep(0.05)", "open('begun', 'w').close(); time.sleep(60)")
    with chaos.start(hangs, "flow.py") as process:
        try:
            wait_until((chaos.folder / "begun").exists)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode != 0
    assert out == ""
    assert "Traceback" not in err
    wait_until(lambda: not chaos.processes())
    if number != signal.SIGKILL:
        assert list((chaos.folder / "tmp").iterdir()) == []


SHARED = FLOW.replace("default=4", "default=300").replace("time.sleep(0.05)", "time.sleep(0.005)")


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("chunk", ["3", "40", ""])
def test_items_that_share_processes_go_through_death_after_death_and_keep_every_promise(chaos, chunk):
    cut = ["--chunk", chunk] if chunk else []  # drivers that go on with a run cut what is left as they like

    report = chaos.report(SHARED, "--runs", "20", "--seed", "7", *cut, seconds=1400)

    kept(report)
    assert sum(len(each["kills"]) for each in report["rounds"]) > 10


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [11, 12])
def test_a_hundred_runs_go_through_death_after_death_and_keep_every_promise(chaos, seed):
    report = chaos.report(FLOW, "--runs", "100", "--seed", str(seed), seconds=1400)

    kept(report)
    disturbed = [each for each in report["rounds"] if each["kills"]]
    assert len(disturbed) > 50  # the others were over before their moment came
    assert {kill for each in report["rounds"] for kill in each["kills"]} == {
        "task",
        "worker",
        "scheduler",
        "driver",
    }
