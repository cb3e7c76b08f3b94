"""``debug``: a task run again in this terminal."""

from __future__ import annotations

import bdb
from typing import TYPE_CHECKING

import click

from daskflow.cli.driving_options import Options
from daskflow.cli.entry import end_in_order
from daskflow.cli.go_on import check_parameters, nobody
from daskflow.cli.pathspecs import task_of
from daskflow.cli.where import wanted
from daskflow.engine.frontier import Frontier
from daskflow.engine.resume import Past, recover
from daskflow.errors import NotFound
from daskflow.pathspec import TaskSet
from daskflow.task.debug import debug as run_again

if TYPE_CHECKING:
    from daskflow.cli.entry import Invocation
    from daskflow.pathspec import TaskName
    from daskflow.store.runs import RunStore
    from daskflow.task.spec import TaskSpec


@click.command("debug")
@click.argument("task", metavar="RUN/STEP/TASK")
@click.option("--pdb-at-start", is_flag=True, help="Open the debugger at the first line of the step.")
@click.pass_obj
def debug(invocation: Invocation, task: str, pdb_at_start: bool) -> int:
    """Run a task again, here, with its inputs and the code as it is now; the debugger opens where it raises.

    Nothing is stored. Decorators that deal with failures and time (@retry, @catch, @timeout) are left out.
    """
    store, name = task_of(invocation, task)
    requirements = wanted(Options(), store).requirements
    if requirements is not None:
        from daskflow.task import environment
        from daskflow.task.requirements import pins

        end_in_order()
        environment.enter(requirements, pins(), lambda text: click.echo(text, err=True))
    check_parameters(invocation.flow_class, store)
    spec = _spec(invocation, store, name)
    error = run_again(spec, invocation.flow_class, store, pdb_at_start)
    if error is None:
        click.echo(f"{spec.pathspec} came to its end without an error. Nothing was stored.", err=True)
    elif isinstance(error, bdb.BdbQuit):
        click.echo(f"{spec.pathspec} was left before its end. Nothing was stored.", err=True)
    return 0 if error is None else 1


def _spec(invocation: Invocation, store: RunStore, name: TaskName) -> TaskSpec:
    """The task with its inputs. Raises :class:`NotFound` if the run has no such task, or not its inputs."""
    graph = invocation.graph(tuple(store.record().get("decorators", ())))
    task = f"{store.flow}/{store.run}/{name}"
    if name.step not in graph:
        steps = ", ".join(node.name for node in graph)
        raise NotFound(f"Task {task} does not exist: the steps of the flow are {steps}.")
    frontier = Frontier(graph, nobody(store))
    known = recover(frontier, Past(store))
    left = TaskSet(planned.spec.tasks for planned in known.left)
    if name not in left and name not in known.done:
        there = [str(each) for some in (known.done, left) for each in some.ranges() if each.step == name.step]
        node = graph[name.step]
        before = [str(each) for each in left.ranges() if node.type == "join" and each.step in node.in_nodes]
        if not there and before:
            raise NotFound(
                f"Task {task} has no inputs yet: {_listed(before)} did not succeed. Debug {before[0]} first."
            )
        why = f"there is {_listed(there)}" if there else "the run never came so far"
        raise NotFound(f"Task {task} does not exist: {why}.")
    spec = frontier.spec(name)
    missing = [str(parent) for parent in spec.parents if parent in left]
    if missing:
        raise NotFound(
            f"Task {task} has no inputs yet: {_listed(missing)} did not succeed. Debug {missing[0]} first."
        )
    return spec


def _listed(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
