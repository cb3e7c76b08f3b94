"""``debug``: a task run again in this terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from daskflow.cli.go_on import nobody
from daskflow.cli.pathspecs import task_of
from daskflow.engine.frontier import Frontier
from daskflow.engine.resume import recover
from daskflow.errors import NotFound
from daskflow.task.debug import debug as run_again

if TYPE_CHECKING:
    from daskflow.cli.entry import Invocation


@click.command("debug")
@click.argument("task", metavar="RUN/STEP/TASK")
@click.option("--pdb-at-start", is_flag=True, help="Open the debugger at the first line of the step.")
@click.pass_obj
def debug(invocation: Invocation, task: str, pdb_at_start: bool) -> int:
    """Run a task again, here, with its inputs and the code as it is now; the debugger opens where it raises.

    Nothing is stored. Decorators that deal with failures and time (@retry, @catch, @timeout) are left out.
    """
    store, name = task_of(invocation, task)
    record = store.record()
    frontier = Frontier(invocation.graph(tuple(record.get("decorators", ()))), nobody(store))
    known = recover(frontier, store.task)
    if name not in known.done and name not in {planned.spec.name for planned in known.left}:
        raise NotFound(f"Task {store.flow}/{store.run}/{name} does not exist: the run never came so far.")
    spec = frontier.spec(name)
    left = {planned.spec.name for planned in known.left}
    missing = [parent for parent in spec.parents if parent in left]
    if missing:
        raise NotFound(
            f"Task {spec.pathspec} has no inputs yet: {', '.join(map(str, missing))} did not succeed. Debug that first."
        )
    error = run_again(spec, invocation.flow_class, store, pdb_at_start)
    if error is None:
        click.echo(f"{spec.pathspec} came to its end without an error. Nothing was stored.", err=True)
    return 0 if error is None else 1
