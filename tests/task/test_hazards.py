"""Which flows can be forked once they are loaded, and that those that can do work."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daskflow.task import hazards, native_threads
from daskflow.task.native_threads import NativeThread

if TYPE_CHECKING:
    from tests.task.conftest import Bench

UNFIT = {
    "a thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()",
        "thread",
    ),
    "a polars query": (
        "import polars\npolars.DataFrame({'a': [1, 2]}).lazy().select(polars.col('a').sum()).collect()",
        "native thread",
    ),
    "an OpenMP pool": (
        "import numpy\nfrom sklearn.ensemble import HistGradientBoostingClassifier\n"
        "HistGradientBoostingClassifier(max_iter=2).fit(numpy.random.rand(2000, 4), numpy.arange(2000) % 2)",
        "OpenMP",
    ),
    "an OpenMP pool beside Arrow's": (
        "import numpy, pandas, pyarrow, pyarrow.compute\n"
        "pyarrow.table({'a': numpy.random.rand(300_000)}).group_by('a').aggregate([('a', 'sum')])\n"
        "from sklearn.cluster import KMeans\nKMeans(2, n_init=1).fit(numpy.random.rand(3000, 3))",
        "OpenMP",
    ),
    "a thread that Python's threading does not know": (
        "import _thread, time\n_thread.start_new_thread(time.sleep, (1000,))",
        "native thread",
    ),
}

FIT = {
    "a thread that is about to end": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(0.05,)).start()",
        "pass",
    ),
    "nothing": ("", "pass"),
    "numpy, pandas, pyarrow and polars imported": (
        "import numpy, pandas, pyarrow, polars",
        "self.sum = polars.DataFrame({'a': [1, 2]}).lazy().select(polars.col('a').sum()).collect().item()",
    ),
    "scikit-learn imported": (
        "import numpy\nfrom sklearn.ensemble import HistGradientBoostingClassifier",
        "HistGradientBoostingClassifier(max_iter=2).fit(numpy.random.rand(2000, 4), numpy.arange(2000) % 2)",
    ),
    "a BLAS pool": (
        "import numpy\nnumpy.random.rand(500, 500) @ numpy.random.rand(500, 500)",
        "self.x = float((numpy.random.rand(800, 800) @ numpy.random.rand(800, 800)).sum())",
    ),
    "Arrow's pool beside an OpenMP library": (
        "import numpy, pandas, pyarrow, sklearn.cluster\n"
        "pyarrow.table({'a': numpy.random.rand(300_000)}).group_by('a').aggregate([('a', 'sum')])",
        "sklearn.cluster.KMeans(2, n_init=1).fit(numpy.random.rand(3000, 3))",
    ),
    "two BLAS pools": (
        "import numpy, scipy.linalg\na = numpy.random.rand(400, 400)\na @ a\nscipy.linalg.svd(a)",
        "a @ a\nscipy.linalg.svd(a)\nnumpy.linalg.svd(a)",
    ),
    "an Arrow pool": (
        "import pyarrow, pyarrow.compute, pyarrow.parquet, numpy\n"
        "table = pyarrow.table({f'c{n}': numpy.random.rand(300_000) for n in range(4)})\n"
        "table.to_pandas()\ntable.group_by('c0').aggregate([('c1', 'sum')])",
        "pyarrow.parquet.write_table(table, 'x.parquet')\n"
        "self.rows = pyarrow.parquet.read_table('x.parquet').group_by('c0').aggregate([('c1', 'sum')]).num_rows",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_flow_that_cannot_be_forked_gets_fresh_interpreters_and_says_why(auto_bench: Bench, case: str):
    header, word = UNFIT[case]

    ran = auto_bench("self.x = 1", header=header)

    assert ran.result.committed, ran.stderr
    assert ran.record.process["launcher"] == "fresh"
    (notice,) = ran.heard.notices
    assert word in notice
    assert "slower" in notice


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", FIT)
def test_a_flow_that_can_be_forked_is_forked_and_its_libraries_work(auto_bench: Bench, case: str):
    header, body = FIT[case]

    ran = auto_bench(body, header=header)

    assert ran.result.committed, ran.stderr
    assert ran.record.process["launcher"] == "fork"
    assert ran.heard.notices == []


def test_an_open_gpu_forbids_a_fork(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    real = os.readlink
    with (tmp_path / "device").open("w") as file:
        place = f"/proc/self/fd/{file.fileno()}"
        monkeypatch.setattr(os, "readlink", lambda path: "/dev/nvidia0" if path == place else real(path))
        found = hazards.why_not_fork()

    assert found is not None


@pytest.mark.parametrize("library", ["libcurl.so.4", "libcuda.so.1", "libcrypto.so.3"])
def test_the_library_that_started_a_thread_is_named(monkeypatch: pytest.MonkeyPatch, library: str):
    own = Path(f"/proc/self/task/{os.getpid()}/comm").read_text().strip()
    thread = NativeThread(own, frozenset({"libc.so.6", "libc-2.31.so", library}))
    monkeypatch.setattr(native_threads, "others", lambda: [thread])
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.main_thread()])

    assert hazards.why_not_fork() == f"its import started a native thread of {library}"


def test_a_driver_that_cannot_be_forked_starts_fresh_interpreters(tmp_path: Path):
    header, _ = UNFIT["a thread"]
    (tmp_path / "flow.py").write_text(
        f"{header}\nfrom daskflow import FlowSpec, step\nclass F(FlowSpec):\n    @step\n"
        "    def start(self):\n        print('here')\nif __name__ == '__main__':\n    F()\n"
    )
    done = subprocess.run(
        [sys.executable, "flow.py", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )

    assert done.returncode == 0, done.stderr
    assert "started the thread" in done.stdout
    assert "here" in done.stdout
