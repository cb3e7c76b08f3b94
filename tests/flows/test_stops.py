"""Signals to a run on this machine, forks and closed streams of a step, several runs at once: nothing mixed, nothing left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.watching import descendants, living, wait_until

FLOW = """
    import os
    import pathlib
    import subprocess
    import sys
    import time
    from daskflow import FlowSpec, current, step

    HERE = pathlib.Path.cwd()

    def tell(name, text):
        (HERE / f"{name}.tmp").write_text(str(text))
        os.rename(HERE / f"{name}.tmp", HERE / name)

    class Stops(FlowSpec):
        @step
        def start(self):
            self.next(self.work)

        @step
        def work(self):
            STARTS
            tell("pids", os.getpid())
            while not (HERE / "go").exists():
                time.sleep(0.01)
            self.done = True
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Stops()
"""


@pytest.fixture
def running(workspace):
    """A function that starts a run and gives it once its second step waits; all its processes are ended in the end."""
    opened = []

    def start(*options: str, starts: str = "pass", **keywords):
        place = workspace()
        place.write(FLOW.replace("STARTS", starts))
        driver = place.start("flow.py", "run", *options, **keywords)
        opened.append((place, driver))
        wait_until(lambda: (place.folder / "pids").exists() or driver.poll() is not None)
        assert driver.poll() is None, driver.communicate()
        return place, driver, int((place.folder / "pids").read_text())

    yield start
    for place, driver in opened:
        for pid in living([*descendants(driver.pid), driver.pid]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ValueError):  # its output has been read
            driver.communicate(timeout=30)
        for child in place.folder.glob("child*"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(child.read_text()), signal.SIGKILL)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def finish(place, driver, seconds: float = 60):
    out, err = driver.communicate(timeout=seconds)
    return place.result(driver, "Stops", out, err)


# Signals


def test_a_hang_up_that_was_ignored_at_the_start_stays_ignored(running):
    def nohup() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    place, driver, _ = running(preexec_fn=nohup)

    os.killpg(driver.pid, signal.SIGHUP)
    (place.folder / "go").touch()
    result = finish(place, driver)

    assert result.returncode == 0, result.text
    assert "Interrupted" not in result.text
    assert result.value("work", "done") is True


def test_a_hang_up_ends_a_run_otherwise(running):
    place, driver, pid = running("--grace", "0")

    os.killpg(driver.pid, signal.SIGHUP)
    result = finish(place, driver)

    assert result.returncode != 0
    assert result.status() == "interrupted"
    wait_until(lambda: not living([pid]))


def test_ctrl_z_stops_the_tasks_too_and_fg_lets_them_go_on(running):
    starts = 'child = subprocess.Popen(["sleep", "300"]); tell("child", child.pid)'
    place, driver, pid = running(starts=starts)
    child = int((place.folder / "child").read_text())

    os.killpg(driver.pid, signal.SIGTSTP)
    wait_until(lambda: [state(each) for each in (driver.pid, pid, child)] == ["T", "T", "T"])
    (place.folder / "go").touch()
    os.killpg(driver.pid, signal.SIGCONT)
    result = finish(place, driver)

    assert result.returncode == 0, result.text
    assert result.value("work", "done") is True


def test_a_task_may_use_the_grace_it_was_given(running):
    place, driver, _ = running("--grace", "60")

    driver.send_signal(signal.SIGINT)
    wait_until(lambda: "Interrupted" in os.read(driver.stdout.fileno(), 1 << 16).decode())
    (place.folder / "go").touch()
    result = finish(place, driver)

    assert result.returncode != 0
    assert result.status() == "interrupted"
    assert result.value("work", "done") is True
    assert result.run().tasks("end") == []


def test_a_second_ctrl_c_ends_at_once_whatever_the_grace(running):
    place, driver, pid = running("--grace", "3000")

    driver.send_signal(signal.SIGINT)
    wait_until(lambda: "Interrupted" in os.read(driver.stdout.fileno(), 1 << 16).decode())
    driver.send_signal(signal.SIGINT)
    result = finish(place, driver)

    assert result.status() == "interrupted"
    assert "[KILLED BY ORCHESTRATOR]" in result.log("work")
    assert not living([pid])


@pytest.mark.parametrize("how", ["setsid", "nohup", "daemon"])
def test_nothing_survives_a_killed_driver_whatever_a_step_started(running, how):
    starts = {
        "setsid": 'subprocess.Popen(["setsid", "sh", "-c", "echo $$ > child; exec sleep 300"])',
        "nohup": 'subprocess.Popen(["nohup", "sh", "-c", "trap : TERM HUP; echo $$ > child; while :; do sleep 1; done"])',
        "daemon": """subprocess.run(["sh", "-c", "setsid sh -c 'echo $$ > child; exec sleep 300' >/dev/null 2>&1 &"])""",
    }[how]
    place, driver, pid = running(starts=starts)
    wait_until(lambda: (place.folder / "child").exists() and (place.folder / "child").read_text())
    everything = [*descendants(driver.pid), pid, int((place.folder / "child").read_text())]

    driver.kill()
    driver.communicate(timeout=30)

    wait_until(lambda: not living(everything), 15)  # 5 s on a machine that has time
    (place.folder / "go").touch()
    done = place.call("flow.py", "continue", flow="Stops")
    assert done.returncode == 0, done.text
    assert done.value("work", "done") is True


# What a step does with its process

FORKS = """
    import os
    import sys
    from daskflow import FlowSpec, step

    class Forks(FlowSpec):
        @step
        def start(self):
            self.who = "parent"
            child = os.fork()
            if child == 0:
                self.who = "child"
                {child}
            else:
                os.waitpid(child, 0)
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Forks()
"""


@pytest.mark.parametrize(
    "child", ["pass", "sys.exit(0)", "sys.exit(3)", "raise ValueError('of the child')", "return"]
)
def test_a_fork_of_a_step_can_neither_commit_nor_fail_its_task(run_flow, child):
    result = run_flow(FORKS.format(child=child))

    assert result.value("start", "who") == "parent"
    assert list(result.run().failed_attempts(result.record("start").name)) == []
    assert len([name for name in result.store.names("Forks/1/start/0") if name.startswith("0.")]) <= 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_run_needs_no_standard_streams(workspace, closed):
    place = workspace()
    place.write(FLOW.replace("STARTS", "print('said')"))
    (place.folder / "go").touch()

    done = place.call(
        "-c",
        "import os, sys; os.execv('/bin/sh', ['sh', '-c', sys.argv[1]])",
        f"exec {sys.executable} flow.py run {closed}",
        flow="Stops",
    )

    assert done.returncode == 0, done.text
    assert "Traceback" not in done.text
    assert done.status() == "successful"
    assert done.value("work", "done") is True


@pytest.mark.parametrize("command", ["show", "check", "output-dot", "--help", "logs 1/start/0"])
def test_a_command_whose_output_finds_no_room_says_so_in_a_line(workspace, command):
    place = workspace()
    place.write(FLOW.replace("STARTS", "pass"))
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "flow.py", *command.split()],
            cwd=place.folder,
            env=place.environment,
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert "Traceback" not in done.stderr
    assert "Internal error" not in done.stderr


# How the kernel treats tasks

MEMORY = """
    import os
    import pathlib
    import signal
    from daskflow import FlowSpec, step

    def score(pid):
        return int(pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text())

    class Memory(FlowSpec):
        @step
        def start(self):
            self.own = score("self")
            self.parent = score(os.getppid())
            self.next(self.end)

        @step
        def end(self):
            os.kill(os.getpid(), signal.SIGKILL)

    if __name__ == "__main__":
        Memory()
"""


def test_the_kernel_takes_a_task_first_and_other_kills_are_not_put_down_to_memory(run_flow):
    result = run_flow(MEMORY, expect=1)

    ours = int(Path("/proc/self/oom_score_adj").read_text())
    assert (result.value("start", "own"), result.value("start", "parent")) == (1000, ours)
    assert (
        "SIGKILL (Killed) before the step was done, not for want of memory; it had used"
        in result.failed("end").error["exception"]
    )
    assert "not for want of memory" in result.stdout


# Several at once

MANY = """
    import os
    import pathlib
    import time
    from daskflow import FlowSpec, Parameter, current, step

    class {name}(FlowSpec):
        word = Parameter("word", default="{name}")

        @step
        def start(self):
            (pathlib.Path.cwd() / f"here-{{os.getpid()}}").touch()
            while len(list(pathlib.Path.cwd().glob("here-*"))) < 2:
                time.sleep(0.01)
            self.items = [f"{{self.word}} {{i}}" for i in range(8)]
            self.next(self.work, foreach="items")

        @step
        def work(self):
            print("works on", self.input)
            self.text = f"{{self.input}} of {{current.flow_name}}/{{current.run_id}}"
            self.next(self.join)

        @step
        def join(self, inputs):
            self.texts = [each.text for each in inputs]
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        {name}()
"""


@pytest.mark.parametrize("flows", [("One", "Two"), ("Same", "Same")])
def test_two_runs_at_once_are_not_mixed(workspace, flows):
    place = workspace()
    for name in flows:
        place.write(MANY.format(name=name), f"{name}.py")

    words = ("a", "b")
    drivers = [
        place.start(f"{name}.py", "run", "--word", word, "--run-id-file", f"id-{word}")
        for name, word in zip(flows, words, strict=True)
    ]
    results = []
    try:
        for name, driver in zip(flows, drivers, strict=True):
            out, err = driver.communicate(timeout=60)
            results.append(place.result(driver, name, out, err))
    finally:
        for driver in drivers:
            driver.kill()

    for result, name, word in zip(results, flows, words, strict=True):
        assert result.returncode == 0, result.text
        run = (place.folder / f"id-{word}").read_text()
        join = result.run(int(run)).task(result.record("join").name)
        expected = [f"{word} {i} of {name}/{run}" for i in range(8)]
        assert result.run(int(run)).load("texts", join.artifacts["texts"]) == expected
        assert sorted(result.lines) == sorted(f"works on {word} {i}" for i in range(8))
