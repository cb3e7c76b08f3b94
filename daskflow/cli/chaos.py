"""``daskflow chaos``: see whether a flow can be finished whatever dies."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daskflow.chaos.cluster import KillableCluster
from daskflow.chaos.rounds import KINDS, Round, Rounds
from daskflow.store import faults
from daskflow.task import trace

if TYPE_CHECKING:
    from collections.abc import Sequence


def _kinds(_ctx: click.Context, _param: click.Parameter, value: str) -> list[str]:
    kinds = [kind.strip() for kind in value.split(",") if kind.strip()]
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise click.BadParameter(
            f"{', '.join(unknown) or 'nothing'} can't be killed; {', '.join(KINDS)} can."
        )
    return kinds


def _rate(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    try:
        rate = float(value.removesuffix("%")) / 100
    except ValueError:
        rate = -1.0
    if not 0 <= rate < 1:
        raise click.BadParameter(f"'{value}' is no percentage such as 5%.")
    return rate


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("flow", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FLOW.py")
@click.argument("arguments", nargs=-1, metavar="[PARAMETERS]")
@click.option(
    "--kill", "kinds", default=",".join(KINDS), show_default=True, callback=_kinds, help="What to kill."
)
@click.option(
    "--store-errors", default="0%", callback=_rate, help="How many of the store's operations fail at first."
)
@click.option("--runs", type=click.IntRange(min=1), default=10, show_default=True, help="How many runs.")
@click.option(
    "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Workers of the cluster."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws what is killed and when.")
@click.option(
    "--datastore",
    metavar="DIR|s3://BUCKET/PREFIX",
    help="Below this the store is made, and kept, not in a temporary folder.",
)
@click.option("--keep", is_flag=True, help="Keep the store and the logs, and say where they are.")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
def chaos(  # noqa: PLR0913, PLR0917 - one for each option
    flow: Path,
    arguments: tuple[str, ...],
    kinds: list[str],
    store_errors: float,
    runs: int,
    workers: int,
    seed: int,
    datastore: str | None,
    keep: bool,
    as_json: bool,
) -> int:
    """Run FLOW.py again and again while things are killed, let each run go on until it succeeds, and compare.

    Scheduler and workers are processes of their own, on loopback. The flow must give the same results each time. Exit
    status 1 if a promise was broken.
    """
    folder = Path(tempfile.mkdtemp(prefix="daskflow-chaos-"))
    store = _below(datastore, folder.name) if datastore else str(folder / "store")
    variables = {trace.VARIABLE: str(folder / "trace.jsonl")}
    if store_errors:
        variables[faults.VARIABLE] = f"{store_errors}:{seed}"
    found: list[Round] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up, as after Ctrl-C
    try:
        with KillableCluster(folder, workers, variables) as cluster:
            rounds = Rounds(flow.absolute(), arguments, store, cluster, kinds, seed)
            click.echo("Two runs undisturbed, to compare with ...", err=True)
            for _ in range(2):  # the first is slower: the cluster still comes up
                calm = rounds.undisturbed()
                if not calm.finished:
                    click.echo(calm.last_lines, err=True)
                    raise click.ClickException("The flow does not succeed undisturbed.")
            if calm.differing:
                raise click.ClickException(
                    f"Undisturbed the flow gives other results each time, so none can be compared: {calm.differing[0]}."
                )
            for number in range(1, runs + 1):
                found.append(rounds.disturbed())
                click.echo(f"{number}/{runs}: {_told(found[-1])}", err=True)
    finally:
        if datastore:
            click.echo(f"Store: {store}", err=True)
        if keep:
            click.echo(f"{'Logs' if datastore else 'Store and logs'}: {folder}", err=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    _report(found, as_json)
    return 0 if all(each.ok for each in found) else 1


def _below(datastore: str, name: str) -> str:
    """The URL of a store of that name in a folder or below a prefix."""
    place, question, options = datastore.partition("?") if "://" in datastore else (datastore, "", "")
    return f"{place.rstrip('/')}/{name}{question}{options}"


def _told(found: Round) -> str:
    how = "finished" if found.finished else f"NOT finished:\n{found.last_lines}\n"
    return (
        f"killed {', '.join(found.kills) or 'nothing'}; {found.drivers} drivers; {found.seconds:.1f} s; {how}"
    )


def _report(found: Sequence[Round], as_json: bool) -> None:
    counts: dict[str, Any] = {
        "runs": len(found),
        "kills": sum(len(each.kills) for each in found),
        "runs with other results": sum(bool(each.differing) for each in found),
        "bodies started after a commit": sum(len(each.late_starts) for each in found),
        "commits duplicated": sum(len(each.double_commits) for each in found),
        "runs that could not be finished": sum(not each.finished for each in found),
    }
    if as_json:
        click.echo(json.dumps(counts | {"rounds": [dataclasses.asdict(each) for each in found]}, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", "found", "must be")
    for place, (name, count) in enumerate(counts.items()):
        table.add_row(
            name, str(count), "" if place < 2 else "0", style="bold red" if place >= 2 and count else ""
        )
    Console().print(table)
    for each in found:
        for what in (*each.differing, *each.late_starts, *each.double_commits):
            click.echo(f"run {each.run}: {what}")
