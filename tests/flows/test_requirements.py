"""Packages of a run's own: an environment that is made once, in front of what is installed."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import site
import socket
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from daskflow.pathspec import TaskName
from tests.namespaces import needs_mounts, with_mounts
from tests.watching import descendants, living, wait_until
from tests.wheels import asked_for, wheel

FLOW = """
    import os

    from daskflow import FlowSpec, step

    class F(FlowSpec):
        @step
        def start(self):
            import measures
            self.version = measures.version
            self.next(self.middle, foreach="items")

        items = [1, 2]

        @step
        def middle(self):
            import shutil, subprocess, sys
            import click, dask
            self.click = click.version if hasattr(click, "version") else ""
            self.dask = dask.__version__
            self.python = sys.executable
            self.found = shutil.which("python")
            self.below = subprocess.run(
                [sys.executable, "-c", "import measures; print(measures.version)"], capture_output=True, text=True
            ).stdout.strip()
            self.next(self.join)

        @step
        def join(self, inputs):
            if os.path.exists("broken"):
                raise ValueError("broken")
            self.version = inputs[0].version
            self.next(self.end)

        @step
        def end(self):
            import measures
            self.again = measures.version

    if __name__ == "__main__":
        F()
"""


@pytest.fixture
def place(workspace):
    """A folder with the flow, wheels and a requirements file."""
    place = workspace()
    place.write(FLOW)
    for version in ("1.0", "2.0"):
        wheel(place.folder / "wheels", "measures", version)
    asked_for(place.folder / "requirements.txt", "measures == 2.0  # exactly")
    return place


def call(place, *arguments, env=None):
    done = place.call(
        "flow.py", *arguments, flow="F", env={"PIP_LOG": str(place.folder / "pip.log"), **(env or {})}
    )
    assert "Traceback" not in done.stderr
    assert "Internal error" not in done.text
    return done


def environments(place):
    folder = place.folder / "home" / ".cache" / "daskflow" / "environments"
    return [each for each in folder.iterdir() if each.is_dir()] if folder.exists() else []


def calls_of_pip(place) -> int:
    """How often it was called: each call says first which it is."""
    log = place.folder / "pip.log"
    return log.read_text().count("Looking in links") if log.exists() else 0


def test_a_step_imports_a_version_that_the_driver_does_not_have(place):
    done = call(place, "run", "--requirements", "requirements.txt")

    assert done.returncode == 0, done.text
    assert "An environment is made of requirements.txt, once; what pip says is in " in done.stderr
    assert "The environment of requirements.txt took " in done.stderr
    assert done.value("start", "version") == "2.0"
    (environment,) = environments(place)
    assert done.value("middle", "python", "0") == str(environment / "bin" / "python")
    assert done.value("middle", "found", "1") == str(environment / "bin" / "python")
    assert done.value("middle", "below", "0") == "2.0"
    assert done.value("middle", "dask", "0") == importlib.metadata.version("dask")
    assert "interpreter of its own" not in done.text  # they are forks of one that has loaded the flow there


def test_the_next_run_finds_the_environment_and_pip_is_not_called(place):
    call(place, "run", "--requirements", "requirements.txt")
    (before,) = environments(place)

    done = call(place, "run", "--requirements", "requirements.txt")

    assert done.returncode == 0, done.text
    assert "environment" not in done.text
    assert environments(place) == [before]
    assert calls_of_pip(place) == 1


def test_an_environment_that_no_run_has_used_for_long_makes_room_when_another_is_made(place):
    call(place, "run", "--requirements", "requirements.txt")
    (used,) = environments(place)
    (used.parent / "unused").mkdir()
    long_ago = time.time() - 31 * 24 * 3600
    for each in environments(place):
        os.utime(each, (long_ago, long_ago))
    call(place, "run", "--requirements", "requirements.txt")
    asked_for(place.folder / "requirements.txt", "measures==1.0")

    done = call(place, "run", "--requirements", "requirements.txt")

    assert done.returncode == 0, done.text
    assert used in environments(place)
    assert used.parent / "unused" not in environments(place)


@pytest.mark.slow
def test_other_requirements_have_another_environment(place):
    call(place, "run", "--requirements", "requirements.txt")
    asked_for(place.folder / "requirements.txt", "measures==1.0")

    done = call(place, "run", "--requirements", "requirements.txt")

    assert (
        done.run(2).load("version", done.run(2).artifacts(done.run(2).task(TaskName("end", "0")))["again"])
        == "1.0"
    )
    assert len(environments(place)) == 2


def test_a_package_that_the_driver_has_in_another_version_comes_first(place):
    wheel(place.folder / "wheels", "click", "99.0")
    asked_for(place.folder / "requirements.txt", "measures", "click==99.0")

    done = call(place, "run", "--requirements", "requirements.txt")

    assert done.returncode == 0, done.text
    assert done.values("middle", "click") == ["99.0", "99.0"]


def test_the_record_of_the_run_says_what_it_had(place):
    (place.folder / "more.txt").write_text("measures==2.0\n")
    (place.folder / "bounds.txt").write_text("unused<3\n")
    asked_for(place.folder / "requirements.txt", "-r more.txt", "--constraint bounds.txt")

    done = call(place, "run", "--requirements", "requirements.txt")

    told = done.run().record()["requirements"]
    assert told["file"] == "requirements.txt"
    assert told["text"] == f"--no-index --find-links {place.folder / 'wheels'}\nmeasures==2.0\n"
    assert told["constraints"] == "unused<3\n"
    assert len(told["hash"]) == 32


def test_a_run_that_goes_on_or_is_resumed_keeps_its_requirements(place):
    (place.folder / "broken").touch()
    failed = call(place, "run", "--requirements", "requirements.txt")
    assert failed.returncode == 1
    (place.folder / "broken").unlink()
    asked_for(place.folder / "requirements.txt", "measures==1.0")  # not asked for anew

    resumed = call(place, "resume")
    assert resumed.returncode == 0, resumed.text
    assert resumed.run(2).record()["requirements"] == failed.run().record()["requirements"]
    continued = call(place, "continue", "1")

    assert continued.returncode == 0, continued.text
    assert continued.value("end", "again") == "2.0"
    other = call(place, "resume", "end", "--origin-run-id", "1", "--requirements", "requirements.txt")
    assert other.run(3).load("again", other.run(3).task(TaskName("end", "0")).artifacts["again"]) == "1.0"
    assert len(environments(place)) == 2


def test_a_file_of_nothing_takes_the_requirements_away(place):
    call(place, "run", "--requirements", "requirements.txt")
    (place.folder / "none.txt").write_text("# nothing\n")

    done = call(place, "resume", "end", "--requirements", "none.txt")

    assert done.returncode == 1
    assert "No module named 'measures'" in done.text
    assert "requirements" not in done.run(2).record()


def test_tasks_that_can_not_be_forked_have_the_environment_too(place):
    flow = place.folder / "flow.py"
    thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    flow.write_text(flow.read_text().replace("class F(", f"{thread}\nclass F("))

    done = call(place, "run", "--requirements", "requirements.txt")

    assert done.returncode == 0, done.text
    assert "starts an interpreter of its own" in done.text
    assert done.value("start", "version") == "2.0"


def test_the_debugger_and_a_run_in_this_process_have_the_environment(place):
    inline = call(place, "run", "--cluster", "inline", "--requirements", "requirements.txt")
    debugged = call(place, "debug", "1/end/0")

    assert inline.returncode == 0, inline.text
    assert inline.value("start", "version") == "2.0"
    assert debugged.returncode == 0, debugged.text
    assert len(environments(place)) == 1


def test_without_the_option_nothing_of_it_is_loaded(place):
    flow = place.folder / "flow.py"
    flow.write_text(flow.read_text().replace("import measures", "measures = os; os.version = 1"))

    done = place.call("-X", "importtime", "flow.py", "run", flow="F")

    assert done.returncode == 0, done.stdout
    assert "daskflow.task.launchers" in done.stderr
    assert "daskflow.task.environment" not in done.stderr
    assert "daskflow.task.requirements" not in done.stderr
    assert not (place.folder / "home" / ".cache").exists()


DASK = importlib.metadata.version("dask")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["dask==1.0"], f"asks for dask==1.0, but tasks must have dask {DASK}"),
        (["olddask"], f"tasks must have dask=={DASK}, as the command that starts the run has it; "),
        (["olddask"], "; olddask 3.0 depends on dask==1.0"),
        (["oldclick"], f"daskflow {importlib.metadata.version('daskflow')} depends on click>=8.1"),
        (["measures==1.0", "two"], "the file asks for measures==1.0; two 1.0 depends on measures==2.0"),
        (["nosuch"], "No matching distribution found for nosuch"),
        (["-r requirements.txt"], "requirements.txt includes itself"),
    ],
)
def test_what_can_not_be_had_is_told_before_there_is_a_run(place, lines, told):
    wheel(place.folder / "wheels", "olddask", "3.0", ["dask==1.0"])
    wheel(place.folder / "wheels", "oldclick", "1.0", ["click<1"])
    wheel(place.folder / "wheels", "two", "1.0", ["measures==2.0"])
    asked_for(place.folder / "requirements.txt", *lines)

    done = call(place, "run", "--requirements", "requirements.txt", "--run-id-file", "id.txt")

    assert done.returncode == 1
    assert told in done.stderr
    assert not done.store.names()
    assert environments(place) == []


def test_a_conflict_with_a_remote_cluster_is_told_before_it_is_looked_for(place):
    asked_for(place.folder / "requirements.txt", "distributed<2")

    done = call(place, "run", "--requirements", "requirements.txt", "--cluster", "tcp://127.0.0.1:1")

    assert done.returncode == 1
    assert "asks for distributed<2, but tasks must have distributed " in done.stderr
    assert not done.store.names()


def test_a_file_that_is_not_there_is_a_wrong_command_line(place):
    done = call(place, "run", "--requirements", "nowhere.txt")

    assert done.returncode == 2
    assert "Invalid value for '--requirements': File 'nowhere.txt' does not exist." in done.stderr
    assert not done.store.names()


def test_the_log_that_the_message_names_has_what_pip_said(place):
    asked_for(place.folder / "requirements.txt", "nosuch")

    done = call(place, "run", "--requirements", "requirements.txt")

    path = done.stderr.rpartition("What it said is in ")[2].strip().removesuffix(".")
    with open(path) as log:
        assert "ERROR: No matching distribution found for nosuch" in log.read()


def test_an_index_that_does_not_answer_is_told_as_that(place):
    (place.folder / "requirements.txt").write_text("--index-url http://127.0.0.1:1/simple\nmeasures==2.0\n")

    done = call(
        place,
        "run",
        "--requirements",
        "requirements.txt",
        env={"PIP_RETRIES": "1", "PIP_CONFIG_FILE": os.devnull},
    )

    assert done.returncode == 1
    assert (
        "the package index does not answer; No matching distribution found for measures==2.0" in done.stderr
    )


def test_a_folder_for_environments_that_can_not_be_written_is_told(place):
    (place.folder / "file").touch()

    done = call(
        place, "run", "--requirements", "requirements.txt", env={"XDG_CACHE_HOME": str(place.folder / "file")}
    )

    assert done.returncode == 1
    assert f"can't be made on {os.uname().nodename} in {place.folder / 'file'}" in done.stderr
    assert "Not a directory" in done.stderr


@pytest.mark.slow
@needs_mounts
def test_a_full_disk_is_told_and_leaves_nothing(place):
    wheel(place.folder / "wheels", "large", "1.0", source="# " + "x" * 3_000_000)
    asked_for(place.folder / "requirements.txt", "large")
    (place.folder / "cache").mkdir()
    listed = "ls -d cache/daskflow/environments/*/ 2> /dev/null"
    script = f'mount -t tmpfs -o size=1m none cache; "$@"; status=$?; {listed}; exit $status'

    with subprocess.Popen(
        [*with_mounts(script), sys.executable, "flow.py", "run", "--requirements", "requirements.txt"],
        cwd=place.folder,
        env=place.environment | {"XDG_CACHE_HOME": str(place.folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        out, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "No space left on device" in err
    assert "Traceback" not in err
    assert out == ""
    assert not place.store.names()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_pip_ends_with_the_command_and_the_next_one_makes_the_environment(place, number):
    with socket.create_server(("127.0.0.1", 0)) as index:  # it takes a request and never answers
        index.settimeout(30)
        asked = place.folder / "requirements.txt"
        lines = asked.read_text()
        asked.write_text(f"--index-url http://127.0.0.1:{index.getsockname()[1]}/simple\nmeasures==2.0\n")
        with place.start("flow.py", "run", "--requirements", "requirements.txt") as command:
            request, _ = index.accept()
            below = descendants(command.pid)
            command.send_signal(number)
            _, err = command.communicate(timeout=30)
        wait_until(lambda: not living(below))
        request.close()

    assert below
    assert ("Interrupted." in err) == (number != signal.SIGKILL)
    assert "Traceback" not in err
    assert not place.store.names()
    asked.write_text(lines)
    done = call(place, "run", "--requirements", "requirements.txt")
    assert done.returncode == 0, done.text


@pytest.mark.slow
def test_two_runs_that_start_together_make_one_environment(place):
    env = {"PIP_LOG": str(place.folder / "pip.log")}
    processes = [
        place.start(
            "flow.py", "--datastore", f"store{number}", "run", "--requirements", "requirements.txt", env=env
        )
        for number in range(3)
    ]

    ends = [process.communicate(timeout=60) for process in processes]

    assert [process.returncode for process in processes] == [0, 0, 0], ends
    assert sum("The environment of requirements.txt took" in err for _, err in ends) == 1
    assert len(environments(place)) == 1
    assert calls_of_pip(place) == 1


@pytest.mark.slow
def test_an_environment_that_was_not_completed_is_made_anew(place):
    call(place, "run", "--requirements", "requirements.txt")
    (environment,) = environments(place)
    (environment / "daskflow.json").unlink()
    for file in environment.glob("lib/python*/site-packages/measures.py"):
        file.unlink()

    done = call(place, "run", "--requirements", "requirements.txt")

    assert done.returncode == 0, done.text
    assert json.loads((environment / "daskflow.json").read_text())["file"] == "requirements.txt"


@pytest.mark.slow
def test_the_dask_of_a_step_on_this_machine_has_the_environment(place):
    flow = place.folder / "flow.py"
    source = flow.read_text().replace("self.version = measures.version", "self.version = asked()")
    function = "def asked():\n    import dask\n    return dask.delayed(lambda: __import__('measures').version)().compute()\n\n"
    flow.write_text(source.replace("class F(", f"{function}class F("))

    done = call(place, "run", "--requirements", "requirements.txt")

    assert done.returncode == 0, done.text
    assert done.value("start", "version") == "2.0"


@pytest.mark.slow
def test_an_interpreter_without_pip_gets_it_for_the_environment(place):
    own, packages = place.folder / "own", place.folder / "packages"
    venv.EnvBuilder(symlinks=True).create(own)
    packages.mkdir()
    # Debian's Python names some that are not there
    for folder in filter(os.path.isdir, site.getsitepackages()):
        for entry in Path(folder).iterdir():
            if entry.suffix != ".pth" and entry.name.partition("-")[0] != "pip":
                (packages / entry.name).symlink_to(entry)
    next(own.glob("lib/python*/site-packages")).joinpath("packages.pth").write_text(f"{packages}\n")
    command = [own / "bin" / "python", "flow.py", "run", "--requirements", "requirements.txt"]

    done = subprocess.run(
        command,
        cwd=place.folder,
        env=place.environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    (environment,) = environments(place)
    assert list(environment.glob("lib/python*/site-packages/pip"))


@pytest.mark.slow
def test_a_cluster_of_a_class_within_the_driver_has_the_environment_before_the_first_task(place):
    dashboards = {"dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    options = {"processes": "false", "protocol": "inproc://"} | dashboards
    given = [word for name, value in options.items() for word in ("--cluster-option", f"{name}={value}")]

    done = call(
        place, "run", "--cluster", "distributed.LocalCluster", *given, "--requirements", "requirements.txt"
    )

    assert done.returncode == 0, done.text
    assert done.stdout.index("The environment of requirements.txt took ") < done.stdout.index("starts.")
    assert done.value("start", "version") == "2.0"
