"""``tag``: the tags of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from daskflow.client import Flow, Run, default_namespace, namespace
from daskflow.errors import CommandException

if TYPE_CHECKING:
    from collections.abc import Iterable

    from daskflow.cli.entry import Invocation

_RUN = click.option("--run-id", metavar="RUN", required=True, help="Which run.")
_NAMESPACE = click.option(
    "--namespace", "within", metavar="NAME", help="Where the run is, if it is not yours: 'user:ada'."
)


@click.group()
def tag() -> None:
    """Change and list the tags of runs."""


@tag.command()
@_RUN
@_NAMESPACE
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@click.pass_obj
def add(invocation: Invocation, run_id: str, within: str | None, tags: tuple[str, ...]) -> None:
    """Give a run tags."""
    _change(invocation, run_id, within, add=tags)


@tag.command()
@_RUN
@_NAMESPACE
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@click.pass_obj
def remove(invocation: Invocation, run_id: str, within: str | None, tags: tuple[str, ...]) -> None:
    """Take tags from a run: all of them, or none if one is a system tag."""
    _change(invocation, run_id, within, remove=tags)


@tag.command()
@_RUN
@_NAMESPACE
@click.option("--add", "added", multiple=True, metavar="TAG", help="Give it this one; may be repeated.")
@click.option("--remove", "removed", multiple=True, metavar="TAG", help="Take this one; may be repeated.")
@click.pass_obj
def replace(
    invocation: Invocation, run_id: str, within: str | None, added: tuple[str, ...], removed: tuple[str, ...]
) -> None:
    """First take tags from a run, then give it others, as one change."""
    if not (added and removed):
        raise CommandException("Say what to remove and what to add: tag replace --remove OLD --add NEW.")
    _change(invocation, run_id, within, remove=removed, add=added)


@tag.command("list")
@click.option("--run-id", metavar="RUN", help="Only of this run.")
@click.option("--all", "every", is_flag=True, help="Of all runs of the flow (the default).")
@click.option("--my-runs", is_flag=True, help="Of the runs in your namespace.")
@click.option("--hide-system-tags", is_flag=True, help="Only tags that can be changed.")
@click.option("--group-by-tag", is_flag=True, help="For each tag the runs that have it.")
@click.option("--group-by-run", is_flag=True, help="For each run its tags.")
@click.option("--flat", is_flag=True, help="Nothing but the tags, one a line, on stderr.")
@click.pass_obj
def list_tags(  # noqa: PLR0913,PLR0917 - one argument an option, passed by click by name
    invocation: Invocation,
    run_id: str | None,
    every: bool,
    my_runs: bool,
    hide_system_tags: bool,
    group_by_tag: bool,
    group_by_run: bool,
    flat: bool,
) -> None:
    """List the tags of the flow's runs."""
    _only_one({"--run-id": run_id is not None, "--all": every, "--my-runs": my_runs})
    _only_one({"--group-by-tag": group_by_tag, "--group-by-run": group_by_run, "--flat": flat})
    invocation.banner()
    if my_runs:
        default_namespace()  # whatever the flow's file has chosen
    else:
        namespace(None)
    name = invocation.flow_class.__name__
    if run_id is not None:
        runs = [Run(f"{name}/{run_id}", invocation.store)]
    else:
        runs = list(Flow(name, invocation.store))
    groups = [[run] for run in runs] if group_by_run else [runs]
    if flat:
        for each in sorted(_tags(runs, hide_system_tags)):
            click.echo(each, err=True)
    elif group_by_tag:
        _show_by_tag(runs, hide_system_tags, invocation.quiet)
    else:
        for group in groups:
            _show(group, hide_system_tags, invocation.quiet)


def _change(
    invocation: Invocation,
    run_id: str,
    within: str | None,
    *,
    add: tuple[str, ...] = (),
    remove: tuple[str, ...] = (),
) -> None:
    invocation.banner()
    if within is None:
        default_namespace()  # whatever the flow's file has chosen
    else:
        namespace(within)
    run = Run(f"{invocation.flow_class.__name__}/{run_id}", invocation.store)
    run.replace_tags(remove, add)
    _show([run], False, invocation.quiet)


def _only_one(options: dict[str, bool]) -> None:
    given = [name for name, is_given in options.items() if is_given]
    if len(given) > 1:
        raise CommandException(f"{' and '.join(given)} exclude each other; give one of them.")


def _tags(runs: list[Run], hide_system_tags: bool) -> frozenset[str]:
    return frozenset[str]().union(*((run.user_tags if hide_system_tags else run.tags) for run in runs))


def _show(runs: list[Run], hide_system_tags: bool, quiet: bool) -> None:
    """The tags that any of the runs has; if quiet, one line for a program: runs, system tags, user tags."""
    names = [run.pathspec for run in runs]
    user = sorted(_tags(runs, hide_system_tags=True))
    system = [] if hide_system_tags else sorted(frozenset[str]().union(*(run.system_tags for run in runs)))
    if quiet:
        click.echo(" ; ".join(",".join(part) for part in (names, system, user)), err=True)
        return
    click.echo(_listed(names))
    click.echo(f"    tags: {_listed(user)}")
    if not hide_system_tags:
        click.echo(f"    system tags, which are fixed: {_listed(system)}")


def _show_by_tag(runs: list[Run], hide_system_tags: bool, quiet: bool) -> None:
    for each in sorted(_tags(runs, hide_system_tags)):
        names = [run.pathspec for run in runs if each in run.tags]
        if quiet:
            kind = "user" if any(each in run.user_tags for run in runs) else "system"
            click.echo(f"{kind}:{each} ; {','.join(names)}", err=True)
        else:
            click.echo(f"{each}\n    {_listed(names)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
