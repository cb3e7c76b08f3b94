"""What ``run``, ``resume`` and ``continue`` have in common: a run is there, now it is driven to its end."""

from __future__ import annotations

import contextlib
import gc
import os
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from daskflow._collector import collector_off
from daskflow.cli.ending import tell_end, tell_lost, what_to_do
from daskflow.cli.entry import end_in_order, was_interrupted
from daskflow.cli.where import INLINE, LOCAL, cluster_of, folder_of, is_watched, pins_of, purpose_of, tell
from daskflow.errors import ClusterError, RunHeld, StoreError
from daskflow.flow.flow_decorator import RunEnd, decorators_of
from daskflow.flow.parameters import parameters_of
from daskflow.store import retries
from daskflow.store.sessions import open_session
from daskflow.task.execute import run_store
from daskflow.task.launchers import LAUNCHERS, interpreter
from daskflow.task.spec import RunContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from daskflow.cli.driving_options import Options
    from daskflow.cli.entry import Invocation
    from daskflow.client.indexer import Indexer
    from daskflow.dashboard.feed import Feed
    from daskflow.engine.console import Console
    from daskflow.engine.executor import Executor
    from daskflow.engine.frontier import Frontier, Planned
    from daskflow.engine.listener import Listener
    from daskflow.flow.graph import Graph
    from daskflow.flow.spec import FlowSpec
    from daskflow.store.runs import RunStore
    from daskflow.store.sessions import Session
    from daskflow.task.code import Code


_ends_with_this_process: list[contextlib.ExitStack] = []
"""What is held open until the process ends, which is about to happen: to close a cluster with a long queue takes long."""


@dataclass(frozen=True)
class Begun:
    """A run that is there and waits for its driver.

    Attributes
    ----------
    snapshot
        The driver session whose code it runs.
    session
        What the session's record says beside who drives.
    prepare
        Called once this driver holds the run and before anything runs.
    ready
        What is ready, from a new frontier; None for its first region.
    begins
        How the driver's first line says what it does.
    """

    store: RunStore
    graph: Graph
    code: Code
    decorators: tuple[str, ...] = ()
    snapshot: int = 0
    began: float = field(default_factory=time.monotonic)
    session: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[], None] = lambda: None
    ready: Callable[[Frontier], Sequence[Planned]] | None = None
    begins: str = "starts"


def drive(invocation: Invocation, options: Options, begun: Begun) -> int:
    """Drive a run to its end; returns the exit status.

    Raises :class:`RunHeld` if another driver has it.
    """
    store, settings = begun.store, invocation.settings
    user = settings.username()
    run = RunContext(
        flow=store.flow,
        run=store.run,
        store=store.storage.url,
        token=secrets.token_hex(6),
        snapshot=begun.snapshot,
        decorators=begun.decorators,
        cwd=os.getcwd(),
        max_log_bytes=int(options.max_log_size * 1e6),
        launcher=settings.launcher,
        max_num_splits=options.max_num_splits,
        watched=is_watched(invocation, options),
        folder=folder_of(invocation, options, begun.code),
        pins=pins_of(options),
        facts={
            "username": user,
            "namespace": options.namespace or settings.namespace(),
            "origin_run_id": None if store.origin is None else store.origin.store.run,
            "parameter_names": sorted(p.variable for p in parameters_of(invocation.flow_class)),
            "tags": list(options.tags),
            "tempdir": settings.tempdir,
        },
    )
    if cluster_of(invocation, options) == LOCAL:
        LAUNCHERS.start_by_fork(
            run, invocation.flow_class, begun.code
        )  # before this process starts any thread
    try:
        session = open_session(store, {"user": user} | begun.session, tell)
    except BaseException:
        LAUNCHERS.close(run)
        raise
    ended: dict[str, str] = {}
    try:
        session.start_beating()
        with _ended(session, run, _indexer(run), ended):
            begun.prepare()
            invocation.banner()
            _drive(invocation, options, begun, run, session, ended)
    except RunHeld:  # the run goes on elsewhere
        raise
    except BaseException:
        _run_finished(invocation.flow_class, run, successful=ended.get("status") == "successful")
        raise
    _run_finished(invocation.flow_class, run, successful=ended.get("status") == "successful")
    return 0 if ended.get("status") == "successful" else 1


def _run_finished(flow_class: type[FlowSpec], run: RunContext, *, successful: bool) -> None:
    """Call the flow's decorators. Their failures are told and change nothing."""
    end = RunEnd(flow=run.flow, run=run.run, store=run.store, snapshot=run.snapshot, successful=successful)
    for decorator in decorators_of(flow_class):
        try:
            decorator.run_finished(flow_class, end)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - anybody can write one
            click.echo(f"@{decorator.name}: {error}", err=True)


@contextlib.contextmanager
def _ended(
    session: Session, run: RunContext, indexer: Indexer | None, ended: dict[str, str]
) -> Iterator[None]:
    """End the session, whatever happens, with what was put into the dict, else with the error.

    What goes wrong after the run was over, while its cluster ends, changes nothing of how it went.
    """
    try:
        yield
    except BaseException as error:
        if not ended:
            ended |= _ended_by(error)
        if isinstance(error, RunHeld):
            indexer = None  # it is for who drives the run now
        raise
    finally:
        LAUNCHERS.close(run)
        try:
            session.end(ended)
        except StoreError as error:  # a full disk must not hide how the run went
            click.echo(f"{error.headline}: {error.message}", err=True)
        else:
            _write_index(indexer)


def _indexer(run: RunContext) -> Indexer | None:
    """What collects the rows of the run's tasks as they are committed in this process; None if reading them is cheap."""
    store = run_store(run.store, run.flow, run.run, run.token)
    if not store.storage.remote:
        return None
    from daskflow.client.indexer import Indexer

    indexer = Indexer(store)
    store.when_committed = indexer.add
    return indexer


def _write_index(indexer: Indexer | None) -> None:
    """Write the indices of the steps; a failure is told and changes nothing."""
    if indexer is None:
        return
    try:
        indexer.write()
    except Exception as error:  # noqa: BLE001 - it must not change how the run went
        why = getattr(error, "message", None) or repr(error)
        click.echo(f"The index of the run was not written; reading it takes longer. {why}", err=True)


def _ended_by(error: BaseException) -> dict[str, str]:
    """How a driver session ended that could not drive its run to an end."""
    if was_interrupted(error):
        return {"status": "interrupted", "reason": "The driver was told to stop."}
    return {"status": "failed", "reason": getattr(error, "message", None) or f"The driver failed: {error!r}"}


def _drive(
    invocation: Invocation,
    options: Options,
    begun: Begun,
    run: RunContext,
    session: Session,
    result: dict[str, str],
) -> None:
    """Put the status of the run into ``result``, and why it failed if it did, and end its cluster."""
    from daskflow.engine.console import Console, display_for
    from daskflow.engine.frontier import Frontier
    from daskflow.engine.run import Driver, Ledger, Limits

    end_in_order()
    frontier = Frontier(begun.graph, run)
    ready = frontier.start() if begun.ready is None else begun.ready(frontier)
    console = Console(run.run, display_for())
    retries.tell = console.notice
    cluster = cluster_of(invocation, options)
    workers = options.max_workers or invocation.settings.max_workers
    in_flight = None if cluster in (LOCAL, INLINE) else workers
    chunk = 1 if options.isolate or cluster == INLINE else options.chunk
    limits = Limits(options.max_num_splits, in_flight, options.grace, chunk)
    opened = contextlib.ExitStack()
    try:
        with collector_off():
            executor, feed = _executor(opened, invocation, options, begun, run, console)
            gc.freeze()  # what is loaded by now stays, and to go through it once takes 30 ms
        store = begun.store
        ledger = Ledger(session.still_ours, store.extend_plan, store.plan_of_others, hurry=retries.hurry)
        driver = Driver(executor, frontier, _listener(console, feed), limits, ledger)
        session.when_replaced(driver.replaced)
        with _shown(feed, frontier) as ended:
            try:
                with executor.hearing():
                    outcome = driver.run(ready)
            except ClusterError as error:  # the scheduler is lost
                tell_lost(console, store, error)
                result |= {"status": "failed", "reason": error.message}
                return
            if driver.held_by_another:
                raise RunHeld(driver.held_by_another)
            seconds = time.monotonic() - begun.began
            ended |= {
                "status": outcome.status,
                "reason": tell_end(console, store, frontier, outcome, seconds),
            }
            if outcome.status != "successful":
                ended["commands"] = [command for command, _ in what_to_do(store, outcome.failures[:1])]
            result |= {"status": outcome.status, "reason": ended["reason"]}
    finally:
        console.close()
        if cluster == LOCAL:
            _ends_with_this_process.append(opened)
        else:
            opened.close()


@contextlib.contextmanager
def _shown(feed: Feed | None, frontier: Frontier) -> Iterator[dict[str, Any]]:
    """Let the dashboard show the run, until its end: what is put into the dict, or the error."""
    ended: dict[str, Any] = {}
    if feed is None:
        yield ended
        return
    feed.begin({"status": "running"}, frontier.committed())
    try:
        yield ended
    except RunHeld as error:  # the run goes on elsewhere
        ended |= {"status": "lost", "reason": error.message}
        raise
    except BaseException as error:
        ended |= _ended_by(error)
        raise
    finally:
        feed.end({"status": "failed", "finished": time.time()} | ended)


def _executor(
    opened: contextlib.ExitStack,
    invocation: Invocation,
    options: Options,
    begun: Begun,
    run: RunContext,
    console: Console,
) -> tuple[Executor, Feed | None]:
    """Where the tasks run, and what tells its dashboard of them; what has to be left in the end goes into ``opened``."""
    cluster = cluster_of(invocation, options)
    if cluster == INLINE:
        from daskflow.engine.inline import InlineExecutor

        console.say(f"Run {run.flow}/{run.run} {begun.begins}, in this process.")
        return InlineExecutor(invocation.flow_class, console), None
    from daskflow.clusters import open_cluster
    from daskflow.engine import worker
    from daskflow.engine.on_dask import DaskExecutor, make_environments, on_all_workers
    from daskflow.engine.regions import needs

    slots = options.max_workers or invocation.settings.max_workers
    purpose = purpose_of(invocation, run.store, console.notice)
    client = opened.enter_context(open_cluster(cluster, slots, options.cluster_options, purpose))
    if not client.scheduler.address.startswith("inproc://"):
        from daskflow.clusters import fit

        fit.check(client, run.store, begun.store.layout.run_record, console.notice)
        if options.requirements is None:
            on_all_workers(client, worker.prepare_run, run)
        else:
            make_environments(client, run, options.requirements.file, console.notice)
    else:
        interpreter(run, console.notice)  # made now, if the class of the cluster has its workers here
    demands = {node.name: demand for node in begun.graph if (demand := needs(node.policy))}
    if demands:
        from daskflow.clusters import resources

        resources.provide(client)
        resources.check(client, demands)
    feed = None
    begins = f"Run {run.flow}/{run.run} {begun.begins}."
    if is_watched(invocation, options):
        from daskflow.cli.watched import feed_of

        feed, where = feed_of(client, begun.store, run.token, console)
        begins += f" Dashboard: {where}" if where else ""
    console.say(begins)
    return DaskExecutor(client, run, _listener(console, feed), counted=bool(demands)), feed


def _listener(console: Console, feed: Feed | None) -> Listener:
    """Who is told what happens."""
    if feed is None:
        return console
    from daskflow.engine.listener import Listeners

    return Listeners(console, feed)
