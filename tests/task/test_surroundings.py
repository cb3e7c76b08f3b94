"""What a step finds around it, and what it may do there. Both launchers keep the same contract."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.task.conftest import Bench

PACKAGE_ROOT = str(Path(__file__).parents[2])


def test_a_step_finds_itself_in_the_main_module_of_its_file(bench: Bench):
    ran = bench(
        """
        import os, sys, threading, signal
        self.argv = sys.argv
        self.path0 = sys.path[0]
        self.main = (sys.modules["__main__"].__name__, __name__, __file__)
        self.cwd = os.getcwd()
        self.main_thread = threading.current_thread() is threading.main_thread()
        self.interrupt = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        self.stdin = sys.stdin.read()
        self.environment = {k: os.environ.get(k) for k in
                            ("DASKFLOW_RUN_ID", "PYTHONUNBUFFERED", "DASKFLOW_RUNTIME_NAME")}
        import gc
        self.gc = gc.isenabled()
        """
    )
    here = str(bench.folder)

    assert ran.result.committed, ran.stderr
    assert ran.artifact("argv") == [f"{here}/flow.py"]
    assert ran.artifact("path0") == here
    assert ran.artifact("main") == ("__main__", "__main__", f"{here}/flow.py")
    assert ran.artifact("cwd") == here
    assert ran.artifact("main_thread")
    assert ran.artifact("interrupt")
    assert ran.artifact("stdin") == ""
    assert ran.artifact("environment") == {
        "DASKFLOW_RUN_ID": "1",
        "PYTHONUNBUFFERED": "x",
        "DASKFLOW_RUNTIME_NAME": "dask",
    }
    assert ran.artifact("gc")


def test_the_module_path_is_that_of_a_plain_run(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    import os
    import subprocess
    import sys

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/first", "/second", PACKAGE_ROOT]))
    ran = bench("import sys\nself.path = sys.path")
    (bench.folder / "plain.py").write_text("import sys\nprint(sys.path)")
    plain = subprocess.run(
        [sys.executable, "plain.py"], cwd=bench.folder, capture_output=True, text=True, timeout=60, check=True
    )

    assert ran.artifact("path") == __import__("ast").literal_eval(plain.stdout)


def test_nothing_of_one_task_reaches_the_next(bench: Bench):
    run = bench.run_of(
        """
        import os, sys, daskflow
        self.seen = (os.environ.get("LEFT"), getattr(sys, "left", None), os.getcwd())
        os.environ["LEFT"] = "yes"
        sys.left = "yes"
        os.chdir("/")
        self.next(self.end)
        """
    )

    bench.execute(run, "0")
    second = bench.execute(run, "1")

    assert second.artifact("seen") == (None, None, str(bench.folder))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_step_may_use_multiprocessing(bench: Bench, method: str):
    ran = bench(
        f"""
        import multiprocessing
        with multiprocessing.get_context({method!r}).Pool(2) as pool:
            self.squares = pool.map(square, range(5))
        """,
        header="def square(x):\n    return x * x",
    )

    assert ran.artifact("squares") == [0, 1, 4, 9, 16], ran.stderr
    assert not [line for line in ran.stderr if "left running" in line]


def test_a_step_may_use_threads_asyncio_subprocesses_and_joblib(bench: Bench):
    ran = bench(
        """
        import asyncio, subprocess, os
        from concurrent.futures import ThreadPoolExecutor
        import joblib
        with ThreadPoolExecutor(4) as pool:
            self.threads = list(pool.map(abs, [-1, -2]))
        async def later():
            await asyncio.sleep(0)
            return "async"
        self.asyncio = asyncio.run(later())
        self.child = subprocess.run(["echo", "out of a child"], check=True).returncode
        self.loky = joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-n) for n in range(3))
        self.joblib_threads = joblib.Parallel(n_jobs=2, prefer="threads")(joblib.delayed(abs)(-n) for n in range(3))
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        self.forked = os.waitpid(pid, 0)[1]
        """
    )

    assert ran.result.committed, ran.stderr
    assert ran.artifact("threads") == [1, 2]
    assert ran.artifact("asyncio") == "async"
    assert ran.artifact("loky") == ran.artifact("joblib_threads") == [0, 1, 2]
    assert "out of a child" in ran.stdout
    assert not [line for line in ran.stderr if "left running" in line]


RANDOM = """
import random, secrets, uuid
import numpy as np
import helper
np.random.seed(1)
random.seed(1)
module_rng = np.random.default_rng(1)
module_state = np.random.RandomState(1)
module_random = random.Random(1)
np.random.rand()
class Holder:
    rng = np.random.Generator(np.random.MT19937(1))
"""


def test_every_task_starts_with_fresh_random_state(bench: Bench):
    run = bench.run_of(
        """
        drawn = [np.random.rand(), module_rng.random(), module_rng.spawn(1)[0].random(), module_state.rand(),
                 module_random.random(), random.random(), np.random.default_rng().random(), Holder.rng.random(),
                 helper.rng.random(), helper.inner["rng"].random()]
        self.drawn = [*map(float, drawn), str(uuid.uuid4()), secrets.token_hex(4)]
        self.next(self.end)
        """,
        header=RANDOM,
        files={
            "helper.py": """
            import random
            import numpy as np
            rng = np.random.default_rng(2)
            inner = {"rng": random.Random(2)}
            """
        },
    )

    ran = [bench.execute(run, str(n)) for n in range(3)]
    assert ran[0].result.committed, ran[0].stderr
    drawn = [one.artifact("drawn") for one in ran]

    for values in zip(*drawn, strict=True):
        assert len(set(values)) == 3


def test_streams_are_apart_whole_and_in_order(bench: Bench):
    ran = bench(
        """
        import os, subprocess, sys
        for n in range(50):
            print("out", n)
            print("err", n, file=sys.stderr)
        os.write(1, "gr\\u00fc".encode()[:3])
        os.write(1, "gr\\u00fc".encode()[3:] + b"\\n")
        os.write(2, b"\\xff not text\\n")
        subprocess.run("echo from a shell; echo its complaint >&2", shell=True)
        print("[not *markup*]")
        print("last", end="")
        """
    )

    assert ran.stdout == [
        *(f"out {n}" for n in range(50)),
        "gr\u00fc",
        "from a shell",
        "[not *markup*]",
        "last",
    ]
    assert ran.stderr == [*(f"err {n}" for n in range(50)), "\ufffd not text", "its complaint"]


def test_a_stream_can_be_reconfigured_and_a_kept_one_still_works(bench: Bench):
    ran = bench(
        """
        import sys
        sys.stdout.reconfigure(encoding="ascii", errors="replace")
        print("caf\\u00e9")
        log.warning("through a handler that was made when the file was loaded")
        """,
        header="""
        import logging, sys
        log = logging.getLogger("x")
        log.addHandler(logging.StreamHandler(sys.stdout))
        """,
    )

    assert ran.result.committed, ran.stderr
    assert "caf?" in ran.stdout
    assert "through a handler that was made when the file was loaded" in ran.stdout


def test_of_too_much_output_the_first_and_last_half_are_kept(bench: Bench):
    bench.max_log_bytes = 100_000

    ran = bench('for n in range(1_000_000):\n    print(f"{n:07d}", "x" * 192)')

    log = ran.record.logs["stdout"]
    lines = ran.store.storage.read(log.path).decode().splitlines()
    assert log.size == 201_000_000
    assert sum(map(len, lines)) < 110_000
    assert " 0000000 " in lines[0]
    assert " 0999999 " in lines[-1]
    assert [line for line in lines if "TRUNCATED" in line] == [lines[len(lines) // 2]]


def test_the_random_module_is_fresh_for_every_task_also_if_the_flow_froze_the_collector(bench: Bench):
    run = bench.run_of(
        "print(random.random())\nself.next(self.end)", header="import gc, random\nrandom.seed(1)\ngc.freeze()"
    )

    drawn = [bench.execute(run, task).stdout for task in ("0", "1")]

    assert drawn[0] != drawn[1]
