"""Items of a foreach that share processes: each is a task like any other, whatever its body is made of."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.flows.wide_runs import chunks, client, commits, counts, pids

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
    assert not result.store.exists()


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
