"""Steps that use Dask themselves: collections are computed by processes beside the step's, and pass between steps lazily."""

from __future__ import annotations

import re
import subprocess
import sys

import pandas
import pytest
from watching import ON_LOOPBACK, living, scheduler_address, wait_until

from daskflow import Run, Task, namespace
from daskflow.store.serializers import dask_frames

COLLECTIONS = """
    import os
    import daskflow
    from daskflow import FlowSpec, resources, step


    def made(number):
        import pandas as pd

        rows = range(number * 100, (number + 1) * 100)
        return pd.DataFrame({"x": rows, "pid": os.getpid()}, index=rows)


    class Collections(FlowSpec):
        @step
        def start(self):
            import dask.dataframe as dd

            self.ddf = dd.from_map(made, range(8))
            self.own = os.getpid()
            self.next(self.middle)

        @resources(cpu=1, memory=500)
        @step
        def middle(self):
            import dask
            import distributed

            self.pids = [int(pid) for pid in self.ddf.pid.unique().compute()]
            self.more = self.ddf.assign(y=self.ddf.x * 2)
            self.delayed = dask.delayed(os.getpid)().compute()
            self.workers = len(distributed.default_client().scheduler_info()["workers"])
            self.next(self.fan)

        @step
        def fan(self):
            self.numbers = list(range(10))
            self.next(self.work, foreach="numbers")

        @step
        def work(self):
            import pandas as pd

            self.df = pd.DataFrame({"n": [self.input, self.input]})
            self.next(self.join)

        @step
        def join(self, inputs):
            self.all = inputs.concat("df")
            self.merge_artifacts(inputs, exclude=["df"])
            self.next(self.end)

        @step
        def end(self):
            self.total = int(self.more.y.sum().compute())
            self.known = self.more.divisions
            self.sum = int(self.all.n.sum().compute())


    if __name__ == "__main__":
        Collections()
"""


@pytest.fixture(autouse=True)
def all_runs():
    namespace(None)
    yield
    namespace("user:ada")


@pytest.fixture(scope="module")
def here(run_flow):
    return run_flow(COLLECTIONS)


@pytest.fixture(scope="module")
def elsewhere(run_flow, tmp_path_factory):
    """The same on a cluster whose only slot the steps need themselves."""
    told = tmp_path_factory.mktemp("cluster") / "scheduler.json"
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": told.parent}
    command = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
    command += ["--scheduler-file", str(told)]
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", *command[1:]], **options
    )
    worker = None
    try:
        address = scheduler_address(told)
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1"]
        worker = subprocess.Popen([*command, "--nworkers", "1", "--no-nanny", *ON_LOOPBACK], **options)
        result = run_flow(COLLECTIONS, "--cluster", address)
        result.address = address
        yield result
    finally:
        for process in filter(None, (worker, scheduler)):
            process.terminate()
            process.wait()


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_a_lazy_frame_passes_through_steps_and_comes_back_lazy(where: str, request: pytest.FixtureRequest):
    result = request.getfixturevalue(where)

    assert result.value("end", "total") == 2 * sum(range(800))
    assert result.value("end", "known") == (*range(0, 800, 100), 799)
    assert result.record("start").artifacts["ddf"].info["npartitions"] == 8
    assert result.value("end", "sum") == 2 * sum(range(10))


@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_partitions_are_made_and_written_by_other_processes_than_the_step_s(
    where: str, request: pytest.FixtureRequest
):
    result = request.getfixturevalue(where)

    assert result.value("start", "own") not in result.value("middle", "pids")
    assert result.value("middle", "delayed") != result.record("middle").process["pid"]


def test_a_step_gets_as_many_workers_as_it_asks_for_cores(here):
    assert here.value("middle", "workers") == 1


def test_the_workers_end_with_their_step(here):
    wait_until(lambda: not living(here.value("middle", "pids")))
    assert "left running" not in here.text
    assert not re.search(r"distributed\.\w+ -", here.text)


def test_a_step_that_names_a_scheduler_gets_no_workers(run_flow):
    result = run_flow("""
        import os
        from daskflow import FlowSpec, step


        class Threads(FlowSpec):
            @step
            def start(self):
                import dask

                with dask.config.set(scheduler="threads"):
                    self.same = dask.delayed(os.getpid)().compute() == os.getpid()
                self.next(self.end)

            @step
            def end(self):
                pass


        if __name__ == "__main__":
            Threads()
    """)

    assert result.value("start", "same") is True


def test_a_step_that_imports_dask_and_computes_nothing_starts_nothing(run_flow):
    result = run_flow("""
        import dask.distributed
        from daskflow import FlowSpec, step


        class Idle(FlowSpec):
            @step
            def start(self):
                self.clients = len(dask.distributed.client._global_clients)
                self.next(self.end)

            @step
            def end(self):
                pass


        if __name__ == "__main__":
            Idle()
    """)

    assert result.value("start", "clients") == 0


def test_a_lazy_frame_in_the_store_is_read_in_every_way(here):
    artifact = Task("Collections/1/start/0", store=here.store.url).artifacts.ddf

    assert (artifact.rows, artifact.head(3).x.tolist()) == (800, [0, 1, 2])
    assert artifact.dask().x.sum().compute(scheduler="sync") == sum(range(800))
    assert artifact.scan().select("x").sum().collect().item() == sum(range(800))
    assert artifact.dataset().to_table(columns=["x"]).num_rows == 800
    assert pandas.read_parquet(artifact.path).x.tolist() == list(range(800))


def test_dump_shows_where_a_lazy_frame_is(here, workspace):
    out = type(workspace())(here.folder).call("flow.py", "dump", "1/start").stdout

    path = Task("Collections/1/start/0", store=here.store.url).artifacts.ddf.path
    assert f"= {path}, 800 rows in 8 partitions" in out


def test_a_table_of_pandas_is_read_lazily_too(here):
    run = Run("Collections/1", store=here.store.url)

    for task in run["work"]:
        assert task.artifacts.df.dask().n.sum().compute(scheduler="sync") == 2 * task.index


def test_the_tables_of_all_inputs_are_one_dataset(run_flow):
    result = run_flow(
        """
        import pandas as pd
        from daskflow import FlowSpec, step


        class Gathered(FlowSpec):
            @step
            def start(self):
                self.numbers = list(range(30))
                self.next(self.work, foreach="numbers")

            @step
            def work(self):
                self.df = pd.DataFrame({"n": [self.input], "t": ["x"]})
                self.next(self.join)

            @step
            def join(self, inputs):
                found = inputs.dataset("df")
                self.files = len(set(found.files))
                self.numbers = found.to_table(columns=["n"]).column("n").to_pylist()
                self.next(self.end)

            @step
            def end(self):
                pass


        if __name__ == "__main__":
            Gathered()
        """,
        "--chunk",
        "10",
    )

    assert result.value("join", "numbers") == list(range(30))
    assert result.value("join", "files") == 3


def test_a_dataset_has_the_columns_of_all_tables_if_their_types_go_together(run_flow):
    result = run_flow(
        """
        import pandas as pd
        from daskflow import FlowSpec, step


        class Mixed(FlowSpec):
            @step
            def start(self):
                self.numbers = [1, 2.5]
                self.next(self.work, foreach="numbers")

            @step
            def work(self):
                self.df = pd.DataFrame({"n": [self.input], f"only_{self.index}": ["x"]})
                self.other = pd.DataFrame({"n": [["text", 1][self.index]]})
                self.next(self.join)

            @step
            def join(self, inputs):
                self.rows = inputs.dataset("df").to_table().to_pylist()
                try:
                    inputs.dataset("other")
                except Exception as error:
                    self.error = f"{type(error).__name__}: {error}"
                self.next(self.end)

            @step
            def end(self):
                pass


        if __name__ == "__main__":
            Mixed()
        """
    )

    assert result.value("join", "rows") == [
        {"n": 1.0, "only_0": "x", "only_1": None},
        {"n": 2.5, "only_0": None, "only_1": "x"},
    ]
    error = result.value("join", "error")
    assert error.startswith("DataException: The tables do not go together: ")
    assert "n" in error


def test_the_first_rows_are_read_of_as_few_partitions_as_have_them(here, monkeypatch):
    artifact = Task("Collections/1/start/0", store=here.store.url).artifacts.ddf
    read = []
    real = dask_frames._load
    monkeypatch.setattr(
        dask_frames, "_load", lambda part, folder: read.append(part.file) or real(part, folder)
    )

    assert artifact.head(150).x.tolist() == list(range(150))
    assert [file for file in sorted(read) if file.startswith("part")] == [
        "part.00000.parquet",
        "part.00001.parquet",
    ]


def test_the_workers_of_a_step_are_reached_from_this_machine_alone(run_flow):
    result = run_flow("""
        import dask
        import psutil
        from daskflow import FlowSpec, step


        class Listening(FlowSpec):
            @step
            def start(self):
                dask.delayed(sum)([1, 2]).compute()
                here = psutil.Process()
                processes = [here, *here.children(recursive=True)]
                found = [each for process in processes for each in process.net_connections(kind="inet")]
                self.listen = sorted({each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN})
                self.next(self.end)

            @step
            def end(self):
                pass


        if __name__ == "__main__":
            Listening()
    """)

    assert result.value("start", "listen") == ["127.0.0.1"]


def test_a_step_whose_workers_die_fails_and_does_not_wait(run_flow):
    result = run_flow(
        """
        import os
        import signal

        import dask
        from daskflow import FlowSpec, resources, step


        def dies():
            os.kill(os.getpid(), signal.SIGKILL)


        class Deadly(FlowSpec):
            @resources(cpu=1, memory=500)
            @step
            def start(self):
                dask.delayed(dies)().compute()
                self.next(self.end)

            @step
            def end(self):
                pass


        if __name__ == "__main__":
            Deadly()
        """,
        expect=1,
    )

    assert "KilledWorker" in result.text


def test_threads_of_a_step_get_the_same_client(run_flow):
    result = run_flow("""
        import threading

        import dask
        from daskflow import FlowSpec, step


        class Threads(FlowSpec):
            @step
            def start(self):
                import os

                found = []
                barrier = threading.Barrier(2)

                def compute():
                    barrier.wait()
                    found.append(dask.delayed(os.getpid)().compute())

                threads = [threading.Thread(target=compute) for _ in range(2)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                self.elsewhere = os.getpid() not in found
                self.next(self.end)

            @step
            def end(self):
                pass


        if __name__ == "__main__":
            Threads()
    """)

    assert result.value("start", "elsewhere") is True


def test_tasks_that_come_together_give_one_slot_back(elsewhere, run_flow):
    """Each of these computes, one after the other in the thread of one Dask task."""
    result = run_flow(
        """
        import dask
        from daskflow import FlowSpec, step


        class Apart(FlowSpec):
            @step
            def start(self):
                self.numbers = list(range(8))
                self.next(self.work, foreach="numbers")

            @step
            def work(self):
                self.y = dask.delayed(sum)([self.input, 1]).compute()
                self.next(self.join)

            @step
            def join(self, inputs):
                self.all = [each.y for each in inputs]
                self.next(self.end)

            @step
            def end(self):
                pass


        if __name__ == "__main__":
            Apart()
        """,
        "--isolate",
        "--cluster",
        elsewhere.address,
    )

    assert result.value("join", "all") == list(range(1, 9))


def test_what_a_lazy_frame_raises_when_it_is_stored_is_the_step_s_failure(run_flow):
    result = run_flow(
        """
        from daskflow import FlowSpec, step


        def bad(number):
            raise ValueError("this part is bad")


        class Bad(FlowSpec):
            @step
            def start(self):
                import dask.dataframe as dd
                import pandas as pd

                self.d = dd.from_map(bad, range(2), meta=pd.DataFrame({"x": [1]}))
                self.next(self.end)

            @step
            def end(self):
                pass


        if __name__ == "__main__":
            Bad()
        """,
        expect=1,
    )

    assert "artifact 'd': ValueError: this part is bad" in result.failed("start").error["exception"]


def test_results_that_end_with_the_step_s_workers_are_refused(run_flow):
    result = run_flow(
        """
        from daskflow import FlowSpec, step


        class Held(FlowSpec):
            @step
            def start(self):
                import dask.array as da

                self.held = {"v": da.arange(100, chunks=10).persist()}
                self.next(self.end)

            @step
            def end(self):
                pass


        if __name__ == "__main__":
            Held()
        """,
        expect=1,
    )

    assert (
        "artifact 'held': It holds results that live only in the workers"
        in result.failed("start").error["exception"]
    )
