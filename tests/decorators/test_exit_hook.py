"""`@exit_hook`: functions that are called when a run has ended."""

from __future__ import annotations

import os
import signal

import pytest

from daskflow import FlowSpec, exit_hook
from daskflow.errors import BadFlowDecoratorException

HOOKED = """
    import os
    import sys
    from daskflow import Flow, FlowSpec, Parameter, current, exit_hook, step

    print("loaded")
    TEXT = "as it was"

    def celebrate(run):
        print("celebrates", run.pathspec, run.successful, run.finished, [each.id for each in run], TEXT)
        print("sees", Flow("Hooked").latest_run.pathspec, "in", os.listdir())

    def mourn():
        print("mourns")

    def fail(run):
        raise ValueError("no post today")

    def die():
        sys.stdout.flush()
        os.kill(os.getpid(), 9)

    class Base(FlowSpec):
        pass

    @exit_hook(on_success=[fail, die, celebrate], on_error=[mourn])
    class Hooked(Base):
        how = Parameter("how", default="well")

        @step
        def start(self):
            self.pid = os.getpid()
            if self.how == "badly":
                raise RuntimeError("as asked")
            if self.how == "edited":
                with open("flow.py", "w") as file:
                    file.write("raise SystemExit('edited')")
            if self.how == "slowly":
                print("waits", flush=True)
                import signal
                signal.pause()
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Hooked()
"""


@pytest.fixture(scope="module")
def well(run_flow):
    return run_flow(HOOKED)


def test_after_a_success_each_function_is_called_with_the_run_if_it_takes_one(well):
    assert "celebrates Hooked/1 True True ['end', 'start'] as it was\n" in well.stdout
    (seen,) = [line for line in well.stdout.splitlines() if line.startswith("sees Hooked/1 in ")]
    assert "'flow.py'" in seen  # where the command was typed
    assert "mourns" not in well.stdout
    assert well.stdout.index("Done!") < well.stdout.index("celebrates")


def test_one_that_fails_or_dies_is_told_and_changes_nothing(well):
    assert well.returncode == 0
    assert well.status() == "successful"
    assert "ValueError: no post today\n" in well.stderr
    assert (
        "@exit_hook: 'fail' failed (exit status 1), 'die' failed (signal 9); run Hooked/1 stays as it is.\n"
        in well.stderr
    )


def test_what_the_flows_file_prints_is_printed_once(well):
    assert well.text.count("loaded") == 1


def test_the_graph_tells_the_names_of_the_functions(well):
    info = well.run().load("_graph_info", well.run().parameters().artifacts["_graph_info"])

    options = {"on_success": ["fail", "die", "celebrate"], "on_error": ["mourn"], "options": {}}
    assert info["decorators"] == [{"name": "exit_hook", "options": options}]


def test_after_a_failure_the_others_are_called_and_the_exit_status_stays(run_flow):
    result = run_flow(HOOKED, "--how", "badly", expect=1)

    assert "mourns\n" in result.stdout
    assert "celebrates" not in result.stdout
    assert result.status() == "failed"


def test_the_client_in_them_looks_where_the_run_is(run_flow):
    result = run_flow(HOOKED, command=("--datastore", "elsewhere", "run"))

    assert "sees Hooked/1 in " in result.stdout


def test_each_driver_of_a_run_calls_them_when_it_ends(workspace):
    place = workspace()
    source = HOOKED.replace('if self.how == "badly":', 'if not os.path.exists("mended"):')
    flow = place.write(source)
    first = place.call("flow.py", "run", flow=flow)
    (place.folder / "mended").touch()

    second = place.call("flow.py", "continue", "1", flow=flow)

    assert (first.returncode, second.returncode) == (1, 0)
    assert "mourns\n" in first.stdout
    assert "celebrates Hooked/1 True" in second.stdout


def test_they_are_called_with_the_code_that_ran_whatever_was_edited_meanwhile(run_flow):
    result = run_flow(HOOKED, "--how", "edited")

    assert "celebrates Hooked/1" in result.stdout
    assert "edited" not in result.text


def test_an_interrupted_run_has_not_succeeded(workspace):
    place = workspace()
    flow = place.write(HOOKED)
    with place.start("flow.py", "run", "--how", "slowly", "--grace", "0") as process:
        for line in process.stdout:
            if "waits" in line:
                break
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate()

    result = place.result(process, flow, out, err)
    assert "mourns\n" in out
    assert result.status() == "interrupted"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "calls nothing: give functions in on_success or on_error"),
        ({"on_success": print}, "which is not a list of functions"),
        ({"on_error": ["print"]}, r"has on_error=\['print'\], which is not a list of functions"),
        ({"on_error": [print], "options": {"image": "x"}}, "there is nothing to choose"),
    ],
)
def test_options_that_make_no_sense_are_refused_where_they_are_written(options, message):
    with pytest.raises(BadFlowDecoratorException, match=message):

        @exit_hook(**options)
        class Flow(FlowSpec):
            pass
