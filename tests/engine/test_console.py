"""What the lines of a run say about its steps."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from daskflow.engine.console import Console
from daskflow.engine.frontier import Planned
from daskflow.engine.live import Live
from daskflow.flow.node import Node
from daskflow.pathspec import TaskName, TaskNames
from daskflow.task.spec import RunContext, TaskResult, TaskSpec

RUN = RunContext("Flow", "1", store="", token="", cwd="", max_log_bytes=0, launcher="")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return Terminal()


@pytest.fixture
def console(terminal):
    opened = Console("1", Live(terminal))
    yield opened
    opened.close()


def planned(*names):
    """Tasks that wait, of steps that don't matter."""
    node = object.__new__(Node)
    return [Planned(TaskSpec(RUN, TaskName.of(name), node, TaskNames([]), ())) for name in names]


def ran(console, planned_task, status="committed", **how):
    console.started(planned_task.spec, 7)
    finished(console, TaskResult(planned_task.spec.name, 0, status, **how))


def finished(console, result, again=False):
    console.finished([result], {result.name} if again else ())


def screen(terminal):
    """What can be read on the terminal, line by line: later lines are written over earlier ones."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", terminal.getvalue()):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part[0] not in "\x1b\r":
            lines[row] += part
    return [re.sub(r"  +[.0-9]+ s$", "", line.strip()) for line in lines if line.strip()]


def states(terminal):
    """The steps' lines, without the time."""
    return [re.sub(r" +", " ", line) for line in screen(terminal) if line[0] in "✓✗■▶·-"]


def test_a_step_that_never_ran_has_a_dash_and_one_that_failed_a_cross(console, terminal):
    start, divide, join = planned("start/0", "divide/0", "join/0")
    console.planned([start, divide, join])

    ran(console, start)
    ran(console, divide, "failed", error=("builtins.ValueError", "no"))
    finished(console, TaskResult(join.spec.name, 0, "not_run"))
    console.close()

    assert states(terminal) == ["✓ start 1 done", "✗ divide 1 failed", "- join 1 not run"]


def test_a_task_that_was_ended_with_its_run_is_stopped_and_not_failed(console, terminal):
    (work,) = planned("work/0")
    console.planned([work])

    ran(console, work, "failed", stopped=True)
    console.close()

    assert states(terminal) == ["■ work 1 stopped"]


def test_a_task_whose_step_asked_for_no_retry_has_failed(console, terminal):
    (work,) = planned("work/0")
    console.planned([work])

    ran(console, work, "failed", error=("process", "Its process ended with exit status 202."), final=True)
    console.close()

    assert states(terminal) == ["✗ work 1 failed"]


def test_a_task_that_waits_for_a_task_before_it_to_be_tried_again_is_counted_once(console, terminal):
    first, second = planned("first/0", "second/0")
    console.planned([first, second])

    console.started(first.spec, 7)
    finished(console, TaskResult(first.spec.name, 0, "failed"), again=True)
    finished(console, TaskResult(second.spec.name, 0, "not_run"))
    ran(console, first)
    console.planned([replace(second, again=True)])
    ran(console, second)
    console.close()

    assert states(terminal) == ["✓ first 1 done", "✓ second 1 done"]


def test_items_that_share_a_process_are_counted_one_by_one(console, terminal):
    (work,) = planned("work/0")
    work = replace(work, spec=replace(work.spec, count=10))
    console.planned([work])

    console.started(work.spec.part(0, 4), 7, 4)
    console.finished(
        [
            TaskResult(TaskName.of("work/0"), 0, "committed", count=2),
            TaskResult(TaskName.of("work/2"), 0, "released", alone=True),
            TaskResult(TaskName.of("work/3"), 0, "released"),
        ],
    )
    ran(console, replace(work, spec=work.spec.item(2)), "failed", error=("builtins.ValueError", "no"))
    console.finished([TaskResult(TaskName.of("work/3"), 0, "committed", count=7)])
    console.close()

    assert states(terminal) == ["✗ work 9 done 1 failed"]


def test_the_last_words_of_a_run_stand_below_its_steps(console, terminal):
    (start,) = planned("start/0")
    console.planned([start])
    ran(console, start)

    console.lines_only()
    console.say("Done!")
    console.say("a table")
    console.close()

    assert screen(terminal)[-2:] == ["Done!", "a table"]
    assert states(terminal) == ["✓ start 1 done"]


def test_without_live_lines_a_task_is_told_when_it_starts(console, terminal):
    (start,) = planned("start/0")

    console.lines_only()
    console.settle()
    console.planned([start])
    ran(console, start)
    console.close()

    assert screen(terminal) == ["[1/start/0 (pid 7)] Task is starting."]
