"""`continue`: the same run goes on, whatever ended it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections import Counter

import pytest

from daskflow import Run
from daskflow.pathspec import TaskName
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from tests.watching import ON_LOOPBACK, descendants, living, scheduler_address, wait_until

SOURCE = """
    import os
    import pathlib
    import time
    from daskflow import FlowSpec, Parameter, current, retry, step

    HERE = pathlib.Path.cwd()

    def note(what):
        line = f"{what} {current.run_id}/{current.step_name}/{current.task_id} {current.retry_count} {os.getppid()}\\n"
        with open(HERE / "bodies", "a") as file:
            file.write(line)

    class Continued(FlowSpec):
        alpha = Parameter("alpha", default=1)

        @step
        def start(self):
            note("began")
            self.items = list(range(8))
            self.next(self.work, foreach="items")

        @step
        def work(self):
            note("began")
            if self.input >= 4:
                while not (HERE / "go").exists():
                    time.sleep(0.01)
            self.result = self.input * self.alpha
            self.next(self.join)

        @step
        def join(self, inputs):
            note("began")
            self.results = [each.result for each in inputs]
            self.origin = current.origin_run_id
            self.next(self.end)

        @retry(times=1, minutes_between_retries=0)
        @step
        def end(self):
            note("began")
            if (HERE / "fail").exists():
                raise ValueError(f"attempt {current.retry_count}")

    if __name__ == "__main__":
        Continued()
"""


def bodies(place):
    """How often the body of each task began."""
    found = Counter()
    for line in (place.folder / "bodies").read_text().splitlines():
        found[line.split()[1]] += 1
    return found


def committed(place, flow="Continued", run="1"):
    store = RunStore(storage_at(place.store.url), flow, run)
    if not store.storage.exists(store.layout.run_record):
        return set()
    tasks = [TaskName(step, task) for step in store.steps() for task in store.tasks(step)]
    return {f"{run}/{name}" for name in tasks if store.task(name) is not None} - {f"{run}/_parameters/0"}


def run_of(place, number=1):
    return Run(f"Continued/{number}", store=place.store.url)


def attempts(place, step, task="0"):
    result = place.result(_ENDED, "Continued")
    return [record.attempt for record in result.run().failed_attempts(TaskName(step, task))]


class _ENDED:
    returncode = 0


@pytest.fixture
def half_done(workspace, request):
    """A run that has half of a foreach done and waits in the other half; all its processes are ended in the end."""
    place = workspace()
    place.write(SOURCE)
    process = place.start(
        "flow.py", "run", "--alpha", "3", "--max-workers", "2", *getattr(request, "param", ())
    )
    everything = [process.pid]
    try:
        wait_until(
            lambda: len(committed(place)) == 5 and (bodies(place)["1/work/5"] or bodies(place)["1/work/4"])
        )
        everything += descendants(process.pid)
        yield place, process, everything
    finally:
        for pid in living(everything):
            os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=30)


def let_go_on(place, *arguments):
    (place.folder / "go").touch()
    result = place.call("flow.py", "continue", *arguments, flow="Continued")
    assert result.returncode == 0, result.text
    return result


@pytest.mark.parametrize("how", ["kill -9", "Ctrl-C", "twice Ctrl-C", "SIGTERM", "hang-up"])
def test_whatever_ends_the_driver_the_same_run_goes_on_and_nothing_committed_runs_again(half_done, how):
    place, process, everything = half_done
    if how == "kill -9":
        process.kill()
    elif how == "SIGTERM":
        process.terminate()
    elif how == "hang-up":
        process.send_signal(signal.SIGHUP)
    else:
        os.killpg(process.pid, signal.SIGINT)
        if how.startswith("twice"):
            wait_until(lambda: b"Interrupted" in os.read(process.stdout.fileno(), 1 << 16))
            os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    wait_until(lambda: not living(everything))
    before, kept = bodies(place), committed(place)
    assert run_of(place).status == ("lost" if how == "kill -9" else "interrupted")
    if how != "kill -9":
        assert re.search(r"python flow.py( --datastore \S+)? continue 1 ", out), out + err

    let_go_on(place)

    run = run_of(place)
    assert [name for name in kept if bodies(place)[name] != before[name]] == []
    assert {f"1/work/{i}" for i in range(4)} <= kept
    assert run.data.results == [3 * i for i in range(8)]
    assert run.status == "successful"
    assert run["join"].task.data.origin is None
    assert place.store.names("Continued") == ["1"]


@pytest.fixture
def cluster(workspace):
    """The address of a scheduler with a worker of two slots, which outlive any driver."""
    place = workspace()
    dask = ("-m", "dask")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    where = ("--port", "0", "--scheduler-file", "s.json", *ON_LOOPBACK)
    started = [place.start(*dask, "scheduler", *where, **quiet)]
    try:
        found = scheduler_address(place.folder / "s.json")
        worker = ("worker", found, "--nthreads", "2", "--no-nanny", *ON_LOOPBACK)
        started.append(place.start(*dask, *worker, **quiet))
        yield found
    finally:
        for process in reversed(started):  # the worker first: one whose scheduler is gone waits for it
            process.terminate()
            process.wait(60)


@pytest.mark.parametrize("workers_finish", ["before", "meanwhile"])
@pytest.mark.parametrize(
    ("shared", "running", "finished"), [(["--isolate"], (4, 5), 7), (["--chunk", "2"], (4, 6), 9)]
)
def test_work_that_a_shared_cluster_finishes_without_its_driver_counts(
    workspace, cluster, workers_finish, shared, running, finished
):
    place = workspace()
    place.write(SOURCE)
    options = ("--cluster", cluster, "--max-workers", "2", *shared)
    with place.start("flow.py", "run", "--alpha", "3", *options) as process:
        wait_until(
            lambda: len(committed(place)) == 5 and all(bodies(place)[f"1/work/{item}"] for item in running)
        )
        process.kill()
    if workers_finish == "before":
        (place.folder / "go").touch()
        wait_until(lambda: len(committed(place)) == finished)

    let_go_on(place, *options)

    assert run_of(place).data.results == [3 * i for i in range(8)]
    assert [bodies(place)[f"1/work/{i}"] for i in range(4)] == [1] * 4
    if workers_finish == "before":
        assert [bodies(place)[f"1/work/{i}"] for i in range(8)] == [1] * 8


@pytest.mark.parametrize("half_done", [["--isolate"]], indirect=True)
def test_attempts_that_left_something_behind_are_numbered_on(half_done):
    place, process, everything = half_done
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    wait_until(lambda: not living(everything))

    let_go_on(place)

    numbers = {task.id: task.current_attempt for task in run_of(place)["work"]}
    assert [numbers[str(item)] for item in range(4)] == [0] * 4
    assert sorted(numbers[str(item)] for item in range(4, 8)) == [0, 0, 1, 1]


def test_while_another_drives_it_a_run_is_refused_and_the_driver_named(half_done):
    place, process, _ = half_done

    for command in (("continue",), ("continue", "1"), ("continue", "Continued/1", "--cluster", "inline")):
        result = place.call("flow.py", *command, flow="Continued")

        assert result.returncode == 1
        assert "The run is driven by another" in result.stderr
        pattern = rf"Run Continued/1: ada on \S+ \(pid {process.pid}\) drives it since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\."
        assert re.search(pattern, result.stderr), result.stderr
    assert run_of(place).status == "running"
    assert not place.store.exists("Continued/1/drivers/1.json")

    (place.folder / "go").touch()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err


def test_a_driver_that_was_replaced_stops_what_runs_and_says_by_whom(half_done):
    place, process, everything = half_done
    drivers = "Continued/1/drivers"
    other = {"user": "grace", "host": "far-away", "boot": "another", "pid": 7, "born": 1}
    record = place.store.json(f"{drivers}/0.json") | other

    place.store.write(f"{drivers}/1.json", json.dumps(record).encode())
    out, err = process.communicate(timeout=30)

    assert process.returncode == 1
    assert "Run Continued/1: grace on far-away (pid 7) has taken over since" in err
    assert "Done!" not in out
    wait_until(lambda: not living(everything))
    assert len(committed(place)) == 5
    assert place.store.json(f"{drivers}/0.end.json")["status"] == "failed"
    assert run_of(place).status == "running"


@pytest.fixture
def failed(workspace):
    """A run whose last step has failed in all its attempts."""
    place = workspace()
    place.write(SOURCE)
    (place.folder / "go").touch()
    (place.folder / "fail").touch()
    result = place.call("flow.py", "run", flow="Continued")
    assert result.returncode == 1, result.text
    return place, result


def test_a_failed_task_gets_all_its_attempts_again(failed):
    place, first = failed
    assert "python flow.py" in first.stdout
    assert " continue 1 " in first.stdout
    before = bodies(place)

    again = place.call("flow.py", "continue", flow="Continued")
    assert again.returncode == 1
    assert attempts(place, "end") == [0, 1, 2, 3]
    assert "Step failure: Step end (task-id 0) failed: builtins.ValueError: attempt 3" in again.stdout
    assert run_of(place).status == "failed"

    (place.folder / "fail").unlink()
    let_go_on(place, "1")
    assert run_of(place)["end"].task.current_attempt == 4
    assert bodies(place) - before == Counter({"1/end/0": 3})
    assert run_of(place).status == "successful"


def test_a_run_that_succeeded_is_refused(failed):
    place, _ = failed
    (place.folder / "fail").unlink()
    let_go_on(place)

    result = place.call("flow.py", "continue", flow="Continued")

    assert result.returncode == 1
    assert "Run Continued/1 has succeeded: nothing is left to do." in result.stderr
    assert "Use resume to run some of it again." in result.stderr


def test_a_run_that_succeeded_and_whose_driver_could_not_say_so_is_successful_after_continue(failed):
    place, _ = failed
    (place.folder / "fail").unlink()
    let_go_on(place)
    place.store.remove("Continued/1/drivers/1.end.json")
    before = bodies(place)
    assert run_of(place).status == "lost"

    let_go_on(place)

    assert bodies(place) == before
    assert run_of(place).status == "successful"


def test_changed_code_is_refused_unless_it_is_wanted(failed):
    place, _ = failed
    place.write(SOURCE.replace('if (HERE / "fail").exists()', "self.new = 1\n            if False"))

    refused = place.call("flow.py", "continue", flow="Continued")
    assert refused.returncode == 1
    assert "The code has changed since run Continued/1 last ran: flow.py." in refused.stderr
    assert "--new-code" in refused.stderr
    assert "resume" in refused.stderr
    assert not place.store.exists("Continued/1/drivers/1.json")

    let_go_on(place, "--new-code")
    assert run_of(place)["end"].task.data.new == 1
    first, second = (place.store.read(f"Continued/1/{folder}/flow.py") for folder in ("code", "code.1"))
    assert b"self.new" not in first
    assert b"self.new" in second


def test_a_run_that_went_on_with_new_code_goes_on_with_that(failed):
    place, _ = failed
    place.write(SOURCE.replace("def end(self):", "def end(self):\n            self.new = 1"))
    assert place.call("flow.py", "continue", "--new-code", flow="Continued").returncode == 1

    again = place.call("flow.py", "continue", flow="Continued")
    assert again.returncode == 1
    assert "The code has changed" not in again.stderr
    (place.folder / "fail").unlink()
    let_go_on(place, "--new-code")

    assert run_of(place)["end"].task.data.new == 1
    assert not place.store.exists("Continued/1/code.2")


def test_tasks_that_need_an_interpreter_of_their_own_run_the_new_code_too(failed):
    place, _ = failed
    (place.folder / "fail").unlink()
    source = SOURCE.replace("import FlowSpec", "import environment, FlowSpec")
    source = source.replace("@retry(", '@environment(vars={"A": "b"})\n        @retry(')
    place.write(source.replace("def end(self):", "def end(self):\n            self.new = os.environ['A']"))

    let_go_on(place, "--new-code")

    assert run_of(place)["end"].task.data.new == "b"


def test_new_code_whose_graph_does_not_fit_is_refused_and_the_run_left_as_it_was(failed):
    place, _ = failed
    place.write(SOURCE.replace("def join", "def merge").replace("self.join", "self.merge"))

    refused = place.call("flow.py", "continue", "--new-code", flow="Continued")

    assert refused.returncode == 1
    assert (
        "step 'work' went on to join (linear); in today's code step 'join' is missing there" in refused.stderr
    )
    place.write(SOURCE)
    (place.folder / "fail").unlink()
    let_go_on(place)
    assert run_of(place).status == "successful"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("99",), "There is no run *99* of Continued in"),
        (("99",), "The latest runs there are: 1."),
        (("Other/1",), "There is no run *Other/1*"),
        (("1/work",), "There is no run *1/work*"),
        (("--alpha", "3"), "No such option"),
        (("1", "2"), "unexpected extra argument"),
    ],
)
def test_what_does_not_exist_is_named(failed_once, arguments, words):
    result = failed_once.call("flow.py", "continue", *arguments, flow="Continued")

    assert result.returncode in (1, 2)
    assert words in result.stderr


@pytest.fixture(scope="module")
def failed_once(workspace):
    place = workspace()
    place.write(SOURCE)
    (place.folder / "go").touch()
    (place.folder / "fail").touch()
    place.call("flow.py", "run", flow="Continued")
    return place


def test_without_a_run_there_is_nothing_to_continue(workspace):
    place = workspace()
    place.write(SOURCE)

    result = place.call("flow.py", "continue", flow="Continued")

    assert result.returncode == 1
    assert "A previous run id was not found: ada has no run of Continued in" in result.stderr


def test_a_run_that_never_began_is_refused_in_plain_words(failed):
    place, _ = failed
    place.store.remove("Continued/1/_parameters/0/task.json")

    result = place.call("flow.py", "continue", flow="Continued")

    assert result.returncode == 1
    assert "Run Continued/1 ended before it had begun: start a new one with run." in result.stderr


def test_a_resumed_run_can_be_continued_and_keeps_its_origin(failed):
    place, _ = failed
    assert place.call("flow.py", "resume", flow="Continued").returncode == 1
    (place.folder / "fail").unlink()
    before = bodies(place)

    let_go_on(place)

    assert run_of(place, 2).status == "successful"
    assert run_of(place, 2).origin_pathspec == "Continued/1"
    assert bodies(place) - before == Counter({"2/end/0": 1})


def test_a_run_that_was_continued_can_be_resumed(failed):
    place, _ = failed
    assert place.call("flow.py", "continue", flow="Continued").returncode == 1
    (place.folder / "fail").unlink()

    result = place.call("flow.py", "resume", flow="Continued")

    assert result.returncode == 0, result.text
    assert bodies(place)["2/end/0"] == 1
    assert run_of(place, 2).data.results == list(range(8))


def test_each_driver_of_a_run_leaves_who_it_was_and_how_it_ended(failed):
    place, _ = failed
    (place.folder / "fail").unlink()
    let_go_on(place)
    drivers = "Continued/1/drivers"

    said = [place.store.json(f"{drivers}/{number}.end.json") for number in (0, 1)]
    who = [place.store.json(f"{drivers}/{number}.json") for number in (0, 1)]

    assert [each["status"] for each in said] == ["failed", "successful"]
    assert said[0]["reason"] == "Task end/0 failed: builtins.ValueError: attempt 1"
    assert {each["user"] for each in who} == {"ada"}
    assert who[0]["pid"] != who[1]["pid"]
