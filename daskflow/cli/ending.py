"""The last lines of a run: how it went, and what to type next."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING

from daskflow.cli.entry import program
from daskflow.errors import StoreError
from daskflow.pathspec import TaskName
from daskflow.store.logs import texts

if TYPE_CHECKING:
    from daskflow.engine.console import Console
    from daskflow.engine.frontier import Frontier
    from daskflow.engine.run import Outcome
    from daskflow.store.runs import RunStore
    from daskflow.task.spec import TaskResult

MOST_LINES = 20
"""Lines of a failed task's stderr that are shown."""
MOST_FAILURES = 5
"""Failed tasks that are told of one by one."""


def tell_end(console: Console, store: RunStore, frontier: Frontier, outcome: Outcome, seconds: float) -> str:
    """Say how a run went; why it failed, in one line, for its record."""
    name = f"{store.flow}/{store.run}"
    if outcome.status == "successful":
        console.say(f"Done! {name}: {outcome.done} tasks in {seconds:.1f} s.")
        for table, path in _tables(store):
            console.say(f"  {table}: pandas.read_parquet({path!r})")
        return ""
    for result in outcome.failures[:MOST_FAILURES]:
        _tell_failure(console, store, result)
    if len(outcome.failures) > MOST_FAILURES:
        console.say(f"{len(outcome.failures) - MOST_FAILURES} more tasks failed.")
    if outcome.reason:
        console.say(outcome.reason)
    progress = frontier.progress().items()
    steps = ", ".join(f"{step} {done} of {known}" for step, (done, known) in progress)
    console.say(f"{name} {outcome.status} after {seconds:.1f} s. Finished tasks: {steps}.")
    tell_what_to_do(console, store)
    if outcome.reason or not outcome.failures:
        return outcome.reason
    first = outcome.failures[0]
    return f"Task {first.name} failed: {': '.join(first.error or ())}"


def tell_what_to_do(console: Console, store: RunStore) -> None:
    """The commands that go on from where a run is."""
    console.say("What is finished is kept. To go on:")
    console.say(f"  {_command('continue', store.run)}    the same run, with the code it started with")
    console.say(
        f"  {_command('resume', '--origin-run-id', store.run)}    a new run, with the code as it is now"
    )


def _tell_failure(console: Console, store: RunStore, result: TaskResult) -> None:
    kind, words = result.error or ("", "")
    console.say(
        f"Step failure: Step {result.name.step} (task-id {result.name.task_id}) failed: {kind}: {words}"
    )
    lines = _stderr(store, result)
    for line in lines[-MOST_LINES:]:
        console.say(f"    {line}")
    left_out = f" ({len(lines) - MOST_LINES} more lines of stderr)" if len(lines) > MOST_LINES else ""
    console.say(f"  Its log: {_command('logs', f'{store.run}/{result.name}')}{left_out}")


def _stderr(store: RunStore, result: TaskResult) -> list[str]:
    for record in store.failed_attempts(result.name):
        if record.execution == result.execution and "stderr" in record.logs:
            with contextlib.suppress(OSError, StoreError):  # the failure was told; its log can't be had
                return texts(store.storage, record.logs["stderr"])
    return []


def _command(*words: str) -> str:
    return f"{program()} {shlex.join(words)}"


def _tables(store: RunStore) -> list[tuple[str, str]]:
    """Name and place of each table that the last step set."""
    last = TaskName(store.record()["end_step"], "0")
    record = store.task(last)
    assert record is not None
    own = f"/{last}/"
    return [
        (name, store.storage.locate(ref.path))
        for name, ref in record.artifacts.items()
        if ref.encoding == "parquet" and ref.path is not None and own in ref.path
    ]
