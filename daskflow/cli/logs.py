"""``logs``: what tasks wrote."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from daskflow.cli.pathspecs import tasks_at

if TYPE_CHECKING:
    from datetime import datetime

    from daskflow.cli.entry import Invocation
    from daskflow.client import Task


class _DefaultsToShow(click.Group):
    """``logs RUN/STEP`` is ``logs show RUN/STEP``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_DefaultsToShow, subcommand_metavar="[show] RUN[/STEP[/TASK]] [OPTIONS]")
def logs() -> None:
    """Show what a task wrote, or all tasks of a step or run; also while they run.

    The options are in: logs show --help
    """


@logs.command()
@click.argument("pathspec", metavar="RUN[/STEP[/TASK]]")
@click.option("--stdout", "streams", flag_value="stdout", help="Only stdout.")
@click.option("--stderr", "streams", flag_value="stderr", help="Only stderr.")
@click.option("--both", "streams", flag_value="both", default="both", help="Both (the default).")
@click.option("--timestamps/--no-timestamps", default=False, help="The time of each line.")
@click.option("--attempt", type=click.IntRange(min=0), help="Which attempt's log, else the latest.")
@click.option("--json", "as_json", is_flag=True, help="For a program.")
@click.pass_obj
def show(
    invocation: Invocation,
    pathspec: str,
    streams: str,
    timestamps: bool,
    attempt: int | None,
    as_json: bool,
) -> None:
    """Show the log of a task, or of all tasks of a step or run; also while they run."""
    wanted = ("stdout", "stderr") if streams == "both" else (streams,)
    tasks = tasks_at(invocation, pathspec)
    for task in tasks:
        lines = _lines(task, wanted, attempt)
        if as_json:
            _print_json(task, lines)
            continue
        label = f"[{'/'.join(task.path_components[1:])}] " if len(tasks) > 1 else ""
        for when, stream, text in lines:
            time = f"{when.isoformat(timespec='milliseconds')} " if timestamps else ""
            # Each stream stays itself, so that a shell can tell them apart.
            click.echo(f"{label}{time}{text}", err=stream == "stderr")


def _lines(task: Task, streams: tuple[str, ...], attempt: int | None) -> list[tuple[datetime, str, Any]]:
    found = [
        (when, stream, text) for stream in streams for when, text in task.loglines(stream, attempt=attempt)
    ]
    return sorted(found, key=lambda line: line[0])


def _print_json(task: Task, lines: list[tuple[datetime, str, Any]]) -> None:
    for when, stream, text in lines:
        facts = {"task": task.pathspec, "time": when.isoformat(), "stream": stream, "text": text}
        click.echo(json.dumps(facts))
