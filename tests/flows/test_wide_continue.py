"""A run with items that share processes goes on, whatever ended it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter

import pytest

from daskflow import Run
from tests.flows.wide_runs import began, commits
from tests.watching import descendants, living, wait_until

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
            if place.store.exists(f"Gated/{number}/{step}"):
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
    number = max(map(int, place.store.names("Gated"))) + 1

    result = place.call("flow.py", "resume", "--origin-run-id", "1", *AGAIN[again], flow=flow)

    assert result.returncode == 0, result.text
    in_one_commit(place, 1, number)
    assert all(began(place)[str(i)] - before[str(i)] == (str(i) not in done) for i in range(60))
    run = Run(f"Gated/{number}", store=place.store.url)
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
    number = max(map(int, place.store.names("Gated")))
    before = began(place)

    second = place.call("flow.py", "resume", "join", "--origin-run-id", str(number), flow=flow)

    assert (first.returncode, second.returncode) == (0, 0), second.text
    assert began(place) == before
    run = Run(f"Gated/{number + 1}", store=place.store.url)
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


@pytest.mark.parametrize(("file", "again"), [("plan.1.json", 0), ("chunk.20..29.json", 10)])
def test_a_damaged_file_of_a_chunk_is_named_and_once_it_is_moved_away_only_what_it_told_of_runs_again(
    workspace, file, again
):
    place = workspace()
    flow = place.write(
        GATED.replace("GIVEN", "()")
        .replace("WHAT", "pass")
        .replace("self.sum =", "assert (HERE / 'go').exists(); self.sum =")
    )
    assert place.call("flow.py", "run", "--chunk", "10", "--max-workers", "2", flow=flow).returncode == 1
    before = began(place)
    damaged = f"Gated/1/work/{file}"
    place.store.write(damaged, place.store.read(damaged)[:20])
    (place.folder / "go").touch()

    refused = place.call("flow.py", "continue", "1", flow=flow)
    place.store.remove(damaged)
    result = place.call("flow.py", "continue", "1", flow=flow)

    assert refused.returncode == 1
    assert f"{file} is damaged" in refused.text
    assert "move it away, and what it told of is computed again" in refused.text
    assert result.returncode == 0, result.text
    assert (began(place) - before).total() == again
