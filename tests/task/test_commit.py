"""A committed task is never run again, and of two executions of one task one counts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from daskflow.task.execute import execute
from tests.task.conftest import Heard

if TYPE_CHECKING:
    from tests.task.conftest import Bench

COUNTED = """
import os
with open("ran", "a") as file:
    file.write("x")
self.x = os.getpid()
self.next(self.end)
"""


def test_a_committed_task_is_answered_without_being_run(auto_bench: Bench):
    run = auto_bench.run_of(COUNTED)
    first = auto_bench.execute(run)

    heard = Heard()
    again = execute(auto_bench.spec(run), heard, auto_bench.launchers)

    assert again.reused
    assert again.execution == first.result.execution
    assert again.targets == first.result.targets == ("end",)
    assert heard.pids == []
    assert (auto_bench.folder / "ran").read_text() == "x"


def test_of_two_executions_of_one_task_one_counts_for_both(auto_bench: Bench):
    run = auto_bench.run_of(
        """
        import os, pathlib, time
        import numpy
        self.x = numpy.full(300_000, os.getpid())
        self.pid = os.getpid()
        pathlib.Path(f"here-{os.getpid()}").touch()
        while len(list(pathlib.Path(".").glob("here-*"))) < 2:
            time.sleep(0.005)
        self.next(self.end)
        """
    )
    results: list = []

    def work() -> None:
        results.append(execute(auto_bench.spec(run), Heard(), auto_bench.launchers))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    ran = auto_bench.execute(run)
    assert [result.status for result in results] == ["committed"] * 2
    assert {result.execution for result in results} == {ran.record.execution}
    assert len(ran.store.executions(ran.record.name)) == 2
    assert set(ran.artifact("x")) == {ran.artifact("pid")}


def test_a_full_disk_fails_the_attempt_with_the_stores_words(auto_bench: Bench):
    run = auto_bench.run_of(
        """
        import errno, os
        import numpy
        from daskflow.store import retries, storage
        retries.PATIENCE_SECONDS = 0.1
        def full(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.small = 1
        self.large = numpy.zeros(1_000_000)
        storage.os = type("os", (), {**vars(os), "fsync": staticmethod(full)})
        self.next(self.end)
        """
    )

    ran = auto_bench.execute(run)

    assert ran.result.status == "failed"
    assert "No space left on device" in ran.record.error["exception"]
    assert "'large'" in ran.record.error["exception"]
    assert ran.artifact("small") == 1
