"""``daskflow cluster``: clusters in EC2 that stay, and what there is of others."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from daskflow import settings
from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from daskflow.clusters.ec2_account import Account
    from daskflow.clusters.profiles import Ec2Profile

REGION = click.option("--region", metavar="REGION", help="Where to look, if it is not that of a profile.")


@click.group()
def cluster() -> None:
    """Clusters in EC2: NAME is a profile [cluster.NAME] of daskflow.toml, here or in a folder above, or of yours.

    They are found by their tags, in EC2 itself: whoever has the account's credentials sees and ends them.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(
                number, signal.default_int_handler
            )  # what a command has started it ends, as after Ctrl-C


@cluster.command()
@click.argument("name")
@click.option(
    "--json", "as_json", is_flag=True, help="An object a line: what, state (ok, unknown, failed), found."
)
def check(name: str, as_json: bool) -> int:
    """See whether a profile fits the account: permissions, quota, subnet, image. Nothing is started.

    A line that begins with ? tells of something that is not known; the check succeeds if none begins with FAILED.
    """
    from daskflow.clusters import ec2_check

    profile = _profile(name)
    signs = {ec2_check.OK: "ok", ec2_check.UNKNOWN: "?", ec2_check.FAILED: "FAILED"}
    states = set()
    for each in ec2_check.findings(_account(profile), profile, _user()):
        states.add(each.state)
        click.echo(
            json.dumps(dataclasses.asdict(each))
            if as_json
            else f"{signs[each.state]:6}  {each.what}: {each.found}"
        )
    return 1 if ec2_check.FAILED in states else 0


@cluster.command()
@click.argument("name")
@click.option(
    "--workers", type=click.IntRange(min=1), help="How many.  [default: the profile's min_workers, or 1]"
)
def up(name: str, workers: int | None) -> None:
    """Start a cluster that stays, for runs with --cluster NAME of everybody who has the profile."""
    from daskflow.clusters import ec2_shared
    from daskflow.clusters.profiles import duration_text

    profile = _profile(name)
    number = workers or max(profile.min_workers, 1)
    if number > profile.max_workers:
        raise click.UsageError(_too_many(profile))
    ec2_shared.start(_account(profile), profile, _user(), number, click.echo)
    click.echo(
        f"The cluster '{name}' is up. Without a task for {duration_text(profile.idle_timeout)}, and after "
        f"{duration_text(profile.lifetime)} in any case, it ends itself; 'daskflow cluster down {name}' ends it now."
    )


@cluster.command()
@REGION
@click.option("--json", "as_json", is_flag=True, help="For a program: a line of JSON a cluster.")
def ls(region: str | None, as_json: bool) -> None:
    """List all clusters in EC2 that daskflow started, those of single runs included."""
    from daskflow.clusters import ec2_clusters

    accounts = [_in_region(region_name) for region_name in _regions(region)]
    found = [(account.region, each) for account in accounts for each in ec2_clusters.clusters(account)]
    if as_json:
        for where, each in found:
            click.echo(json.dumps(each.described() | {"region": where}))
        return
    rows = [("NAME", "OWNER", "SINCE", "FOR", "MACHINES", "REGION", "ID")]
    for where, each in found:
        what = "everybody" if each.shared else "a run"
        if each.scheduler is None:
            what += ", without scheduler"
        rows.append((each.name, each.owner, each.created, what, str(len(each.machines)), where, each.id))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows if len(rows) > 1 else ():
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    if len(rows) == 1:
        click.echo("There is no cluster.")


@cluster.command()
@click.argument("name")
@click.argument("workers", type=click.IntRange(min=0))
def scale(name: str, workers: int) -> None:
    """Let a cluster that stays have so many WORKERS; idle ones go first."""
    from daskflow.clusters import ec2_shared
    from daskflow.clusters.ec2_fleet import count

    profile = _profile(name)
    if workers > profile.max_workers:
        raise click.UsageError(_too_many(profile))
    before, after = ec2_shared.scale(_account(profile), profile, workers)
    click.echo(f"The cluster '{name}' had {count(before)}, and gets {after}.")


@cluster.command()
@click.argument("name")
@click.option(
    "--console", is_flag=True, help="What its machines wrote while they booted, as far as EC2 has it."
)
def logs(name: str, console: bool) -> None:
    """Show what scheduler and workers of a cluster that stays have written."""
    from daskflow.clusters import ec2_clusters, ec2_shared

    profile = _profile(name)
    account = _account(profile)
    found = ec2_shared.named(account, name)
    if console:
        for machine in found.machines:
            click.echo(f"--- {machine}\n{ec2_clusters.console_output(account, machine)}")
        return
    with ec2_shared.connected(account, profile, found) as client:
        for who, line in ec2_shared.logs(client):
            click.echo(f"[{who}] {line}")


@cluster.command()
@click.argument("name")
def dashboard(name: str) -> None:
    """Let the dashboard of a cluster that stays be seen on this machine, until Ctrl-C."""
    from daskflow.clusters import ec2_shared
    from daskflow.clusters.tunnel import dashboard_of

    profile = _profile(name)
    account = _account(profile)
    found = ec2_shared.named(account, name)
    with ec2_shared.connected(account, profile, found) as client, dashboard_of(client) as link:
        click.echo(f"{link} until Ctrl-C.")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


@cluster.command()
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="All clusters of yours, those of runs included.")
@click.option("--owner", metavar="USER", help="With --all: those of somebody else.")
@REGION
def down(name: str | None, every: bool, owner: str | None, region: str | None) -> None:
    """End the cluster NAME that stays, or --all; remove what is left of others that are gone."""
    from daskflow.clusters import ec2_account, ec2_clusters, ec2_groups

    if (name is None) == (not every):
        raise click.UsageError("Give either the NAME of a cluster, or --all.")
    whose = owner or _user()
    wanted = {"owner": ec2_account.as_tag(whose)} if every else {"cluster": str(name), "shared": "yes"}
    number = 0
    for region_name in _regions(region):
        account = _in_region(region_name)
        for each in ec2_clusters.clusters(account, **wanted):
            each.end(account)
            number += 1
            click.echo(f"The cluster '{each.name}' of {each.owner} has ended: {len(each.machines)} machines.")
        own = ec2_groups.remove_groups_of(account, whose) if every else []
        for group in own + ec2_groups.remove_abandoned_groups(account):
            click.echo(f"The security group {group} was left by a cluster that is gone; it is removed.")
    if not number and not every:
        raise ClusterError(f"No cluster '{name}' is up. 'daskflow cluster ls' shows those that are.")
    if not number:
        click.echo(f"There is no cluster of {whose}.")


def _profile(name: str) -> Ec2Profile:
    from daskflow.clusters import profiles

    profile = profiles.find(name, Path.cwd(), {})
    if profile is None:
        known = profiles.suggestion(name, {*profiles.names(Path.cwd()), profiles.EC2})
        raise ClusterError(f"No daskflow.toml from here upwards has a profile [cluster.{name}]. {known}")
    if not isinstance(profile, profiles.Ec2Profile):
        raise ClusterError(
            f"The profile '{name}' is a class, {profile.path}; these commands are for kind = \"ec2\"."
        )
    return profile


def _too_many(profile: Ec2Profile) -> str:
    return f"The profile '{profile.name}' allows {profile.max_workers} workers (max_workers)."


def _account(profile: Ec2Profile) -> Account:
    return _in_region(profile.region)


def _in_region(region: str | None) -> Account:
    from daskflow.clusters.ec2_account import Account

    return Account(region)


def _regions(region: str | None) -> list[str | None]:
    """Where clusters may be: in the region that is given, else in those of the profiles that can be read, else in that of the SDKs."""
    if region:
        return [region]
    tables = settings.cluster_tables(Path.cwd()).values()
    named = {each.values.get("region") for each in tables if each.values.get("kind") == "ec2"}
    return sorted(named, key=str) or [None]


def _user() -> str:
    return settings.load().username()
