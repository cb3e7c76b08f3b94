"""``run``: check, allocate, start what tasks need, drive to the end, say how it went."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from daskflow import __version__, _current
from daskflow.cli.entry import was_interrupted
from daskflow.cli.options import collect, parameter_options
from daskflow.errors import DataException, StoreError
from daskflow.flow.parameters import ParameterContext, constants_of, parameters_of
from daskflow.pathspec import TaskName
from daskflow.store import records
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.layout import PARAMETERS, new_execution
from daskflow.store.records import TaskRecord, timestamp
from daskflow.store.runs import RunStore, new_run
from daskflow.store.storage import storage_at
from daskflow.task import code as task_code
from daskflow.task.execute import LAUNCHERS
from daskflow.task.spec import RunContext

if TYPE_CHECKING:
    from daskflow.cli.entry import Invocation
    from daskflow.engine.console import Console
    from daskflow.engine.run import Outcome
    from daskflow.flow.graph import Graph
    from daskflow.flow.spec import FlowSpec

SESSION = 0
LOCAL = "local"


@dataclass(frozen=True)
class Options:
    """What the command line says about how to run."""

    cluster: str
    max_workers: int | None
    max_num_splits: int | None
    max_log_size: float
    run_id_file: str | None
    tags: tuple[str, ...] = ()


def run_command(flow_class: type[FlowSpec]) -> click.Command:
    """The command ``run`` with an option for each parameter of this flow."""

    @click.pass_obj
    def run(invocation: Invocation, /, **given: Any) -> int:
        """Run the flow."""
        names = ("cluster", "max_workers", "max_num_splits", "max_log_size", "run_id_file")
        options = Options(**{name: given.pop(name) for name in names})
        return execute(invocation, options, given)

    return click.Command(
        "run",
        callback=run,
        help="Run the flow.",
        params=[
            click.Option(
                ["--cluster"],
                metavar="NAME|ADDRESS",
                help="Where tasks run: 'local', or the address of a scheduler (tcp://host:port).  [default: local]",
            ),
            click.Option(
                ["--max-workers"],
                type=click.IntRange(min=1),
                help="Tasks that may run at once.  [default: one a core]",
            ),
            click.Option(
                ["--max-num-splits"], type=click.IntRange(min=1), help="Widest foreach that is allowed."
            ),
            click.Option(
                ["--max-log-size"],
                type=click.FloatRange(min=0, min_open=True),
                default=10.0,
                show_default=True,
                help="Megabytes that are kept of each log.",
            ),
            click.Option(
                ["--run-id-file"], metavar="FILE", help="Write the run's number there before it starts."
            ),
            *parameter_options(flow_class),
        ],
    )


def execute(invocation: Invocation, options: Options, given: dict[str, Any]) -> int:
    """Run the flow; returns the exit status."""
    began = time.monotonic()
    if options.run_id_file:
        _check_writable(options.run_id_file)
    graph = invocation.graph()
    settings = invocation.settings
    user = settings.username()
    context = ParameterContext(
        flow_name=graph.name, user_name=user, parameter_name="", logger=_log, ds_type="local"
    )
    values = collect(invocation.flow_class, given, context)
    code = task_code.collect()
    store = new_run(
        storage_at(invocation.store), graph.name, lambda run: _run_record(invocation, graph, code, run)
    )
    task_code.save(code, store)
    run = RunContext(
        flow=graph.name,
        run=store.run,
        store=store.storage.url,
        code=code.hash,
        session=SESSION,
        cwd=os.getcwd(),
        max_log_bytes=int(options.max_log_size * 1e6),
        launcher=settings.launcher,
        facts={
            "username": user,
            "namespace": f"user:{user}",
            "parameter_names": sorted(p.variable for p in parameters_of(invocation.flow_class)),
            "tags": list(options.tags),
            "tempdir": settings.tempdir,
        },
    )
    cluster = options.cluster or settings.default_cluster
    if cluster == LOCAL:
        LAUNCHERS.start_by_fork(run, invocation.flow_class, code)  # before this process starts any thread
    _open_session(store, user)
    try:
        _save_parameters(store, invocation.flow_class, graph, values)
        if options.run_id_file:
            _write_run_id(options.run_id_file, store.run)
    except BaseException as error:
        LAUNCHERS.close(run)
        _close_session(store, _ended_by(error))
        raise
    invocation.banner()
    return _drive(store, run, graph, cluster, options, began)


def _drive(
    store: RunStore, run: RunContext, graph: Graph, cluster: str, options: Options, began: float
) -> int:
    from daskflow.clusters import dashboard_link, open_cluster
    from daskflow.engine.console import Console, display_for
    from daskflow.engine.frontier import Frontier
    from daskflow.engine.run import Driver, Limits

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)  # stop in an orderly way, as after Ctrl-C
    console = Console(run.run, display_for())
    opened = contextlib.ExitStack()
    try:
        client = opened.enter_context(open_cluster(cluster, options.max_workers))
        console.say(f"Run {run.flow}/{run.run} starts. Dashboard: {dashboard_link(client)}")
        limits = Limits(options.max_num_splits, None if cluster == LOCAL else options.max_workers)
        driver = Driver(client, Frontier(graph, run), console, run, limits)
        outcome = driver.run()
        ended = {"status": outcome.status, "reason": _reason(outcome)}
        tell_end(console, store, outcome, time.monotonic() - began)
    except BaseException as error:
        ended = _ended_by(error)
        raise
    finally:
        LAUNCHERS.close(run)
        _close_session(store, ended)
        console.close()
        if cluster != LOCAL:  # a cluster in this process ends with it, which is about to happen
            opened.close()
    return 0 if outcome.status == "successful" else 1


def _ended_by(error: BaseException) -> dict[str, str]:
    """How a driver session ended that could not drive its run to an end."""
    if was_interrupted(error):
        return {"status": "interrupted", "reason": "The driver was told to stop."}
    return {"status": "failed", "reason": getattr(error, "message", None) or f"The driver failed: {error!r}"}


def tell_end(console: Console, store: RunStore, outcome: Outcome, seconds: float) -> None:
    """The last lines of a run: how it went, and what to do now."""
    name = f"{store.flow}/{store.run}"
    if outcome.status == "successful":
        console.say(f"Done! {name}: {outcome.done} tasks in {seconds:.1f} s.")
        for table, path in _tables(store):
            console.say(f"  {table}: pandas.read_parquet({path!r})")
        return
    if outcome.reason:
        console.say(outcome.reason)
    for result in outcome.failures:
        kind, words = result.error or ("", "")
        console.say(
            f"Step failure: Step {result.name.step} (task-id {result.name.task_id}) failed: {kind}: {words}"
        )
        console.say(f"  Its log: python {os.path.basename(sys.argv[0])} logs {store.run}/{result.name}")
    console.say(f"{name} {outcome.status} after {seconds:.1f} s; {outcome.done} tasks are committed.")


def _tables(store: RunStore) -> list[tuple[str, str]]:
    """Name and place of each table that the last step set."""
    last = TaskName(store.record()["end_step"], "0")
    record = store.task(last)
    assert record is not None
    own = f"{store.layout.task(last)}/"
    return [
        (name, store.storage.locate(ref.path))
        for name, ref in record.artifacts.items()
        if ref.encoding == "parquet" and ref.path is not None and ref.path.startswith(own)
    ]


def _reason(outcome: Outcome) -> str:
    if outcome.reason or not outcome.failures:
        return outcome.reason
    first = outcome.failures[0]
    return f"Task {first.name} failed: {': '.join(first.error or ())}"


def _run_record(invocation: Invocation, graph: Graph, code: task_code.Code, run: str) -> dict[str, Any]:
    _current.tell({"flow_name": graph.name, "run_id": run})
    return {
        "flow": graph.name,
        "run": run,
        "created": timestamp(),
        "user": invocation.settings.user,
        "command": sys.argv,
        "start_step": graph.start,
        "end_step": graph.end,
        "parameters": sorted(p.variable for p in parameters_of(invocation.flow_class)),
        "tags": [],
        "versions": {"python": platform.python_version(), "daskflow": __version__},
        "code": code.describe(),
    }


def _save_parameters(
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
    )
    now = timestamp()
    artifacts = {}
    for name, value in (constants | values | {"_graph_info": info}).items():
        try:
            artifacts[name] = writer.save(name, value)
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


def _open_session(store: RunStore, user: str) -> None:
    who = {"started": timestamp(), "user": user, "host": socket.gethostname(), "pid": os.getpid()}
    store.storage.create(store.layout.driver(SESSION), records.encode({"format": records.FORMAT} | who))


def _close_session(store: RunStore, ended: dict[str, str]) -> None:
    record = {"format": records.FORMAT, "ended": timestamp()} | ended
    try:
        store.storage.create(store.layout.driver_end(SESSION), records.encode(record))
    except StoreError as error:  # a full disk must not hide how the run went
        click.echo(f"{error.headline}: {error.message}", err=True)


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
