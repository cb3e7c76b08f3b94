"""`resume`: a new run that takes over what an earlier one has."""

from __future__ import annotations

import pytest

from daskflow import Run, Task

SOURCE = """
    import os
    import pathlib
    import sys
    from daskflow import FlowSpec, Parameter, current, step

    HERE = pathlib.Path.cwd()

    def ran():
        with open(HERE / "bodies", "a") as file:
            file.write(f"{current.run_id}/{current.step_name}/{current.task_id}/{current.retry_count}\\n")

    class Resumed(FlowSpec):
        alpha = Parameter("alpha", default=1)
        when = Parameter("when", default=lambda context: os.environ.get("WHEN", "then"))
        CONSTANT = 1

        @step
        def start(self):
            ran()
            print("the start's own words")
            self.big = "x" * 1000
            self.items = [10, 20, 30, 40]
            self.origins = [current.origin_run_id]
            self.next(self.side, self.fan)

        @step
        def side(self):
            ran()
            self.kept = "side"
            self.next(self.both)

        @step
        def fan(self):
            ran()
            self.next(self.work, foreach="items")

        @step
        def work(self):
            ran()
            print("item", self.input)
            if self.index % 2 and not (HERE / "go").exists():
                while (HERE / "bodies").read_text().count("done") < 2:
                    pass
                raise ValueError(f"item {self.input}")
            self.result = self.input * 2
            with open(HERE / "bodies", "a") as file:
                file.write("done\\n")
            self.next(self.join)

        @step
        def join(self, inputs):
            ran()
            self.results = [each.result for each in inputs]
            self.resumes = current.origin_run_id
            self.next(self.both)

        @step
        def both(self, inputs):
            ran()
            self.merge_artifacts(inputs, include=["results", "kept", "big"])
            self.next(self.end)

        @step
        def end(self):
            ran()
            self.seen = self.alpha, self.when, self.CONSTANT

    if __name__ == "__main__":
        Resumed()
"""


def bodies(place):
    """What the steps ran, of all runs, without the marks of the ends."""
    return [line for line in (place.folder / "bodies").read_text().split() if line != "done"]


def of_run(place, number):
    return sorted(line.removeprefix(f"{number}/") for line in bodies(place) if line.startswith(f"{number}/"))


@pytest.fixture(scope="module")
def resumed(workspace):
    """Run 1 fails in two of four items; 2 resumes it; 3 resumes 2 from a step."""
    place = workspace()
    flow = place.write(SOURCE)
    failed = place.call("flow.py", "run", "--alpha", "7", "--tag", "first", "--max-workers", "4", flow=flow)
    assert failed.returncode == 1
    (place.folder / "go").touch()
    env = {"WHEN": "now", "DASKFLOW_RUN_ALPHA": "8", "DASKFLOW_RESUME_ALPHA": "9"}
    second = place.call("flow.py", "resume", "--tag", "second", "--run-id-file", "id", flow=flow, env=env)
    assert second.returncode == 0, second.text
    third = place.call("flow.py", "resume", "join", flow=flow)
    assert third.returncode == 0, third.text
    return place, failed, second, third


def client(place, number):
    return Run(f"Resumed/{number}", store=place.store.url)


def test_what_was_committed_is_taken_over_and_only_the_rest_runs(resumed):
    place, _, second, _ = resumed

    assert of_run(place, 2) == ["both/0/0", "end/0/0", "join/0/0", "work/1/0", "work/3/0"]
    assert client(place, 2).data.results == [20, 40, 60, 80]
    assert client(place, 2).data.kept == "side"
    assert "Run Resumed/2 resumes 1: 5 tasks are taken over." in second.stderr


def test_parameters_keep_the_values_they_had(resumed):
    place, *_ = resumed

    assert client(place, 2).data.seen == client(place, 3).data.seen == (7, "then", 1)


def test_from_a_step_on_everything_is_run_again_but_side_branches_are_not(resumed):
    place, *_ = resumed

    assert of_run(place, 3) == ["both/0/0", "end/0/0", "join/0/0"]


def test_the_run_says_which_run_it_resumes_one_hop_back(resumed):
    place, *_ = resumed

    assert client(place, 1).origin_pathspec is None
    assert client(place, 2).origin_pathspec == "Resumed/1"
    assert client(place, 3).origin_pathspec == "Resumed/2"
    assert client(place, 2)["join"].task.data.resumes == "1"
    assert client(place, 3)["join"].task.data.resumes == "2"
    assert (place.folder / "id").read_text() == "2"


def test_a_task_that_was_taken_over_says_from_where_and_another_does_not(resumed):
    place, *_ = resumed
    store = place.store.url

    taken, run_anew = Task("Resumed/2/work/0", store=store), Task("Resumed/2/work/1", store=store)
    twice = Task("Resumed/3/work/0", store=store)

    assert taken.metadata_dict["origin-run-id"] == "1"
    assert taken.metadata_dict["origin-task-id"] == "0"
    assert taken.origin_pathspec == "Resumed/1/work/0"
    assert twice.metadata_dict["origin-run-id"] == "1", "it is where the task ran that counts"
    assert Task("Resumed/3/work/1", store=store).origin_pathspec == "Resumed/2/work/1"
    assert "origin-run-id" not in run_anew.metadata_dict
    assert run_anew.origin_pathspec is None


def test_a_task_that_was_taken_over_has_the_origins_artifacts_and_logs(resumed):
    place, *_ = resumed
    store = place.store.url

    for run in (2, 3):
        start = Task(f"Resumed/{run}/start/0", store=store)
        assert start.stdout == "the start's own words\n"
        assert start.data.big == "x" * 1000
        assert start.data.origins == [None]
        assert start.successful
        assert [task.data.result for task in sorted(client(place, run)["work"], key=lambda t: t.index)] == [
            20,
            40,
            60,
            80,
        ]
        assert {task.id for task in client(place, run)["work"]} == {"0", "1", "2", "3"}
    shown = place.call("flow.py", "logs", "3/work/1", flow="Resumed")
    assert "item 20" in shown.stdout
    assert (
        "xxxx"
        in place.call("flow.py", "dump", "3/start/0", "--max-value-size", "5000", flow="Resumed").stdout
    )


def test_the_client_walks_through_a_resumed_run_as_through_any_other(resumed):
    place, *_ = resumed
    run = client(place, 2)

    assert [step.id for step in run] == ["end", "both", "join", "work", "fan", "side", "start"]
    assert [parent.pathspec for parent in run["join"].task.parent_tasks] == [
        f"Resumed/2/work/{i}" for i in range(4)
    ]
    assert {child.pathspec for child in run["fan"].task.child_tasks} == {
        f"Resumed/2/work/{i}" for i in range(4)
    }
    assert run.successful


def test_tags_are_not_inherited(resumed):
    place, *_ = resumed

    assert client(place, 2).user_tags == {"second"}
    assert client(place, 3).user_tags == frozenset()


def test_the_run_that_was_resumed_is_left_as_it_was(resumed):
    place, *_ = resumed
    run = client(place, 1)

    assert not run.successful
    assert {task.id for task in run["work"] if task.successful} == {"0", "2"}


def test_a_run_that_succeeded_can_be_resumed_and_nothing_runs(resumed):
    place, *_ = resumed
    before = bodies(place)

    result = place.call("flow.py", "resume", "--origin-run-id", "Resumed/3", flow="Resumed")

    assert result.returncode == 0, result.text
    assert "Done!" in result.stdout
    assert bodies(place) == before
    newest = max(int(name) for name in result.run().storage.names("Resumed"))
    assert client(place, newest).data.results == [20, 40, 60, 80]


def test_code_that_was_changed_runs_where_it_is_run(workspace):
    place = workspace()
    flow = place.write(SOURCE)
    assert place.call("flow.py", "run", "--max-workers", "4", flow=flow).returncode == 1
    (place.folder / "go").touch()
    place.write(SOURCE.replace("self.input * 2", "self.input * 3").replace("CONSTANT = 1", "CONSTANT = 2"))

    result = place.call("flow.py", "resume", flow=flow)

    assert result.returncode == 0, result.text
    assert client(place, 2).data.results == [20, 60, 60, 120]
    assert client(place, 2).data.seen[2] == 2


def test_a_new_parameter_gets_its_default(workspace):
    place = workspace()
    flow = place.write(SOURCE)
    assert place.call("flow.py", "run", "--max-workers", "4", flow=flow).returncode == 1
    (place.folder / "go").touch()
    new = SOURCE.replace("CONSTANT = 1", 'beta = Parameter("beta", default=5)\n        CONSTANT = 1')
    place.write(new.replace("self.alpha, self.when", "self.alpha, self.beta"))

    result = place.call("flow.py", "resume", flow=flow)

    assert result.returncode == 0, result.text
    assert client(place, 2).data.seen == (1, 5, 1)


def test_a_new_parameter_that_is_required_has_no_value(workspace):
    place = workspace()
    flow = place.write(SOURCE)
    assert place.call("flow.py", "run", "--max-workers", "4", flow=flow).returncode == 1
    place.write(
        SOURCE.replace("CONSTANT = 1", 'beta = Parameter("beta", required=True)\n        CONSTANT = 1')
    )

    result = place.call("flow.py", "resume", flow=flow)

    assert result.returncode == 1
    assert "Run Resumed/1 has no value for the parameter 'beta', which is required" in result.stderr
    assert not place.store.exists("Resumed/2")


LOOP = """
    import pathlib
    from daskflow import FlowSpec, current, step

    class Loop(FlowSpec):
        @step
        def start(self):
            self.rounds = []
            self.next(self.loop)

        @step
        def loop(self):
            self.rounds = self.rounds + [current.run_id]
            if len(self.rounds) == 3 and not pathlib.Path("go").exists():
                raise ValueError("the third round")
            self.go_on = len(self.rounds) < 5
            self.next({True: self.loop, False: self.end}, condition="go_on")

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Loop()
"""


def test_a_recursion_goes_on_after_its_last_good_iteration(workspace):
    place = workspace()
    flow = place.write(LOOP)
    assert place.call("flow.py", "run", flow=flow).returncode == 1
    (place.folder / "go").touch()

    result = place.call("flow.py", "resume", flow=flow)

    assert result.returncode == 0, result.text
    assert Run("Loop/2", store=place.store.url).data.rounds == ["1", "1", "2", "2", "2"]


def test_resuming_from_a_recursion_starts_it_from_its_first_iteration(workspace):
    place = workspace()
    flow = place.write(LOOP)
    (place.folder / "go").touch()
    assert place.call("flow.py", "run", flow=flow).returncode == 0

    result = place.call("flow.py", "resume", "loop", flow=flow)

    assert result.returncode == 0, result.text
    assert Run("Loop/2", store=place.store.url).data.rounds == ["2"] * 5


# What can't be resumed


def test_without_a_run_there_is_nothing_to_resume(workspace):
    place = workspace()
    flow = place.write(LOOP)

    result = place.call("flow.py", "resume", flow=flow)

    assert result.returncode == 1
    assert "A previous run id was not found: ada has no run of Loop in" in result.stderr
    assert not place.store.exists()


def test_by_default_the_latest_run_of_this_user_is_resumed(workspace):
    place = workspace()
    flow = place.write(LOOP)
    place.call("flow.py", "run", flow=flow)
    place.call("flow.py", "run", flow=flow, env={"DASKFLOW_USER": "grace"})

    result = place.call("flow.py", "resume", flow=flow)

    assert "Run Loop/3 resumes 1" in result.stderr


@pytest.fixture(scope="module")
def looped(workspace):
    place = workspace()
    place.write(LOOP)
    place.call("flow.py", "run", flow="Loop")
    return place


REFUSED = {
    ("--origin-run-id", "99"): "Resume could not find run id *99* of Loop in",
    ("--origin-run-id", "start"): "The latest runs there are: 1.",
    ("--origin-run-id", "Other/1"): "Resume could not find run id *Other/1*",
    ("--origin-run-id", "01"): "Resume could not find run id *01*",
    ("lop",): "'lop' is an invalid step name. Valid step names include: start, loop, end.",
    ("_parameters",): "'_parameters' is an invalid step name",
    ("--alpha", "3"): "No such option '--alpha'",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_what_does_not_exist_is_named_with_what_does_and_no_run_is_made(looped, arguments):
    result = looped.call("flow.py", "resume", *arguments, flow="Loop")

    assert result.returncode in (1, 2)
    assert REFUSED[arguments] in result.stderr.replace("No such option: --alpha", "No such option '--alpha'")
    assert not looped.store.exists("Loop/2")


def test_a_graph_into_which_the_origin_does_not_fit_is_refused_and_the_missing_step_named(looped):
    source = LOOP.replace("def loop", "def ring").replace("self.loop", "self.ring")
    looped.write(source, "changed.py")

    result = looped.call("changed.py", "resume", flow="Loop")

    assert result.returncode == 1
    assert (
        "step 'start' went on to loop (linear); in today's code step 'loop' is missing there" in result.stderr
    )
    assert "resume start" in result.stderr
    assert not looped.store.exists("Loop/2")


def test_a_run_that_never_began_is_refused_in_plain_words(workspace):
    place = workspace()
    flow = place.write(LOOP)
    place.call("flow.py", "run", flow=flow)
    place.store.remove("Loop/1/_parameters/0/task.json")

    result = place.call("flow.py", "resume", flow=flow)

    assert result.returncode == 1
    assert "Run Loop/1 ended before it had begun: start a new one with run." in result.stderr
    assert not place.store.exists("Loop/2")
