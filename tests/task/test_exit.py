"""How a task's process ends, and what is recorded of it. Both launchers keep the same contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.task.conftest import Bench


def test_a_process_leaves_as_an_interpreter_leaves(bench: Bench):
    ran = bench(
        """
        import atexit, ctypes, multiprocessing.util, sys, threading
        atexit.register(print, "atexit ran")
        multiprocessing.util.Finalize(None, print, args=("finalizer ran",), exitpriority=1)
        gate = threading.Event()
        def work():
            gate.wait()
            print("thread was joined")
        threading.Thread(target=work).start()
        threading.Timer(0.05, gate.set).start()
        sys.stdout.write("no newline at the end")
        sys.stdout.flush()
        libc = ctypes.CDLL(None)
        libc.printf(b" printf of C\\n")
        libc.printf(b"left in the buffer of C")
        """
    )

    assert ran.result.committed
    assert "thread was joined" in "\n".join(ran.stdout)
    assert {"atexit ran", "finalizer ran"} <= set(ran.stdout)
    assert "printf of C" in "".join(ran.stdout)
    assert "left in the buffer of C" in "".join(ran.stdout)


@pytest.mark.parametrize(
    ("body", "cause", "log"),
    [
        ("import os; os._exit(3)", "exit status 3", "Task failed."),
        ("import os; os._exit(0)", "exit status 0 before the step was done", "Task failed."),
        ("import sys; sys.exit(3)", "3", "Task failed."),
        ("import os; os.kill(os.getpid(), 9)", "SIGKILL", "Task failed."),
        ("import os; os.abort()", "SIGABRT", "Task failed."),
        (
            "import os; os.closerange(3, 99); self.next(self.end)",
            "before",
            "closed files that it had not opened",
        ),
        ("import os; os.kill(os.getpid(), 40)", "signal 40", "Task failed."),
        (
            "import faulthandler; faulthandler._stack_overflow()",
            "SIGSEGV",
            "Task failed with a segmentation fault.",
        ),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV", "Task failed with a segmentation fault."),
        ("def f(): return f()\nf()", "maximum recursion depth", "RecursionError"),
        ("raise ValueError('no luck')", "no luck", "ValueError: no luck"),
    ],
)
def test_an_end_before_the_step_is_done_is_a_failure_with_its_cause(
    bench: Bench, body: str, cause: str, log: str
):
    ran = bench(f"print('so far')\n{body}")

    assert ran.result.status == "failed"
    assert ran.record.error is not None
    assert cause in ran.record.error["exception"]
    assert any(log in line for line in ran.stderr)
    assert ran.stdout == ["so far"]
    assert "so far" in str(ran.record.logs["stdout"].text)


def test_a_step_that_exits_with_success_but_goes_nowhere_has_failed(bench: Bench):
    ran = bench.execute(bench.run_of("import sys\nsys.exit(0)\nself.next(self.end)"))

    assert ran.result.status == "failed"


def test_a_status_that_atexit_spoils_spoils_the_task(bench: Bench):
    ran = bench("import atexit, os; atexit.register(os._exit, 7)")

    assert ran.result.status == "failed"
    assert "exit status 7 after the step was done" in ran.record.error["exception"]


def test_a_traceback_shows_the_users_lines_and_none_of_ours(bench: Bench):
    ran = bench("raise ValueError('mine')")

    text = "\n".join(ran.stderr)
    assert "raise ValueError('mine')" in text
    assert "daskflow/task" not in text


def test_what_was_set_before_a_failure_is_kept(bench: Bench):
    ran = bench("self.x = 5\nraise ValueError")

    assert ran.artifact("x") == 5


def test_a_failing_task_does_not_touch_another_that_runs(bench: Bench):
    import threading

    run = bench.run_of(
        """
        import ctypes, os, pathlib, time
        gate = pathlib.Path("gate")
        if __import__("daskflow").current.task_id == "1":
            ctypes.string_at(0)
        while not gate.exists():
            time.sleep(0.005)
        self.fine = True
        self.next(self.end)
        """
    )
    slow: list = []
    thread = threading.Thread(target=lambda: slow.append(bench.execute(run, "0")))
    thread.start()

    crashed = bench.execute(run, "1")
    (bench.folder / "gate").touch()
    thread.join(30)

    assert crashed.record.process["signal"] == 11
    assert slow[0].artifact("fine") is True


def test_peak_memory_and_cpu_time_are_recorded(bench: Bench):
    ran = bench("x = bytearray(300_000_000)\nsum(range(2_000_000))")

    assert ran.record.process["max_rss"] > 300_000_000
    assert ran.record.process["cpu_user"] > 0
    assert ran.record.process["exit_code"] == 0


def test_descriptors_and_threads_do_not_grow_with_the_number_of_tasks(bench: Bench):
    import os
    import threading

    run = bench.run_of("self.next(self.end)")
    bench.execute(run, "0")
    before = len(os.listdir("/proc/self/fd")), threading.active_count()

    for number in range(1, 20):
        assert bench.execute(run, str(number)).result.committed

    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_a_process_that_was_killed_tells_how_much_memory_it_had_used(bench: Bench):
    ran = bench("import os\nx = bytearray(200_000_000)\nos.kill(os.getpid(), 9)")

    (line,) = [line for line in ran.stderr if "Task failed" in line]
    assert "SIGKILL" in line
    assert int(line.rpartition("used ")[2].split()[0]) >= 190


FILES = """
import gc
import gzip
def keep(file):
    gc.disable()  # it may finalize a buffer before the text file above it, and what that held is lost
    held = [file]
    held.append(held)  # only the collector could free it
    return file
"""


def test_files_that_a_step_left_open_are_complete(bench: Bench):
    ran = bench(
        """
        keep(open("text", "w")).write("text")
        keep(open("bytes", "wb")).write(b"bytes")
        keep(gzip.open("packed", "wt")).write("packed")
        keep(gzip.open("packed_bytes", "wb")).write(b"packed bytes")
        """,
        header=FILES,
    )
    import gzip

    assert ran.result.committed, ran.stderr
    assert (bench.folder / "text").read_text() == "text"
    assert (bench.folder / "bytes").read_bytes() == b"bytes"
    assert gzip.decompress((bench.folder / "packed").read_bytes()) == b"packed"
    assert gzip.decompress((bench.folder / "packed_bytes").read_bytes()) == b"packed bytes"


def test_a_pipe_that_a_step_left_open_and_nobody_reads_does_not_hold_its_end(bench: Bench):
    ran = bench(
        """
        import os, threading
        read, write = os.pipe()
        kept = os.fdopen(write, "wb", buffering=1 << 20)
        globals().update(kept=kept, read=read)
        kept.write(b"x" * 200_000)
        """
    )

    assert ran.result.committed


def test_a_file_that_the_flow_opened_when_it_was_loaded_gets_what_steps_write(bench: Bench):
    run = bench.run_of(
        "from daskflow import current\nlog.write(f'task {current.task_id}\\n')\nself.next(self.end)",
        header="log = open('log', 'a')\nlog.write('loaded\\n')",
    )
    for task in ("0", "1"):
        assert bench.execute(run, task).result.committed
    bench.launchers.close(run)

    lines = (bench.folder / "log").read_text().splitlines()
    assert [line for line in lines if line != "loaded"] == ["task 0", "task 1"]
    assert lines.count("loaded") == (1 if bench.launcher == "fork" else 2)


def test_a_temporary_directory_of_the_flows_file_does_not_end_with_the_first_task(bench: Bench):
    run = bench.run_of(
        "import os\nassert os.path.isdir(place.name)\nself.next(self.end)",
        header="import tempfile\nplace = tempfile.TemporaryDirectory()",
    )

    for task in ("0", "1"):
        ran = bench.execute(run, task)
        assert ran.result.committed, ran.stderr


def test_a_temporary_directory_of_a_step_ends_with_it(bench: Bench):
    ran = bench("import tempfile\nglobals()['kept'] = tempfile.TemporaryDirectory()\nself.place = kept.name")
    from pathlib import Path

    assert not Path(ran.artifact("place")).exists()


def test_what_the_flows_file_prints_when_it_is_loaded_is_in_no_tasks_log(bench: Bench):
    ran = bench(
        "print('in the step')",
        header="""
        import ctypes, os, sys
        print("loaded")
        print("loaded", file=sys.stderr)
        os.write(1, b"loaded")
        ctypes.CDLL(None).printf(b"loaded")
        """,
    )

    assert ran.stdout == ["in the step"]
    assert ran.stderr == []


def test_a_collector_that_the_flow_switched_off_stays_off(bench: Bench):
    ran = bench("self.enabled = gc.isenabled()", header="import gc\ngc.disable()")

    assert ran.artifact("enabled") is False
