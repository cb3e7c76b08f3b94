"""Whatever ends first, nothing of a run outlives it. Both launchers keep the same contract."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daskflow.task.channels import LauncherDied
from daskflow.task.execute import execute
from daskflow.task.launcher import Launcher
from tests.task.conftest import Heard

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.task.conftest import Bench

PACKAGE_ROOT = str(Path(__file__).parents[2])

STARTS_ALL_KINDS = """
import os, pathlib, subprocess, time
def note(pid):
    with open("pids", "a") as file:
        file.write(f"{pid}\\n")
note(os.getpid())
note(subprocess.Popen(["sleep", "1000"]).pid)
note(subprocess.Popen(["sh", "-c", "trap '' TERM; while true; do sleep 0.1; done"], start_new_session=True).pid)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        note(os.getpid())
        pathlib.Path("busy").touch()
        time.sleep(1000)
    os._exit(0)
os.wait()
"""


def wait_for(condition: Callable[[], object], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def pids_in(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "pids").read_text().split()]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def all_gone(pids: list[int], seconds: float = 5) -> bool:
    return wait_for(lambda: not any(map(alive, pids)), seconds)


@pytest.mark.parametrize("victim", ["the fork server", "its guard"])
def test_when_one_is_killed_all_that_the_step_started_ends(bench: Bench, victim: str):
    run = bench.run_of(f"{STARTS_ALL_KINDS}\ntime.sleep(1000)")
    launcher = Launcher(run)
    launcher.start()
    died = []

    def go() -> None:
        try:
            launcher.run(bench.spec(run), lambda pid: None, lambda stream, data: None, lambda message: None)
        except LauncherDied as error:
            died.append(error)

    thread = threading.Thread(target=go)
    thread.start()
    assert wait_for((bench.folder / "busy").exists)
    server = launcher.ready()["pid"]
    guard = parent_of(server)

    os.kill(server if victim == "the fork server" else guard, signal.SIGKILL)

    assert all_gone([*pids_in(bench.folder), server, guard])
    thread.join(30)
    assert died
    launcher.close()


DRIVER = """
import pathlib, sys, threading
sys.path[:0] = {paths!r}
from tests.task.conftest import Bench
bench = Bench(pathlib.Path({folder!r}), "auto")
run = bench.run_of("pass", header={header!r})
threading.Thread(target=bench.execute, args=(run,), daemon=True).start()
threading.Event().wait()
"""


def test_what_a_flow_starts_when_it_is_loaded_ends_with_the_worker(tmp_path: Path):
    script = tmp_path / "worker.py"
    header = f"{STARTS_ALL_KINDS}\ntime.sleep(1000)"
    script.write_text(DRIVER.format(paths=[PACKAGE_ROOT], folder=str(tmp_path), header=header))
    worker = subprocess.Popen([sys.executable, str(script)])
    try:
        assert wait_for((tmp_path / "busy").exists)
    finally:
        worker.kill()
        worker.wait()

    assert all_gone(pids_in(tmp_path))


def test_a_launcher_can_be_closed_while_the_flow_loads(auto_bench: Bench):
    run = auto_bench.run_of("pass", header=f"{STARTS_ALL_KINDS}\ntime.sleep(1000)")
    launcher = Launcher(run)
    launcher.start()
    heard = []

    def wait() -> None:
        try:
            launcher.ready()
        except LauncherDied as error:
            heard.append(str(error))

    thread = threading.Thread(target=wait)
    thread.start()
    assert wait_for((auto_bench.folder / "busy").exists)

    launcher.close()
    thread.join(5)

    assert ["stopped" in text for text in heard] == [True]
    assert not any(map(alive, pids_in(auto_bench.folder)))


def test_a_run_that_is_stopped_while_its_flow_loads_runs_nothing(auto_bench: Bench):
    run = auto_bench.run_of(
        "pass", header="import pathlib, time\npathlib.Path('busy').touch()\ntime.sleep(1000)"
    )
    results = []
    thread = threading.Thread(
        target=lambda: results.append(execute(auto_bench.spec(run), Heard(), auto_bench.launchers))
    )
    thread.start()
    assert wait_for((auto_bench.folder / "busy").exists)

    auto_bench.launchers.stop(run, 0.0)
    thread.join(10)

    assert [result.status for result in results] == ["not_run"]


def test_a_task_that_comes_after_its_run_is_over_is_not_run(bench: Bench):
    run = bench.run_of("self.next(self.end)")
    bench.launchers.close(run)

    result = execute(bench.spec(run), Heard(), bench.launchers)

    assert result.status == "not_run"


def test_a_flow_whose_import_dies_of_a_signal_says_so(auto_bench: Bench):
    run = auto_bench.run_of("pass", header="import ctypes\nctypes.string_at(0)")

    result = execute(auto_bench.spec(run), Heard(), auto_bench.launchers)

    assert result.status == "failed"
    assert "SIGSEGV" in result.error[1]


def test_a_flow_whose_import_exits_says_so(auto_bench: Bench):
    run = auto_bench.run_of("pass", header="import os\nos._exit(5)")

    result = execute(auto_bench.spec(run), Heard(), auto_bench.launchers)

    assert result.status == "failed"
    assert "exit status 5" in result.error[1]


def test_the_thread_that_starts_a_launcher_may_end(bench: Bench):
    run = bench.run_of("self.next(self.end)")
    starter = threading.Thread(target=bench.launchers.start, args=(run,))
    starter.start()
    starter.join()
    bench.execute(run, "0")

    assert bench.execute(run, "1").result.committed


def test_closing_leaves_no_process_no_thread_and_no_descriptor(bench: Bench):
    def count() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    before = count()
    run = bench.run_of("self.next(self.end)")
    bench.execute(run)
    launcher = bench.launchers.start(run)
    pids = [launcher.ready()["pid"], parent_of(launcher.ready()["pid"])]

    bench.launchers.close(run)

    assert not any(map(alive, pids))
    assert count() == before
