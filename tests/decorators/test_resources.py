"""`@resources`: what a task needs limits how many run at once, and how many threads its libraries use."""

from __future__ import annotations

import os

import pytest

COUNTED = """
    import json
    import os
    import pathlib
    import time
    from daskflow import FlowSpec, current, resources, step

    HERE = pathlib.Path.cwd()

    def begin():
        (HERE / "running" / current.task_id).mkdir(parents=True)

    def end():
        others = len(os.listdir(HERE / "running"))
        (HERE / "running" / current.task_id).rmdir()
        return others

    class Counted(FlowSpec):
        @step
        def start(self):
            self.items = list(range(6))
            self.next(self.work, foreach="items")

        @resources({options})
        @step
        def work(self):
            begin()
            deadline = time.monotonic() + {wait}
            while len(os.listdir(HERE / "running")) < {at_once} and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.1)
            self.others = end()
            self.devices = os.environ.get("CUDA_VISIBLE_DEVICES")
            self.next(self.join)

        @step
        def join(self, inputs):
            self.most = max(each.others for each in inputs)
            self.next(self.end)

        @step
        def end(self):
            self.devices = os.environ.get("CUDA_VISIBLE_DEVICES")

    if __name__ == "__main__":
        Counted()
"""


@pytest.mark.parametrize(
    ("options", "slots", "at_once"),
    [("cpu=2", 2, 1), ("cpu=2", 4, 2), ("cpu=1", 3, 3), ("cpu=0.5", 2, 2), ("memory={memory}", 3, 1)],
)
def test_no_more_tasks_run_at_once_than_the_workers_can_hold(run_flow, options, slots, at_once):
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
    options = options.format(memory=round(total * 0.6))
    # where more than one should run, each waits for the others; where one should, a second one would be seen
    source = COUNTED.format(options=options, at_once=at_once, wait=20 if at_once > 1 else 0)

    result = run_flow(source, "--max-workers", str(slots))

    assert result.value("join", "most") <= at_once
    if at_once > 1:
        assert result.value("join", "most") == at_once


def test_tasks_with_a_gpu_have_devices_of_their_own_at_a_time(run_flow):
    source = COUNTED.format(options="gpu=1", at_once=2, wait=20)

    result = run_flow(source, "--max-workers", "4", env={"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b"})

    assert result.value("join", "most") == 2
    assert set(result.values("work", "devices")) == {"GPU-a", "GPU-b"}
    assert result.value("end", "devices") == "GPU-a,GPU-b"


THREADS = """
    import os
    import numpy
    from daskflow import FlowSpec, environment, resources, step

    def seen():
        import threadpoolctl

        numpy.ones((2, 2)) @ numpy.ones((2, 2))
        pools = {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}
        return pools, os.environ.get("OMP_NUM_THREADS"), os.environ.get("OPENBLAS_NUM_THREADS")

    class Threads(FlowSpec):
        @step
        def start(self):
            self.seen = seen()
            self.next(self.one)

        @resources(cpu=1)
        @step
        def one(self):
            self.seen = seen()
            self.next(self.two)

        @resources(cpu=2)
        @step
        def two(self):
            self.seen = seen()
            self.next(self.half)

        @resources(cpu=0.5)
        @step
        def half(self):
            self.seen = seen()
            self.next(self.chosen)

        @environment(vars={"OMP_NUM_THREADS": 5})
        @resources(cpu=2)
        @step
        def chosen(self):
            self.seen = seen()
            self.next(self.end)

        @step
        def end(self):
            self.seen = seen()

    if __name__ == "__main__":
        Threads()
"""


def test_the_threads_of_numeric_libraries_follow_the_cores(run_flow):
    result = run_flow(THREADS, "--max-workers", "2", env={"OMP_NUM_THREADS": "3"})

    assert result.value("one", "seen") == ({1}, "1", "1")
    assert result.value("two", "seen") == ({2}, "2", "2")
    assert result.value("half", "seen") == ({1}, "1", "1")
    assert result.value("chosen", "seen")[1:] == ("5", "2")
    assert result.value("start", "seen")[1] == result.value("end", "seen")[1] == "3"


ONE = """
    from daskflow import FlowSpec, resources, step

    class One(FlowSpec):
        @step
        def start(self):
            self.next(self.greedy)

        @resources({options})
        @step
        def greedy(self):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        One()
"""


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ("cpu=3", "needs 3 cores. The workers have: 2 cores"),
        ("memory=10**8", "needs 1 cores, 100,000,000 MB of memory"),
        ("gpu=1", "needs 1 cores, 1 GPUs"),
    ],
)
def test_a_demand_that_no_worker_can_ever_meet_is_an_error_that_names_both(run_flow, options, needs):
    env = {"CUDA_VISIBLE_DEVICES": ""}
    result = run_flow(ONE.format(options=options), "--max-workers", "2", expect=1, env=env)

    assert f"No worker can ever run a task of step 'greedy', which {needs}" in result.stderr
    assert "MB of memory, 0 GPUs." in result.stderr
    assert result.run().tasks("start") == []
    assert result.status() == "failed"


def test_without_a_cluster_resources_are_no_limit(run_flow):
    assert run_flow(ONE.format(options="cpu=99"), "--cluster", "inline").status() == "successful"


WRONG = {
    "cpu=-1": "has cpu=-1, which must be a number from 0 to 1,000,000,000",
    "cpu='two'": "has cpu='two', which must be a number from 0 to 1,000,000,000",
    "cpu=None": "has cpu=None, which must be a number from 0 to 1,000,000,000",
    "memory='4 GB'": "has memory='4 GB', which must be a number from 0 to 1,000,000,000",
    "gpu=0.5": "has gpu=0.5, which must be a whole number from 0 to 1,000,000,000",
    "gpu=True": "has gpu=True, which must be a whole number from 0 to 1,000,000,000",
    "disk=1": "@resources has no option disk; its options are: cpu, gpu, memory",
}


@pytest.mark.parametrize("options", WRONG)
def test_wrong_options_are_refused_before_anything_runs(run_flow, options):
    result = run_flow(ONE.format(options=options), expect=1)

    assert WRONG[options] in result.stderr
    assert not (result.folder / "store").exists()
