"""``resume``: a new run from what an old one has. ``continue``: the same run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from daskflow.cli.drive import Begun, drive
from daskflow.cli.driving_options import Options, driving_options
from daskflow.cli.run import allocate, save_parameters, starting_options
from daskflow.cli.where import check_requirements, packaged, wanted
from daskflow.engine.frontier import Frontier
from daskflow.engine.resume import Past, downstream, recover
from daskflow.errors import CommandException
from daskflow.flow.parameters import ParameterContext, parameters_of
from daskflow.store.flows import run_numbers
from daskflow.store.layout import PARAMETERS
from daskflow.store.runs import RunStore
from daskflow.store.sessions import how_it_ended, last_session, snapshot_of
from daskflow.store.storage import storage_at
from daskflow.task import code as task_code
from daskflow.task.spec import RunContext

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daskflow.cli.entry import Invocation
    from daskflow.engine.frontier import Planned
    from daskflow.flow.spec import FlowSpec
    from daskflow.pathspec import TaskName
    from daskflow.store.records import TaskRecord


@click.command(
    "resume",
    help="Start a new run, with the code as it is now, from what an earlier run has. Its tasks that succeeded are taken "
    "over, but for those of STEP and of the steps after it.",
    params=[
        click.Argument(["step"], required=False, metavar="[STEP]"),
        click.Option(
            ["--origin-run-id"], metavar="RUN", help="The run to resume.  [default: your latest of this flow]"
        ),
        *driving_options(),
        *starting_options(),
    ],
)
@click.pass_obj
def resume(invocation: Invocation, /, step: str | None, origin_run_id: str | None, **given: Any) -> int:
    """Take over what is committed, run the rest."""
    options = Options.taken_from(given)
    decorators = (*invocation.decospecs, *options.decospecs)
    graph = invocation.graph(decorators)
    origin = _run(invocation, origin_run_id, "Resume could not find run id *{}*")
    options = wanted(options, origin)
    again = downstream(graph, step) if step is not None else ()
    values = _parameters(invocation, origin)
    taken = Past(origin, without=again)
    before = recover(Frontier(graph, nobody(origin)), taken, most_splits=options.max_num_splits)
    code = task_code.collect()
    takes = {"run": origin.run, "tasks": before.done.to_json()}
    store = allocate(invocation, graph, code, options, decorators, takes)

    def prepare() -> None:
        save_parameters(store, invocation.flow_class, graph, values)
        count = len(before.done)
        taken_over = "1 task is" if count == 1 else f"{count} tasks are"
        click.echo(f"Run {store.flow}/{store.run} resumes {origin.run}: {taken_over} taken over.", err=True)

    begun = Begun(
        store,
        graph,
        code,
        decorators=decorators,
        prepare=prepare,
        ready=lambda frontier: recover(frontier, Past(store), most_splits=options.max_num_splits).left,
    )
    return drive(invocation, options, begun)


@click.command(
    "continue",
    help="Let a run go on that did not succeed, whatever ended it: what is finished is kept, failed tasks get new attempts.",
    params=[
        click.Argument(["run"], required=False, metavar="[RUN]"),
        click.Option(
            ["--new-code"], is_flag=True, help="Go on with the code as it is now, if it was changed."
        ),
        *driving_options(),
    ],
)
@click.pass_obj
def continue_(invocation: Invocation, /, run: str | None, new_code: bool, **given: Any) -> int:
    """Drive a run further."""
    options = Options.taken_from(given)
    store = _run(invocation, run, "There is no run *{}*")
    record = store.record()
    decorators = tuple(record.get("decorators", ()))
    if invocation.decospecs != invocation.settings.default_decospecs:
        raise CommandException(
            f"continue keeps the decorators that run {store.flow}/{store.run} started with; --with is for run and resume."
        )
    graph = invocation.graph(decorators)
    last = last_session(store)
    ended = how_it_ended(store, last) if last is not None else None
    if ended is not None and ended["status"] == "successful":
        raise CommandException(
            f"Run {store.flow}/{store.run} has succeeded: nothing is left to do. Use resume to run some of it again."
        )
    check_parameters(invocation.flow_class, store)
    code = task_code.collect()
    snapshot, session, code = _snapshot(
        store, last, code, new_code, lambda: packaged(invocation, options, code)
    )
    options = wanted(options, store)
    check_requirements(invocation, options)
    if "code" in session:  # refuse before the run is told that it has new code
        recover(Frontier(graph, nobody(store)), Past(store))

    def ready(frontier: Frontier) -> Sequence[Planned]:
        return recover(
            frontier, Past(store), lambda name: _attempts(store, name), options.max_num_splits
        ).left

    def prepare() -> None:
        _begun(store)
        if "code" in session:
            task_code.save(code, store, snapshot)

    begun = Begun(
        store,
        graph,
        code,
        decorators=decorators,
        snapshot=snapshot,
        session=session,
        prepare=prepare,
        ready=ready,
        begins="goes on",
    )
    return drive(invocation, options, begun)


def _run(invocation: Invocation, number: str | None, unknown: str) -> RunStore:
    """The run that is meant: by default the latest of this flow and user. Raises :class:`CommandException`."""
    flow, storage = invocation.flow_class.__name__, storage_at(invocation.store)
    numbers = run_numbers(storage, flow)
    if number is None:
        user = invocation.settings.user
        for found in reversed(numbers):
            store = RunStore(storage, flow, str(found))
            if (
                store.record().get("user") == user and len(store.steps()) > 1
            ):  # one beside the parameters: it had begun
                return store
        raise CommandException(
            f"A previous run id was not found: {user or 'nobody'} has no run of {flow} in {storage.url}."
        )
    number = number.removeprefix(f"{flow}/")
    if number not in map(str, numbers):
        there = ", ".join(map(str, reversed(numbers[-10:]))) or "none"
        raise CommandException(
            f"{unknown.format(number)} of {flow} in {storage.url}. The latest runs there are: {there}."
        )
    return RunStore(storage, flow, number)


def _snapshot(
    store: RunStore,
    last: int | None,
    code: task_code.Code,
    new_code: bool,
    packaged: Callable[[], task_code.Code],
) -> tuple[int, dict[str, Any], task_code.Code]:
    """The session whose code the run goes on with, what the new session's record has to say of it, and that code."""
    snapshot = snapshot_of(store, last)
    then = store.code(snapshot)
    is_same = then["hash"] == code.hash
    if is_same and "package" in then and not new_code:  # it executes what it started with
        return snapshot, {"snapshot": snapshot}, code
    if is_same or new_code:
        code = packaged()
    if is_same and (code.package is None or code.package.hash == then.get("package", {}).get("hash")):
        return snapshot, {"snapshot": snapshot}, code
    if not is_same and not new_code:
        now = code.describe()["files"]
        files = sorted(path for path in {*now, *then["files"]} if now.get(path) != then["files"].get(path))
        raise CommandException(
            f"The code has changed since run {store.flow}/{store.run} last ran: {', '.join(files) or 'another file'}. "
            "Use --new-code to go on with the code as it is now, or resume to do so in a new run."
        )
    number = 0 if last is None else last + 1
    return number, {"snapshot": number, "code": code.describe()}, code


def _begun(store: RunStore) -> TaskRecord:
    """The run's parameters. Raises :class:`CommandException` if its first driver did not come so far."""
    record = store.task(PARAMETERS)
    if record is None:
        raise CommandException(
            f"Run {store.flow}/{store.run} ended before it had begun: start a new one with run."
        )
    return record


def _attempts(store: RunStore, name: TaskName) -> int:
    """How many attempts of a task were made: the number of the next."""
    return max((int(each.partition(".")[0]) + 1 for each in store.executions(name)), default=0)


def _parameters(invocation: Invocation, origin: RunStore) -> dict[str, Any]:
    """The values of the origin's parameters; a parameter that it does not have gets its default."""
    context = ParameterContext(
        flow_name=origin.flow,
        user_name=invocation.settings.username(),
        parameter_name="",
        logger=lambda message: click.echo(str(message), err=True),
        ds_type="local",
    )
    had = _begun(origin).artifacts
    values = {}
    for parameter in parameters_of(invocation.flow_class):
        name = parameter.variable
        if name not in had and parameter.required and parameter.default is None:
            raise CommandException(
                f"Run {origin.flow}/{origin.run} has no value for the parameter '{parameter.name}', which is required: "
                "give it a default, or start a new run."
            )
        values[name] = origin.load(name, had[name]) if name in had else parameter.resolve_default(context)
    return values


def check_parameters(flow_class: type[FlowSpec], store: RunStore) -> None:
    """See that the run has a value for every parameter. Raises :class:`CommandException`."""
    had = _begun(store).artifacts
    for parameter in parameters_of(flow_class):
        if parameter.variable not in had:
            raise CommandException(
                f"Run {store.flow}/{store.run} has no value for the parameter '{parameter.name}', which is new in the code: "
                "a run keeps the parameters it started with. Use resume."
            )


def nobody(store: RunStore) -> RunContext:
    """A run that is looked at and not driven."""
    return RunContext(store.flow, store.run, store.storage.url, "", "", 0, "")
