"""What a step leaves running is ended with it; nothing survives the process that drives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daskflow.task.channels import LauncherDied
from daskflow.task.processes import children_of

if TYPE_CHECKING:
    from tests.task.conftest import Bench

PACKAGE_ROOT = str(Path(__file__).parents[2])

WAYS = {
    "a child": "subprocess.Popen(['sleep', '1000'])",
    "one of a session of its own": "subprocess.Popen(['sleep', '1000'], start_new_session=True)",
    "a daemon": """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("sleep", ["sleep", "1000"])
    os._exit(0)
os.wait()
""",
    "one that ignores SIGTERM": "subprocess.Popen(['sh', '-c', \"trap '' TERM; while true; do sleep 0.1; done\"])",
}


def running(marker: Path) -> list[int]:
    """Processes whose environment has the marker of this test."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                environment = (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if str(marker).encode() in environment and state != "Z":
                found.append(int(entry.name))
    return found


def gone(marker: Path, seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while running(marker):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)"], ids=["done", "killed"])
@pytest.mark.parametrize("way", WAYS)
def test_what_a_step_leaves_running_ends_with_it(bench: Bench, way: str, end: str):
    ran = bench(f"import os, subprocess\nos.environ['MARK'] = os.getcwd()\n{WAYS[way]}\n{end}")

    assert ran.result.committed is not bool(end)
    assert any("ended process" in line and "left running" in line for line in ran.stderr)
    assert running(bench.folder / "no such") == []
    assert not [pid for pid in running(bench.folder) if pid != os.getpid()]


def test_a_fork_that_a_step_left_is_called_so(bench: Bench):
    ran = bench("import os, time\nif os.fork() == 0:\n    time.sleep(1000)")

    assert any("(a fork of it)" in line for line in ran.stderr), ran.stderr


def test_a_process_that_holds_the_pipe_does_not_delay_the_end(bench: Bench):
    began = time.monotonic()

    ran = bench("import subprocess\nsubprocess.Popen(['sleep', '60'])")

    assert ran.result.committed
    assert time.monotonic() - began < 30


DRIVER = """
import sys, threading, pathlib
sys.path[:0] = {paths!r}
from tests.task.conftest import Bench, Heard
bench = Bench(pathlib.Path({folder!r}), {launcher!r})
run = bench.run_of({body!r}, header={header!r})
threading.Thread(target=bench.execute, args=(run,), daemon=True).start()
threading.Event().wait()
"""

BUSY = """
import os, subprocess, pathlib, time
subprocess.Popen(["sleep", "1000"], start_new_session=True)
subprocess.Popen(["sh", "-c", "trap '' TERM; while true; do sleep 0.1; done"])
pathlib.Path("busy").touch()
time.sleep(1000)
"""


@pytest.mark.parametrize("launcher", ["fork", "fresh"])
@pytest.mark.parametrize("while_loading", [False, True], ids=["in a step", "while it loads"])
def test_nothing_survives_the_driver_when_it_is_killed(tmp_path: Path, launcher: str, while_loading: bool):
    driver = tmp_path / "driver.py"
    loading = "import pathlib, time\npathlib.Path('busy').touch()\ntime.sleep(1000)"
    driver.write_text(
        DRIVER.format(
            paths=[PACKAGE_ROOT],
            folder=str(tmp_path / "flow"),
            launcher=launcher,
            body="pass" if while_loading else BUSY,
            header=loading if while_loading else "",
        )
    )
    (tmp_path / "flow").mkdir()
    process = subprocess.Popen([sys.executable, str(driver)], env=os.environ | {"MARK": str(tmp_path)})
    try:
        end = time.monotonic() + 30
        while not (tmp_path / "flow" / "busy").exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()

    assert gone(tmp_path)


def test_a_task_whose_fork_server_is_killed_is_run_again(bench: Bench):
    run = bench.run_of(
        """
        import os, pathlib, signal, time
        first = pathlib.Path("first")
        if not first.exists():
            first.touch()
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1000)
        self.next(self.end)
        """
    )

    ran = bench.execute(run)

    assert ran.result.committed, ran.stderr
    assert any("started again" in notice for notice in ran.heard.notices)
    assert list(ran.store.failed_attempts(ran.record.name)) == []


def test_a_task_that_always_kills_its_fork_server_fails_in_the_end(bench: Bench):
    run = bench.run_of("import os, signal, time\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(1000)")
    from daskflow.task.execute import execute
    from tests.task.conftest import Heard

    result = execute(bench.spec(run), Heard(), bench.launchers)

    assert result.status == "failed"
    assert result.error[0] == LauncherDied.headline


def test_tasks_end_when_the_run_is_stopped(bench: Bench):
    import threading

    run = bench.run_of(textwrap.dedent(BUSY) + "self.next(self.end)")
    os.environ["MARK"] = str(bench.folder)
    ran: list = []
    thread = threading.Thread(target=lambda: ran.append(bench.execute(run)))
    thread.start()
    while not (bench.folder / "busy").exists():
        time.sleep(0.01)

    bench.launchers.stop(run, 0.0)
    thread.join(30)
    del os.environ["MARK"]

    assert ran[0].result.status == "failed"
    assert "[KILLED BY ORCHESTRATOR]" in ran[0].stderr
    assert ran[0].record.process["signal"] == signal.SIGKILL
    guards = children_of(os.getpid())
    servers = [pid for guard in guards for pid in children_of(guard)]
    left = set(running(bench.folder)) - {*guards, *servers}
    assert len(left) <= 1  # the process that the next task would get
    assert left <= {pid for server in servers for pid in children_of(server)}
