"""Items of a foreach that share processes: each is a task like any other, and what goes wrong with one costs only that."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import Counter
from itertools import groupby

import pytest

from daskflow import Run, Task
from daskflow.store.layout import chunk_of
from tests.watching import descendants, living, wait_until


def client(result, name, number=1):
    return Task(f"{result.flow}/{number}/{name}", store=str(result.folder / "store"))


def pids(result, step="work"):
    """Of each item the process that its record names, by index."""
    return [result.record(step, task).process["pid"] for task in result.tasks(step)]


def counts(lines):
    """How many neighbours are the same, one after the other."""
    return [len(list(same)) for _, same in groupby(lines)]


def began(place):
    """How often each item began."""
    path = place.folder / "began"
    return Counter(path.read_text().split()) if path.exists() else Counter()


def commits(place, flow, number=1, step="work"):
    """In how many commits of a run each task of a step is, as the files say."""
    found = Counter()
    folder = place.folder / "store" / flow / str(number) / step
    for file in folder.iterdir():
        if tasks := chunk_of(step, file.name):
            done = json.loads(file.read_text())["done"]
            found.update(name.task_id for name in tasks.part(0, done).names())
        elif (file / "task.json").exists():
            found[file.name] += 1
    return found


def chunks(result, step="work", number=1):
    """The sizes of what was committed together, in order."""
    folder = result.folder / "store" / result.flow / str(number) / step
    found = [tasks for file in folder.iterdir() if (tasks := chunk_of(step, file.name))]
    return [tasks.count for tasks in sorted(found)]


# Each item is a task


ITEMS = """
    import ctypes
    import os
    import random
    import signal
    import subprocess
    import sys
    import numpy as np
    import pandas as pd
    from daskflow import FlowSpec, current, step

    RNG = np.random.default_rng(5)
    SEEN = []

    def surroundings():
        return {
            "cwd": os.getcwd(),
            "environment": (os.environ.get("MINE"), os.environ.get("HOME"), b"RAW" in os.environb),
            "path": list(sys.path),
            "umask": umask(),
            "handlers": [str(signal.getsignal(number)) for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGALRM)],
            "timer": signal.getitimer(signal.ITIMER_REAL),
            "streams": (sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__, sys.stdin is sys.__stdin__),
        }

    def umask():
        now = os.umask(0)
        os.umask(now)
        return now

    def spoil(streams):
        os.makedirs("elsewhere", exist_ok=True)
        os.chdir("elsewhere")
        os.environ["MINE"] = "1"
        os.environb[b"RAW"] = b"\\xff"
        os.environ.pop("HOME", None)
        sys.path.insert(0, "/mine")
        os.umask(0o077)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 1000)
        random.seed(1)
        np.random.seed(1)
        RNG.bit_generator.state = np.random.default_rng(1).bit_generator.state
        if streams:
            sys.stdout = sys.stderr = sys.stdin = None

    class Items(FlowSpec):
        @step
        def start(self):
            self.common = "c" * 50
            self.items = [f"item {i}" for i in range(40)]
            self.next(self.work, foreach="items")

        @step
        def work(self):
            self.pid = os.getpid()
            self.surroundings = surroundings()
            self.random = [random.random(), np.random.random(), RNG.random()]
            SEEN.append(self.index)
            self.before_me = SEEN[:-1]
            self.known = (current.pathspec, current.task_id, current.retry_count, self.index, self.input)
            self.stack = self.foreach_stack()
            self.frame = pd.DataFrame({"x": [self.index]})
            if self.index % 5 == 0:
                self.only_some = self.index
            print("words of", self.index)
            print("complaint of", self.index, file=sys.stderr)
            if self.index % 10 == 3:
                sys.stdout.flush()
                line = b"from C %d\\n" % self.index
                ctypes.CDLL(None).write(1, line, len(line))
                ctypes.CDLL(None).puts(b"from C's own buffer %d" % self.index)
                subprocess.run(["echo", f"from a child {self.index}"])
                print("no end of line", self.index, end="")
            if self.index % 10 == 6:
                print("unflushed", self.index, end="")
                sys.stdout = open(os.devnull, "w")
                print("nowhere")
            spoil(self.index % 4 == 0)
            self.next(self.join)

        @step
        def join(self, inputs):
            self.common_still = {i.common for i in inputs}
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Items()
"""


@pytest.fixture(scope="module")
def items(run_flow):
    return run_flow(ITEMS, "--chunk", "8", "--max-workers", "2")


def test_each_item_has_a_name_an_index_and_artifacts_of_its_own(items):
    assert items.tasks("work") == [str(i) for i in range(40)]
    for i in (0, 1, 7, 8, 23, 39):
        known = items.value("work", "known", str(i))
        assert known == (f"Items/1/work/{i}", str(i), 0, i, f"item {i}")
        assert items.value("work", "stack", str(i)) == [(i, 40, f"item {i}")]
        assert items.value("work", "frame", str(i)).to_dict("list") == {"x": [i]}
        assert ("only_some" in items.names("work", str(i))) is (i % 5 == 0)
        task = client(items, f"work/{i}")
        assert task.successful
        assert task.index == i
        assert task.data.common == "c" * 50
        assert [parent.pathspec for parent in task.parent_tasks] == ["Items/1/start/0"]
        assert [child.pathspec for child in task.child_tasks] == ["Items/1/join/0"]
    assert items.value("join", "common_still") == {"c" * 50}


def test_the_record_of_an_item_says_what_it_shared_its_process_with(items):
    record = items.record("work", "11")

    assert record.process["shared_by"] == 8
    assert record.process["pid"] == items.value("work", "pid", "11")
    assert record.attempt == 0
    assert record.ok
    assert record.started < record.finished <= items.record("work", "12").finished
    assert client(items, "work/11").metadata_dict["shared_by"] == 8
    assert "shared_by" not in items.record("join").process


def test_each_item_has_the_log_of_what_it_wrote_itself(items):
    for i in range(40):
        task = client(items, f"work/{i}")
        more = {
            3: f"from C {i}\nfrom C's own buffer {i}\nfrom a child {i}\nno end of line {i}\n",
            6: f"unflushed {i}\n",
        }.get(i % 10, "")
        assert task.stdout == f"words of {i}\n{more}"
        assert task.stderr == f"complaint of {i}\n"


def test_what_an_item_writes_is_shown_under_its_own_name(items):
    for i in range(40):
        (line,) = [line for line in items.stdout.splitlines() if line.endswith(f" words of {i}")]
        assert f"[1/work/{i} (pid {items.value('work', 'pid', str(i))})]" in line


def test_what_an_item_changes_of_its_process_is_as_it_was_for_the_next(items):
    first, *others = items.values("work", "surroundings")

    assert first["cwd"] == str(items.folder)
    assert first["environment"][0] is None
    assert first["environment"][1] is not None
    assert first["umask"] != 0o077
    assert first["timer"] == (0, 0)
    assert first["streams"] == (True, True, True)
    assert others == [first] * 39


def test_each_item_has_random_numbers_of_its_own_though_others_seed_their_generators(items):
    drawn = [number for numbers in items.values("work", "random") for number in numbers]

    assert len(set(drawn)) == 3 * 40


def test_what_the_modules_hold_stays_from_item_to_item_of_a_process(items):
    before = items.values("work", "before_me")

    assert before == [list(range(i // 8 * 8, i)) for i in range(40)]


OUTPUTS = """
    import os
    import sys
    from daskflow import FlowSpec, step

    def nothing():
        pass

    def redirects():
        file = os.open("elsewhere", os.O_CREAT | os.O_WRONLY)
        os.dup2(file, 1)
        os.close(file)
        os.write(1, b"mine")

    def closes_descriptors():
        os.close(1)
        os.close(2)

    def closes_streams():
        sys.stdout.close()
        sys.stderr.close()

    def writes_much():
        print("x" * 100_000)

    def writes_bytes():
        os.write(1, b"\\0\\0\\xff\\0" + b"0" * 16 + b"\\n\\0")

    WAYS = [redirects, closes_descriptors, closes_streams, writes_much, writes_bytes]

    class Outputs(FlowSpec):
        @step
        def start(self):
            self.items = range(2 * len(WAYS) + 1)
            self.next(self.work, foreach="items")

        @step
        def work(self):
            print("words of", self.index, flush=True)
            print("complaint of", self.index, file=sys.stderr, flush=True)
            (WAYS[self.index // 2] if self.index % 2 else nothing)()
            self.next(self.join)

        @step
        def join(self, inputs):
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Outputs()
"""


def test_what_an_item_does_to_its_output_is_no_matter_of_the_next(run_flow):
    result = run_flow(OUTPUTS, "--chunk", "20", "--max-workers", "1")

    for i in range(11):
        task = client(result, f"work/{i}")
        assert task.stdout.startswith(f"words of {i}\n")
        assert i in (7, 9) or task.stdout == f"words of {i}\n"
        assert task.stderr == f"complaint of {i}\n"
    assert len(client(result, "work/7").stdout) == 100_012
    assert client(result, "work/9").stdout.endswith("0" * 16 + "\n\0\n")
    assert (result.folder / "elsewhere").read_bytes() == b"mine"
    assert "tried alone" not in result.text, "none of them fails alone"


# How many share a process


PLAIN = """
    import os
    from daskflow import FlowSpec, isolated, step

    class Plain(FlowSpec):
        @step
        def start(self):
            self.items = range(30)
            self.next(self.work, foreach="items")

        @step
        def work(self):
            self.pid = os.getpid()
            self.x = self.input * 2
            self.next(self.join)

        @step
        def join(self, inputs):
            self.sum = sum(i.x for i in inputs)
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Plain()
"""


def test_a_chunk_has_as_many_items_as_was_said(run_flow):
    plain = run_flow(PLAIN, "--chunk", "7")

    assert counts(pids(plain)) == [7, 7, 7, 7, 2]
    assert chunks(plain) == [7, 7, 7, 7, 2]
    assert [plain.record("work", str(i)).process["shared_by"] for i in (0, 8, 29)] == [7, 7, 2]
    assert plain.value("end", "sum") == 870


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (PLAIN, ["--isolate"]),
        (PLAIN, ["--chunk", "1"]),
        (
            PLAIN.replace(
                "        @step\n        def work", "        @isolated\n        @step\n        def work"
            ),
            [],
        ),
        (PLAIN, ["--with", "isolated", "--chunk", "7"]),
    ],
    ids=["--isolate", "--chunk 1", "@isolated", "--with isolated"],
)
def test_isolated_items_have_a_process_each(run_flow, source, options):
    plain = run_flow(source, *options)

    assert len(set(pids(plain))) == 30
    assert chunks(plain) == []
    assert all("shared_by" not in plain.record("work", str(i)).process for i in range(30))
    assert plain.value("end", "sum") == 870


@pytest.mark.parametrize("size", ["0", "-1", "x"])
def test_a_chunk_of_no_size_is_refused(run_flow, size):
    result = run_flow(PLAIN, "--chunk", size, expect=2)

    assert "--chunk" in result.stderr
    assert not (result.folder / "store").exists()


def test_without_a_word_tiny_items_share_processes_and_slow_ones_do_not(run_flow):
    source = PLAIN.replace("range(30)", "range(200)").replace(
        "self.next(self.join)", "self.next(self.slow)"
    ).replace(
        "        @step\n        def join",
        """        @step
        def slow(self):
            import time
            self.pid = os.getpid()
            if self.index < 4:
                time.sleep(1.2)
            self.next(self.join)

        @step
        def join""",
    )  # fmt: skip
    plain = run_flow(source, "--max-workers", "4")

    assert len(set(pids(plain))) < 60
    assert sum(counts(pids(plain))) == 200
    slow = pids(plain, "slow")
    assert all(slow.count(pid) == 1 for pid in slow[:2]), "nobody waits for what takes a second"


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


# What a body may be made of


BODIES = """
    import os
    from daskflow import FlowSpec, step

    class Bodies(FlowSpec):
        @step
        def start(self):
            self.outers = range(12)
            self.next(self.first, foreach="outers")

        @step
        def first(self):
            self.o = self.input
            self.next(self.left, self.right)

        @step
        def left(self):
            self.l = self.o * 10
            self.next(self.both)

        @step
        def right(self):
            self.r = self.o * 100
            self.next(self.both)

        @step
        def both(self, inputs):
            self.merge_artifacts(inputs)
            self.next(self.choose)

        @step
        def choose(self):
            self.kind = ["even", "odd"][self.o % 2]
            self.next({"even": self.even, "odd": self.odd}, condition="kind")

        @step
        def even(self):
            self.sign = 1
            self.next(self.split)

        @step
        def odd(self):
            self.sign = -1
            self.next(self.split)

        @step
        def split(self):
            self.inners = range(9)
            self.next(self.inner, foreach="inners")

        @step
        def inner(self):
            self.pid = os.getpid()
            self.v = self.sign * (self.l + self.r + self.input)
            self.next(self.more)

        @step
        def more(self):
            self.v += self.index
            self.path = [index for index, _, _ in self.foreach_stack()]
            self.next(self.loop)

        @step
        def loop(self):
            self.n = getattr(self, "n", 0) + 1
            self.again = self.n < 2 and self.index == 4
            self.next({True: self.loop, False: self.looped}, condition="again")

        @step
        def looped(self):
            self.next(self.joined)

        @step
        def joined(self, inputs):
            self.values = [i.v for i in inputs]
            self.paths = [i.path for i in inputs]
            self.rounds = [i.n for i in inputs]
            self.merge_artifacts(inputs, include=["kind", "o"])
            self.next(self.join)

        @step
        def join(self, inputs):
            self.values = [i.values for i in inputs]
            self.paths = [i.paths for i in inputs]
            self.rounds = [i.rounds for i in inputs]
            self.kinds = [i.kind for i in inputs]
            self.os = list(inputs.scalars("o"))
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Bodies()
"""


@pytest.mark.parametrize(
    "options", [[], ["--chunk", "5"], ["--chunk", "100"]], ids=["timed", "of 5", "of 100"]
)
def test_branches_switches_loops_and_foreaches_inside_a_wide_foreach(run_flow, options):
    bodies = run_flow(BODIES, *options)

    assert bodies.value("end", "values") == [
        [(-1) ** o * (110 * o + i) + i for i in range(9)] for o in range(12)
    ]
    assert bodies.value("end", "paths") == [[[o, i] for i in range(9)] for o in range(12)]
    assert bodies.value("end", "rounds") == [[2 if i == 4 else 1 for i in range(9)]] * 12
    assert bodies.value("end", "kinds") == ["even", "odd"] * 6
    assert bodies.value("end", "os") == list(range(12))
    ids = [f"{o}-{i}" for o in range(12) for i in range(9)]
    for step in ("inner", "more", "looped"):
        assert bodies.tasks(step) == ids
        assert commits(bodies, "Bodies", step=step) == Counter(ids)
    assert commits(bodies, "Bodies", step="loop") == Counter([*ids, *(f"{o}-4.1" for o in range(12))])
    for step in ("even", "odd"):
        assert commits(bodies, "Bodies", step=step) == Counter(str(o) for o in range(step == "odd", 12, 2))
    if options:
        shared = [bodies.record("inner", task).process.get("shared_by", 1) for task in ids]
        assert max(shared) > 1
    record = bodies.record("more", "7-8")
    assert record.parents == ["inner/7-8"]
    assert [frame["split"] for frame in record.stack] == ["start/0", "split/7"]
    assert bodies.record("joined", "7").parents == ["looped/7-0..8"]


# Joins


JOINS = """
    import numpy as np
    from daskflow import FlowSpec, step

    N = 1100
    ODD = {3: None, 4: True, 5: 2.5, 6: "six"}

    class Joins(FlowSpec):
        @step
        def start(self):
            self.items = range(N)
            self.next(self.work, foreach="items")

        @step
        def work(self):
            i = self.index
            self.whole = i * 2
            self.real = i / 2
            self.text = f"t{i}"
            self.truth = i % 2 == 0
            self.nothing = None
            self.dict = {"a": i, "b": f"b{i}"}
            self.mixed = ODD.get(i, i)
            self.numpy = np.float64(i)
            self.maybe = i if i % 2 else None
            self.far = i if i < N - 1 else np.arange(3)
            self.near = [i]
            self.same = "the same"
            self.big = "b" * 300
            if i % 100 == 0:
                self.rare = i
            if i == 7:
                self.missing_elsewhere = 1
            self.next(self.join)

        @step
        def join(self, inputs):
            self.length = len(inputs)
            self.order = [i.index for i in inputs] == list(range(N)) == [i.input for i in inputs]
            self.again = [i.whole for i in inputs] == [i.whole for i in inputs]
            self.picked = [inputs[k].whole for k in (0, 5, 1099, -1, -1100)]
            self.sliced = [i.whole for i in inputs[5:1000:300]] + [i.whole for i in inputs[-2:]]
            self.named = inputs.work.index
            self.flows = len(inputs.flows)
            self.outside = [IndexError if fails(lambda k=k: inputs[k], IndexError) else None for k in (N, -N - 1)]

            inputs[1050].mark = "set"
            inputs[3].whole = -1
            self.kept = (inputs[1050].mark, inputs[3].whole, inputs[-50].mark)
            self.kept_when_walked = [(i.index, i.mark) for i in inputs if hasattr(i, "mark")]
            for i in inputs:
                i.walked = i.index
            self.walked = [inputs[k].walked for k in (0, 1050, 1099)] == [0, 1050, 1099]
            self.walked_all = [i.walked for i in inputs] == list(range(N))
            self.changed = inputs.scalars("whole")[3]

            def kind(name):
                got = inputs.scalars(name)
                return type(got).__name__, str(got.dtype), got.tolist()[8:11], len(got)

            self.kinds = {n: kind(n) for n in ("whole", "real", "text", "truth", "nothing", "numpy", "maybe")}
            self.mixed = list(inputs.scalars("mixed")[2:8])
            several = inputs.scalars("whole", "text")
            self.several = (type(several).__name__, list(several.columns), several.iloc[9].tolist(), len(several))
            of_dicts = inputs.scalars("dict")
            self.of_dicts = (type(of_dicts).__name__, list(of_dicts.columns), of_dicts.iloc[9].tolist())
            self.merge_artifacts(inputs, include=["same", "big"])
            self.next(self.bad)

        @step
        def bad(self):
            self.next(self.end)

        @step
        def end(self):
            pass

    def fails(call, kind):
        try:
            call()
        except kind:
            return True

    if __name__ == "__main__":
        Joins()
"""


@pytest.fixture(scope="module")
def joins(run_flow):
    return run_flow(JOINS, "--chunk", "250")


def test_inputs_come_by_index_and_have_a_length(joins):
    assert joins.value("join", "length") == joins.value("join", "flows") == 1100
    assert joins.value("join", "order") is True
    assert joins.value("join", "again") is True
    assert joins.value("join", "named") == 1099


def test_inputs_can_be_picked_and_sliced(joins):
    assert joins.value("join", "picked") == [0, 10, 2198, 2198, 0]
    assert joins.value("join", "sliced") == [10, 610, 1210, 1810, 2196, 2198]
    assert joins.value("join", "outside") == [IndexError, IndexError]


def test_what_is_set_on_an_input_stays_there_also_beyond_a_thousand(joins):
    assert joins.value("join", "kept") == ("set", -1, "set")
    assert joins.value("join", "kept_when_walked") == [(1050, "set")]
    assert joins.value("join", "walked") is True
    assert joins.value("join", "walked_all") is True
    assert joins.value("join", "changed") == -1


def test_scalars_are_an_array_of_the_values(joins):
    kinds = joins.value("join", "kinds")

    assert kinds["whole"] == ("ndarray", "int64", [16, 18, 20], 1100)
    assert kinds["real"] == ("ndarray", "float64", [4.0, 4.5, 5.0], 1100)
    assert kinds["text"][2:] == (["t8", "t9", "t10"], 1100)
    assert kinds["truth"] == ("ndarray", "bool", [True, False, True], 1100)
    assert kinds["nothing"][2:] == ([None, None, None], 1100)
    assert kinds["numpy"] == ("ndarray", "float64", [8.0, 9.0, 10.0], 1100)
    assert [each if each == 9 else None for each in kinds["maybe"][2]] == [None, 9, None]
    assert joins.value("join", "mixed") == [2, None, True, 2.5, "six", 7]


def test_scalars_of_several_names_or_of_dicts_are_a_frame(joins):
    assert joins.value("join", "several") == ("DataFrame", ["whole", "text"], [18, "t9"], 1100)
    assert joins.value("join", "of_dicts") == ("DataFrame", ["a", "b"], [9, "b9"])


def test_a_wide_join_merges_what_all_inputs_agree_on(joins):
    assert joins.value("end", "same") == "the same"
    assert joins.value("end", "big") == "b" * 300


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ('inputs.scalars("near")', ["Artifact 'near' of task work/0 is a list; scalars() is for numbers"]),
        ('inputs.scalars("far")', ["Artifact 'far' of task work/59 is a ndarray"]),
        ('inputs.scalars("rare")', ["AttributeError", "rare"]),
        ('inputs[3].merged = self.merge_artifacts(inputs, include=["whole"])', ["whole"]),
        ("inputs.start", ["No input comes from a step 'start'; the inputs come from: work."]),
        ("inputs[60]", ["IndexError"]),
    ],
)
def test_what_the_inputs_do_not_have_is_an_error_that_names_it(run_flow, statement, words):
    source = JOINS.replace("N = 1100", "N = 60")
    head, _, tail = source.partition("            self.length = len(inputs)\n")
    _, _, tail = tail.partition("            self.merge_artifacts(inputs, include")
    source = (
        f"{head}            {statement}\n            self.next(self.bad)\n"
        + tail.partition("self.next(self.bad)\n")[2]
    )

    result = run_flow(source, "--chunk", "25", expect=1)

    for each in words:
        assert each in result.text


# Going on


GATED = """
    import os
    import pathlib
    import time
    from daskflow import FlowSpec, Parameter, current, step

    HERE = pathlib.Path.cwd()
    GATES = GIVEN

    class Gated(FlowSpec):
        @step
        def start(self):
            self.items = range(60)
            self.next(self.work, foreach="items")

        @step
        def work(self):
            with open(HERE / "began", "a") as file:
                file.write(f"{self.index}\\n")
            if self.index in GATES and not (HERE / "go").exists():
                WHAT
            self.pid = os.getpid()
            self.x = self.input * 2
            self.next(self.after)

        @step
        def after(self):
            with open(HERE / "after", "a") as file:
                file.write(f"{self.index}\\n")
            self.y = self.x + 1
            self.next(self.join)

        @step
        def join(self, inputs):
            self.sum = sum(i.y for i in inputs)
            self.indices = [i.index for i in inputs]
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Gated()
"""
WAITS = GATED.replace("GIVEN", "(5, 35)").replace(
    "WHAT", "time.sleep(0.01 if (HERE / 'go').exists() else 1000)"
)
BREAKS = GATED.replace("GIVEN", "(25,)").replace("WHAT", "raise ValueError('no good')")
AGAIN = {
    "as before": ["--chunk", "10"],
    "smaller": ["--chunk", "3"],
    "larger": ["--chunk", "40"],
    "timed": [],
    "isolated": ["--isolate"],
}


def in_one_commit(place, *runs):
    """The tasks of each step that are in one commit, of all these runs; none is in two."""
    for step in ("work", "after"):
        found = Counter()
        for number in runs:
            if (place.folder / "store" / "Gated" / str(number) / step).exists():
                found += commits(place, "Gated", number, step)
        assert found == Counter(map(str, range(60))), step


@pytest.mark.parametrize("again", AGAIN)
def test_a_run_whose_driver_is_killed_in_the_middle_of_a_chunk_goes_on(workspace, again):
    place = workspace()
    flow = place.write(WAITS)
    process = place.start("flow.py", "run", "--chunk", "10", "--max-workers", "2")
    everything = [process.pid]
    try:
        wait_until(lambda: {"5", "35"} <= set(began(place)))  # now both slots stand still
        everything += descendants(process.pid)
        process.kill()
        process.communicate()
        wait_until(lambda: not living(everything))
    finally:
        for pid in living(everything):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    before = began(place)
    done = commits(place, "Gated")
    assert {str(i) for i in range(10, 20)} <= set(done)
    assert all(before[task] == 1 for task in done)
    (place.folder / "go").touch()

    result = place.call("flow.py", "continue", *AGAIN[again], flow=flow)

    assert result.returncode == 0, result.text
    in_one_commit(place, 1)
    after = began(place)
    assert all(after[str(i)] - before[str(i)] == (str(i) not in done) for i in range(60))
    assert set(Counter((place.folder / "after").read_text().split()).values()) <= {1, 2}
    assert result.value("join", "sum") == sum(2 * i + 1 for i in range(60))
    assert result.value("join", "indices") == list(range(60))
    if again == "isolated":
        own = [result.value("work", "pid", str(i)) for i in range(60) if str(i) not in done]
        assert len(set(own)) == len(own)


@pytest.fixture(scope="module")
def broken(workspace):
    """A run in which one of sixty items has failed."""
    place = workspace()
    flow = place.write(BREAKS)
    result = place.call("flow.py", "run", "--chunk", "10", "--max-workers", "2", flow=flow)
    assert result.returncode == 1
    place.write(BREAKS.replace("raise ValueError('no good')", "pass"))
    return place, flow, result


def test_an_item_that_failed_for_good_fails_the_run_and_leaves_its_neighbours_committed(broken):
    place, _, result = broken

    assert "Step work (task-id 25) failed" in result.text
    done = commits(place, "Gated")
    assert {str(i) for i in range(20, 25)} <= set(done)
    assert "25" not in done
    assert set(done.values()) == {1}
    assert result.failed("work", "25").attempt == 0


@pytest.mark.parametrize("again", AGAIN)
def test_a_run_with_a_failed_item_is_resumed_with_other_chunks(broken, again):
    place, flow, _ = broken
    before, done = began(place), commits(place, "Gated")
    runs = place.folder / "store" / "Gated"
    number = max(int(path.name) for path in runs.iterdir()) + 1

    result = place.call("flow.py", "resume", "--origin-run-id", "1", *AGAIN[again], flow=flow)

    assert result.returncode == 0, result.text
    in_one_commit(place, 1, number)
    assert all(began(place)[str(i)] - before[str(i)] == (str(i) not in done) for i in range(60))
    run = Run(f"Gated/{number}", store=str(place.folder / "store"))
    assert run.data.sum == sum(2 * i + 1 for i in range(60))
    assert run.data.indices == list(range(60))
    assert [task.data.x for task in sorted(run["work"], key=lambda task: task.index)] == [
        2 * i for i in range(60)
    ]
    assert run["work"].task is not None
    assert {task.origin_pathspec for task in run["work"] if task.id in done} == {
        f"Gated/1/work/{i}" for i in done
    }


def test_a_resumed_run_is_resumed_again_from_its_join(broken):
    place, flow, _ = broken
    first = place.call("flow.py", "resume", "--origin-run-id", "1", "--chunk", "10", flow=flow)
    number = max(int(path.name) for path in (place.folder / "store" / "Gated").iterdir())
    before = began(place)

    second = place.call("flow.py", "resume", "join", "--origin-run-id", str(number), flow=flow)

    assert (first.returncode, second.returncode) == (0, 0), second.text
    assert began(place) == before
    run = Run(f"Gated/{number + 1}", store=str(place.folder / "store"))
    assert run.data.sum == sum(2 * i + 1 for i in range(60))
    assert len(list(run["work"])) == 60


def test_a_run_with_a_failed_item_is_continued_with_new_code(workspace):
    place = workspace()
    flow = place.write(BREAKS)
    assert place.call("flow.py", "run", "--chunk", "10", "--max-workers", "2", flow=flow).returncode == 1
    before, done = began(place), commits(place, "Gated")
    place.write(BREAKS.replace("raise ValueError('no good')", "pass"))

    result = place.call("flow.py", "continue", "--new-code", "--chunk", "4", flow=flow)

    assert result.returncode == 0, result.text
    in_one_commit(place, 1)
    assert all(began(place)[str(i)] - before[str(i)] == (str(i) not in done) for i in range(60))
    assert result.record("work", "25").attempt == 1, "its attempts are counted on"
