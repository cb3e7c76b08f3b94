"""``run``: check, allocate, start what tasks need, drive to the end."""

from __future__ import annotations

import platform
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from daskflow import __version__, _current
from daskflow.cli.drive import Begun, drive
from daskflow.cli.driving_options import Options, driving_options
from daskflow.cli.options import collect, parameter_options
from daskflow.cli.where import check_cluster, check_requirements, packaged, wanted
from daskflow.errors import DataException
from daskflow.flow.flow_decorator import decorators_of
from daskflow.flow.parameters import ParameterContext, constants_of, parameters_of
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.flows import new_run
from daskflow.store.layout import PARAMETERS, new_execution
from daskflow.store.records import TaskRecord, timestamp
from daskflow.store.storage import storage_at
from daskflow.store.tags import check_tags, system_tags
from daskflow.task import code as task_code

if TYPE_CHECKING:
    from daskflow.cli.entry import Invocation
    from daskflow.flow.graph import Graph
    from daskflow.flow.spec import FlowSpec
    from daskflow.store.runs import RunStore
    from daskflow.task.requirements import Requirements

LARGEST_GRAPH = 1 << 24
"""Bytes of JSON; a reader must not have to load a pickle to know a run's steps."""


def run_command(flow_class: type[FlowSpec]) -> click.Command:
    """The command ``run`` with an option for each parameter of this flow."""

    @click.pass_obj
    def run(invocation: Invocation, /, **given: Any) -> int:
        """Run the flow."""
        options = wanted(Options.taken_from(given))
        return execute(invocation, options, given)

    return click.Command(
        "run",
        callback=run,
        help="Run the flow.",
        params=[*driving_options(), *starting_options(), *parameter_options(flow_class)],
    )


def starting_options() -> list[click.Option]:
    """The options of commands that start a new run."""
    return [
        click.Option(["--tag", "tags"], multiple=True, metavar="TAG", help="Tag the run; may be repeated."),
        click.Option(
            ["--with", "decospecs"],
            multiple=True,
            metavar="DECORATOR",
            help="Put a decorator on every step that lacks it: NAME or NAME:option=value,...; may be repeated.",
        ),
        click.Option(
            ["--run-id-file"], metavar="FILE", help="Write the run's number there before it starts."
        ),
        click.Option(["--namespace"], help="What the client sees in the steps of the run."),
        click.Option(
            ["--requirements"],
            metavar="FILE",
            type=click.Path(exists=True, dir_okay=False),
            callback=_requirements,
            help="What pip is to install for the tasks, once on each machine, in an environment of its own.",
        ),
    ]


def _requirements(_context: click.Context, _option: click.Parameter, path: str | None) -> Requirements | None:
    if path is None:
        return None
    from daskflow.task.requirements import read

    return read(path)


def execute(invocation: Invocation, options: Options, given: dict[str, Any]) -> int:
    """Run the flow; returns the exit status."""
    began = time.monotonic()
    decorators = (*invocation.decospecs, *options.decospecs)
    graph = invocation.graph(decorators)
    user = invocation.settings.username()
    context = ParameterContext(
        flow_name=graph.name, user_name=user, parameter_name="", logger=_log, ds_type="local"
    )
    values = collect(invocation.flow_class, given, context)
    code = task_code.collect()
    store = allocate(invocation, graph, code, options, decorators)

    def prepare() -> None:
        save_parameters(store, invocation.flow_class, graph, values)

    return drive(
        invocation, options, Begun(store, graph, code, decorators=decorators, began=began, prepare=prepare)
    )


def allocate(
    invocation: Invocation,
    graph: Graph,
    code: task_code.Code,
    options: Options,
    decorators: tuple[str, ...],
    origin: dict[str, Any] | None = None,
) -> RunStore:
    """A new run with its record and code; of a resumed one, ``origin`` says what it takes over."""
    tags = check_tags(options.tags)
    check_cluster(invocation, options)
    check_requirements(invocation, options)
    code = packaged(invocation, options, code)
    if options.run_id_file:
        _check_writable(options.run_id_file)
    versions = {"python": platform.python_version(), "daskflow": __version__}

    def record(run: str) -> dict[str, Any]:
        found = {
            "flow": graph.name,
            "run": run,
            "created": timestamp(),
            "user": invocation.settings.user,
            "command": sys.argv,
            "start_step": graph.start,
            "end_step": graph.end,
            "parameters": sorted(p.variable for p in parameters_of(invocation.flow_class)),
            "tags": list(tags),
            "system_tags": system_tags(invocation.settings.username(), versions),
            "versions": versions,
            "decorators": list(decorators),
            "code": code.describe(),
        }
        if options.requirements is not None:
            found["requirements"] = options.requirements.describe()
        return found if origin is None else found | {"origin": origin}

    store = new_run(storage_at(invocation.store), graph.name, record)
    _current.tell({"flow_name": graph.name, "run_id": store.run})
    task_code.save(code, store)
    if options.run_id_file:
        _write_run_id(options.run_id_file, store.run)
    return store


def save_parameters(
    store: RunStore, flow_class: type[FlowSpec], graph: Graph, values: dict[str, Any]
) -> None:
    """Commit the pseudo task from which every task inherits: parameters, constants, the graph."""
    execution = new_execution(0)
    writer = ArtifactWriter(store, PARAMETERS, execution)
    constants = constants_of(flow_class)
    info = graph.info(
        parameters=[
            {"name": p.variable, "type": type(values[p.variable]).__name__} for p in parameters_of(flow_class)
        ],
        constants=[{"name": name, "type": type(value).__name__} for name, value in constants.items()],
        decorators=[{"name": each.name, "options": each.described()} for each in decorators_of(flow_class)],
    )
    now = timestamp()
    artifacts = {}
    for name, value in (constants | values | {"_graph_info": info}).items():
        try:
            artifacts[name] = (
                writer.save(name, value, LARGEST_GRAPH) if value is info else writer.save(name, value)
            )
        except DataException as error:
            raise type(error)(
                f"'{name}' of flow {graph.name} is a value that all tasks share, and can't be stored: {error.message} "
                "Make it in a step, or at the top of the file."
            ) from error
    store.commit(
        TaskRecord(
            flow=store.flow,
            run=store.run,
            step=PARAMETERS.step,
            task=PARAMETERS.task_id,
            attempt=0,
            execution=execution,
            status="ok",
            started=now,
            finished=timestamp(),
            artifacts=artifacts,
        )
    )


def _check_writable(path: str) -> None:
    try:
        with open(path, "a"):
            pass
    except OSError as error:
        raise click.BadParameter(
            f"{path} can't be written: {error.strerror}.", param_hint="'--run-id-file'"
        ) from error


def _write_run_id(path: str, run: str) -> None:
    try:
        with open(path, "w") as file:
            file.write(run)
    except OSError as error:
        raise click.FileError(path, error.strerror) from error


def _log(message: object) -> None:
    click.echo(str(message), err=True)
