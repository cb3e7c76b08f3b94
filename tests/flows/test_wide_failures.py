"""What goes wrong with one of the items that share a process costs only that one."""

from __future__ import annotations

import pytest

from tests.flows.wide_runs import began, client, commits, counts, pids

# What ends the sharing


LEFT = """
    import os
    import socket
    import subprocess
    import sys
    import threading
    from daskflow import FlowSpec, step

    KEPT = []

    def thread():
        stop = threading.Event()
        KEPT.append(stop)
        threading.Thread(target=stop.wait, name="left behind", daemon=True).start()

    def child():
        KEPT.append(subprocess.Popen(["sleep", "1000"]))

    def ended_child():
        KEPT.append(os.posix_spawn("/bin/true", ["true"], {}))

    def open_socket():
        KEPT.append(socket.socket())

    def closed():
        subprocess.run(["true"], check=True)
        with socket.socketpair()[0]:
            pass
        one = threading.Thread(target=int)
        one.start()
        one.join()
        KEPT.append(open(os.devnull))

    def nothing():
        pass

    WAYS = [nothing, thread, nothing, nothing, child, nothing, open_socket, nothing, closed, nothing, ended_child]
    WAYS += [nothing, nothing, thread]

    class Left(FlowSpec):
        @step
        def start(self):
            self.items = range(len(WAYS))
            self.next(self.work, foreach="items")

        @step
        def work(self):
            self.pid = os.getpid()
            with open("began", "a") as file:
                file.write(f"{self.index}\\n")
            WAYS[self.index]()
            self.done = True
            self.next(self.join)

        @step
        def join(self, inputs):
            self.done = all(i.done for i in inputs)
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Left()
"""


@pytest.fixture(scope="module")
def left(run_flow):
    return run_flow(LEFT, "--chunk", "20", "--max-workers", "1")


def test_what_an_item_leaves_running_ends_the_sharing_and_the_item_counts(left):
    # nothing, thread | nothing, nothing, child | nothing, socket | and after the third each has its own
    assert counts(pids(left)) == [2, 3, 2, *[1] * 7]
    assert (
        "3 items of work could not share a process: each that is not begun has its own from here on."
        in left.text
    )
    assert left.value("end", "done") is True
    assert set(began(left).values()) == {1}
    assert set(commits(left, "Left").values()) == {1}
    assert all(left.record("work", task).attempt == 0 for task in left.tasks("work"))


def test_why_the_sharing_ended_is_told_with_the_items_name(left):
    for words in (
        "work/1: thread 'left behind' is still running",
        "work/4: a child process is still there",
        "work/6: a socket is still open",
    ):
        assert words in left.text
    assert "work/13" not in "".join(line for line in left.text.splitlines() if "still" in line), (
        "none is left"
    )
    assert not [line for line in left.text.splitlines() if "tried alone" in line]


# One that fails


WAYS = {
    "raises": "raise ValueError('no good')",
    "leaves": "os._exit(3)",
    "segfaults": "os.kill(os.getpid(), signal.SIGSEGV)",
    "is killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "exits": "sys.exit('bye')",
    "exits well": "sys.exit(0)",
    "hangs": "time.sleep(1000)",
}

FAILS = """
    import os
    import resource
    import signal
    import sys
    import time
    from daskflow import FlowSpec, catch, current, retry, step, timeout

    FAILS = KINDS

    class Fails(FlowSpec):
        @step
        def start(self):
            self.items = range(21)
            self.next(self.work, foreach="items")

        @catch(var="failure")
        @retry(times=1, minutes_between_retries=0)
        @timeout(seconds=1)
        @step
        def work(self):
            self.pid = os.getpid()
            self.attempt = current.retry_count
            with open("began", "a") as file:
                file.write(f"{self.index}\\n")
            with open("began") as file:
                times = file.read().split().count(str(self.index))
            print("try", times)
            if times <= FAILS.get(self.index, 0):
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                WAY
            self.done = self.index
            self.next(self.join)

        @step
        def join(self, inputs):
            self.done = [getattr(i, "done", None) for i in inputs]
            self.failed = [i.index for i in inputs if i.failure]
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Fails()
"""
KINDS = {1: "only beside others", 2: "once more alone", 9: "always"}
"""How often the item that is to fail does."""


@pytest.fixture(scope="module")
def fails(run_flow):
    """A function: a way to fail to the run of 3 x 7 items in which the first, the middle and the last of 7 fail so."""
    made = {}

    def run(way, turn):
        kinds = [*KINDS][turn % 3 :] + [*KINDS][: turn % 3]
        if way not in made:
            kind_of = dict(zip((0, 10, 20), kinds, strict=True))
            source = FAILS.replace("WAY", WAYS[way]).replace("KINDS", str(kind_of))
            made[way] = run_flow(source, "--chunk", "7", "--max-workers", "2"), kind_of
        return made[way]

    return run


@pytest.mark.parametrize(("turn", "way"), list(enumerate(WAYS)), ids=WAYS)
def test_an_item_that_fails_costs_only_itself(fails, turn, way):
    result, kinds = fails(way, turn)

    assert set(commits(result, "Fails").values()) == {1}
    assert len(commits(result, "Fails")) == 21
    tries = {1: 2, 2: 3, 9: 3}
    assert began(result) == {str(i): tries[kinds[i]] if i in kinds else 1 for i in range(21)}
    always = [i for i in kinds if kinds[i] == 9]
    assert result.value("end", "done") == [None if i in always else i for i in range(21)]
    assert result.value("end", "failed") == always


@pytest.mark.parametrize(("turn", "way"), list(enumerate(WAYS)), ids=WAYS)
def test_the_one_that_failed_is_tried_alone_and_only_then_its_attempts_count(fails, turn, way):
    result, kinds = fails(way, turn)

    for index, kind in kinds.items():
        record = result.record("work", str(index))
        attempts = list(result.run().failed_attempts(record.name))
        last = 2 if way in ("leaves", "segfaults", "is killed") else 1  # the dead catch nothing themselves
        assert (record.attempt, len(attempts)) == {1: (0, 0), 2: (1, 1), 9: (last, last)}[kind]
        assert [each.attempt for each in attempts] == list(range(len(attempts)))
        assert "shared_by" not in record.process
        assert f"Task 1/work/{index} failed in a process that it shared" in result.text
        if kind != 9:
            assert record.process["pid"] == result.value("work", "pid", str(index))
            assert pids(result).count(record.process["pid"]) == 1
            assert client(result, f"work/{index}").stdout == f"try {kind + 1}\n"
    neighbours = [i for i in range(21) if i not in kinds]
    assert {result.record("work", str(i)).attempt for i in neighbours} == {0}
    shared = [result.record("work", str(i)).process["shared_by"] for i in (7, 14, 19)]
    assert all(1 < count <= 7 for count in shared)
    assert all(client(result, f"work/{i}").stdout == "try 1\n" for i in neighbours)


CAUGHT = """
    import os
    from daskflow import FlowSpec, catch, step

    class Caught(FlowSpec):
        @step
        def start(self):
            self.items = range(20)
            self.next(self.work, foreach="items")

        @catch(var="failure")
        @step
        def work(self):
            with open("began", "a") as file:
                file.write(f"{self.index}\\n")
            with open("began") as file:
                times = file.read().split().count(str(self.index))
            if self.index == 13 or (self.index in (0, 9) and times == 1):
                raise ValueError(f"no good {self.index}")
            self.next(self.join)

        @step
        def join(self, inputs):
            self.failed = [i.index for i in inputs if i.failure]
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Caught()
"""


def test_an_item_that_fails_beside_others_is_tried_alone_before_its_failure_is_caught(run_flow):
    result = run_flow(CAUGHT, "--chunk", "10")

    assert result.value("end", "failed") == [13]
    assert began(result) == {str(i): 2 if i in (0, 9, 13) else 1 for i in range(20)}
    assert [i for i in range(20) if result.record("work", str(i)).error is not None] == [13]
    assert "no good 13" in result.record("work", "13").error["exception"]


def test_a_step_whose_items_fail_again_and_again_gets_a_process_for_each(run_flow):
    source = FAILS.replace("WAY", "raise ValueError").replace("KINDS", str(dict.fromkeys(range(0, 21, 2), 1)))

    result = run_flow(source, "--chunk", "7", "--max-workers", "1")

    assert (
        "3 items of work could not share a process: each that is not begun has its own from here on."
        in result.text
    )
    assert result.text.count("it is tried alone") < 11, "all that fail in company"
    assert set(commits(result, "Fails").values()) == {1}
    assert all(result.record("work", str(i)).attempt <= 1 for i in range(21))
    assert result.value("end", "done") == list(range(21))


HOPELESS = """
    from daskflow import FlowSpec, step

    class Hopeless(FlowSpec):
        @step
        def start(self):
            self.items = range(300)
            self.next(self.work, foreach="items")

        @step
        def work(self):
            with open("began", "a") as file:
                file.write(f"{self.index}\\n")
            raise ValueError(f"no good {self.index}")
            self.next(self.join)

        @step
        def join(self, inputs):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Hopeless()
"""


@pytest.mark.parametrize("options", [[], ["--chunk", "50"]], ids=["timed", "chunks of 50"])
def test_if_every_item_fails_the_run_ends_with_the_first_and_not_after_all_of_them(run_flow, options):
    result = run_flow(HOPELESS, "--max-workers", "2", *options, expect=1)

    assert "no good" in result.text
    assert "Step failure" in result.text
    assert sum(began(result).values()) < 60
    assert result.status() == "failed"
