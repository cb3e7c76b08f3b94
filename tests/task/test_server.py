"""The fork server keeps tasks apart and ends what each of them left."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from daskflow.task.execute import execute
from daskflow.task.processes import children_of
from tests.task.conftest import Heard
from tests.watching import living, wait_until

if TYPE_CHECKING:
    from daskflow.task.spec import RunContext
    from tests.task.conftest import Bench, Ran


def both(bench: Bench, body: str) -> dict[str, Ran]:
    """Two tasks of one run at once."""
    run = bench.run_of(body)
    done: dict[str, Ran] = {}

    def go(task: str) -> None:
        done[task] = bench.execute(run, task)

    threads = [threading.Thread(target=go, args=(task,)) for task in ("0", "1")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return done


MEET = """
import os, pathlib, subprocess, time
from daskflow import current
me, other = current.task_id, "10"[int(current.task_id)]
pathlib.Path(f"here-{me}").touch()
while not pathlib.Path(f"here-{other}").exists():
    time.sleep(0.005)
"""


def test_a_step_that_kills_its_process_group_kills_no_other_task(bench: Bench):
    done = both(
        bench,
        MEET
        + """
if me == "0":
    os.kill(0, 9)
time.sleep(0.2)
self.next(self.end)
""",
    )

    assert done["0"].record.process["signal"] == 9
    assert done["1"].result.committed, done["1"].stderr
    assert not [note for note in done["1"].heard.notices if "started again" in note]


def test_each_log_names_what_its_own_task_left(bench: Bench):
    done = both(bench, MEET + 'subprocess.Popen(["sleep", f"100{me}"])\nself.next(self.end)')

    for task in ("0", "1"):
        (line,) = [line for line in done[task].stderr if "left running" in line]
        assert f"sleep 100{task}" in line


def test_a_process_that_the_system_refuses_fails_that_task_alone(auto_bench: Bench):
    run = auto_bench.run_of(
        "self.next(self.end)",
        header="""
        import os, pathlib
        fork = os.fork
        def refuse():
            if pathlib.Path("refuse").exists():
                raise OSError(11, "Resource temporarily unavailable")
            return fork()
        os.fork = refuse
        """,
    )
    assert auto_bench.execute(run, "0").result.committed
    (auto_bench.folder / "refuse").touch()
    with_spare = execute(
        auto_bench.spec(run, "1"), Heard(), auto_bench.launchers
    )  # it may have been forked before
    refused = execute(auto_bench.spec(run, "2"), Heard(), auto_bench.launchers)
    (auto_bench.folder / "refuse").unlink()

    assert with_spare.committed or "--max-workers" in with_spare.error[1]

    assert refused.status == "failed"
    assert "Resource temporarily unavailable" in refused.error[1]
    assert "--max-workers" in refused.error[1]
    assert auto_bench.execute(run, "3").result.committed


def spare_of(bench: Bench, run: RunContext) -> int:
    """The process that waits for the run's next task, once there is one."""
    server = bench.launchers.start(run).ready()["pid"]
    wait_until(lambda: len(children_of(server)) == 1)
    return children_of(server)[0]


def test_a_task_gets_a_process_that_was_forked_before_and_the_next_one_another(auto_bench: Bench):
    run = auto_bench.run_of("self.next(self.end)")
    waiting = []
    ran = []

    for task in ("0", "1"):
        waiting.append(spare_of(auto_bench, run))
        ran.append(auto_bench.execute(run, task).record.process["pid"])

    assert ran == waiting
    assert len(set(ran)) == 2


def test_a_waiting_process_that_is_killed_is_no_tasks_loss(auto_bench: Bench):
    run = auto_bench.run_of("self.next(self.end)")
    spare = spare_of(auto_bench, run)

    os.kill(spare, signal.SIGKILL)
    done = [auto_bench.execute(run, task).result for task in ("0", "1")]

    assert all(each.committed and each.attempt == 0 for each in done)


def test_a_waiting_process_ends_with_the_run(auto_bench: Bench):
    run = auto_bench.run_of("self.next(self.end)")
    spare = spare_of(auto_bench, run)

    auto_bench.launchers.close(run)

    wait_until(lambda: not living([spare]))


def test_a_process_of_the_flows_import_is_not_ended_with_the_first_task(auto_bench: Bench):
    run = auto_bench.run_of(
        "os.kill(helper.pid, 0)\nself.next(self.end)",
        header="import os, subprocess\nhelper = subprocess.Popen(['sleep', '1000'])",
    )

    for task in ("0", "1"):
        ran = auto_bench.execute(run, task)
        assert ran.result.committed, ran.stderr
        assert ran.record.process["launcher"] == "fork"
        assert not [line for line in ran.stderr if "left running" in line]


@pytest.mark.timeout(30)
def test_one_that_starts_itself_anew_when_asked_to_end_is_ended(bench: Bench):
    ran = bench(
        """
        import subprocess
        subprocess.Popen(["sh", "-c", 'trap "sh $0 & exit" TERM; while true; do sleep 0.05; done', "again.sh"])
        """,
        files={"again.sh": 'trap "sh $0 & exit" TERM\nwhile true; do sleep 0.05; done\n'},
    )

    assert ran.result.committed
    assert any("again.sh" in line for line in ran.stderr)


def test_multiprocessings_helpers_are_not_called_left_running(bench: Bench):
    ran = bench(
        """
        import multiprocessing, os
        from multiprocessing import shared_memory
        memory = shared_memory.SharedMemory(create=True, size=10)
        print(memory.name, flush=True)
        process = multiprocessing.get_context("spawn").Process(target=sleep, args=(1000,))
        process.start()
        os.kill(os.getpid(), 9)
        """,
        header="from time import sleep",
    )

    left = [line for line in ran.stderr if "left running" in line]
    assert ran.record.process["signal"] == 9
    assert len(left) == 1, ran.stderr
    assert "spawn_main" in left[0]
    assert not (bench.folder / "/dev/shm" / ran.stdout[0]).exists()
