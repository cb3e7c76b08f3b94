"""The last lines of a run: how it went, and what to type next."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING

from daskflow.cli.entry import program
from daskflow.errors import StoreError
from daskflow.pathspec import TaskName
from daskflow.store.logs import texts
from daskflow.task.spec import first_line, told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskflow.engine.console import Console
    from daskflow.engine.frontier import Frontier
    from daskflow.engine.run import Outcome
    from daskflow.errors import ClusterError
    from daskflow.store.records import TaskRecord
    from daskflow.store.runs import RunStore
    from daskflow.task.spec import TaskResult

MOST_LINES = 20
"""Lines of a failed task's stderr that are shown."""
MOST_OF_LINE, MOST_OF_ERROR = 1000, 200
"""Characters of a line that are shown; of the error of each further failure."""
MOST_FAILURES = 5
"""Failed tasks that are told of one by one."""
MOST_TABLES = 10
"""Tables whose place is told at the end."""


def tell_end(console: Console, store: RunStore, frontier: Frontier, outcome: Outcome, seconds: float) -> str:
    """Say how a run went; why it failed, in one line, for its record."""
    console.lines_only()
    name = f"{store.flow}/{store.run}"
    if outcome.status == "successful":
        caught = f", {outcome.caught} of them with a failure that was caught," if outcome.caught else ""
        console.say(f"Done! {name}: {counted(outcome.done, 'task')}{caught} in {seconds:.1f} s.")
        tables = _tables(store)
        for table, path in tables[:MOST_TABLES]:
            console.say(f"  {table}: pandas.read_parquet({path!r})")
        if len(tables) > MOST_TABLES:
            console.say(f"  and {counted(len(tables) - MOST_TABLES, 'more table')}")
        return ""
    for result in outcome.failures[:1]:
        _tell_failure(console, store, result)
    for result in outcome.failures[1:MOST_FAILURES]:
        console.say(
            f"Also failed: {store.run}/{result.name}: {first_line(told(result.error), MOST_OF_ERROR)}"
        )
    if len(outcome.failures) > MOST_FAILURES:
        console.say(f"{counted(len(outcome.failures) - MOST_FAILURES, 'more task')} failed.")
    if outcome.reason:
        console.say(outcome.reason)
    failed = {result.name.step for result in outcome.failures}
    steps = ", ".join(
        f"{step} {done} of {known}"
        for step, (done, known) in frontier.progress().items()
        if done or step in failed
    )
    console.say(f"{name} {outcome.status} after {seconds:.1f} s. Finished tasks: {steps or 'none'}.")
    _tell_what_to_do(console, store, outcome.failures[:1])
    if outcome.reason or not outcome.failures:
        return outcome.reason
    first = outcome.failures[0]
    return f"Task {first.name} failed: {first_line(told(first.error), MOST_OF_LINE)}"


def tell_lost(console: Console, store: RunStore, error: ClusterError) -> None:
    """Say that the cluster is lost in the middle of a run."""
    console.lines_only()
    console.say(f"{error.headline}: {error.message}")
    _tell_what_to_do(console, store)


def _tell_what_to_do(console: Console, store: RunStore, failures: Sequence[TaskResult] = ()) -> None:
    """The commands that go on from where a run is."""
    console.say("What is finished is kept. To go on:")
    commands = what_to_do(store, failures)
    width = max(len(command) for command, _ in commands)
    for command, what in commands:
        console.say(f"  {command:{width}}  # {what}")


def what_to_do(store: RunStore, failures: Sequence[TaskResult] = ()) -> list[tuple[str, str]]:
    """The commands that go on from where a run is, and what each does."""
    return [
        (_command("continue", store.run), "the same run, as long as its code is unchanged"),
        (_command("resume", "--origin-run-id", store.run), "a new run, with the code as it is now"),
        *(
            (_command("debug", f"{store.run}/{each.name}"), "that task again, here, under pdb")
            for each in failures
        ),
    ]


def _tell_failure(console: Console, store: RunStore, result: TaskResult) -> None:
    error = first_line(told(result.error), MOST_OF_LINE)
    console.say(f"Step failure: Step {result.name.step} (task-id {result.name.task_id}) failed: {error}")
    record = _record(store, result)
    if record is not None and not record.logs:  # its output went to the terminal and nowhere else
        return
    lines = _stderr(store, record)
    for line in lines[-MOST_LINES:]:
        console.say(f"    {first_line(line, MOST_OF_LINE)}")
    left_out = f" ({len(lines) - MOST_LINES} more lines of stderr)" if len(lines) > MOST_LINES else ""
    console.say(f"  Its log: {_command('logs', f'{store.run}/{result.name}')}{left_out}")


def counted(number: int, what: str) -> str:
    """``1 task``, ``2 tasks``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _record(store: RunStore, result: TaskResult) -> TaskRecord | None:
    attempts = store.failed_attempts(result.name)
    return next((record for record in attempts if record.execution == result.execution), None)


def _stderr(store: RunStore, record: TaskRecord | None) -> list[str]:
    if record is not None and "stderr" in record.logs:
        with contextlib.suppress(OSError, StoreError):  # the failure was told; its log can't be had
            return texts(store.storage, record.logs["stderr"])
    return []


def _command(*words: str) -> str:
    return f"{program()} {shlex.join(words)}"


def _tables(store: RunStore) -> list[tuple[str, str]]:
    """Name and place of each table that the last step has, be it set there or before."""
    record = store.task(TaskName(store.record()["end_step"], "0"))
    assert record is not None
    return [
        (name, store.storage.locate(ref.path))
        for name, ref in record.artifacts.items()
        if ref.encoding == "parquet" and ref.path is not None
    ]
