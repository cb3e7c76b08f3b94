"""Whether a profile fits the account it is for, found out without starting anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daskflow.clusters import ec2_account, ec2_groups, ec2_shared
from daskflow.clusters.ec2_account import Refused
from daskflow.clusters.ec2_fleet import SCHEDULER, WORKER, Fleet
from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from daskflow.clusters.ec2_account import Account
    from daskflow.clusters.profiles import Ec2Profile

QUOTAS = {False: "L-1216C47A", True: "L-34B43A08"}
"""How many virtual CPUs of the usual types may run on demand, and as spot instances."""
USUAL = tuple("acdhimrtz")
"""The families whose types these are."""


def findings(account: Account, profile: Ec2Profile, owner: str) -> Iterator[tuple[str, str, bool]]:
    """For each thing that is looked at: what it is, what was found in words, and whether it is as it should be."""
    fleet = Fleet(account, profile, owner, ec2_shared.CONFIGURATION)
    yield "region", account.region, True
    looked_up = _found(lambda: _described(fleet))
    yield "image, types and subnet", *looked_up
    if not looked_up[1]:
        return
    yield "addresses", *_found(lambda: _reached_from(fleet))
    yield "security group", *_found(lambda: _group(fleet))
    yield "machines", *_found(lambda: _room(fleet))
    yield "scheduler", *_found(lambda: _launch(fleet, SCHEDULER))
    yield "workers", *_found(lambda: _launch(fleet, WORKER))
    yield "quota", *_found(lambda: _quota(fleet))


def _found(look: Callable[[], str]) -> tuple[str, bool]:
    try:
        return look(), True
    except ClusterError as error:
        return error.message, False


def _described(fleet: Fleet) -> str:
    fleet.look_up()
    scheduler, worker = fleet.kinds
    where = fleet.place
    return (
        f"{scheduler.type} ({scheduler.ami}) and {worker.type} ({worker.ami}, {worker.threads} threads"
        f"{', GPUs' if worker.gpu else ''}) in {where.subnet} of {where.vpc}"
    )


def _reached_from(fleet: Fleet) -> str:
    allowed = ec2_account.allowed(fleet.profile, fleet.place)
    return f"the scheduler is open to {', '.join(allowed) or 'nobody'}"


def _group(fleet: Fleet) -> str:
    if fleet.profile.security_group:
        ec2_groups.check_group(fleet.account, fleet.profile, fleet.place)
        return fleet.profile.security_group
    fleet.may_make_group()
    return "one can be made"


def _room(fleet: Fleet) -> str:
    most = fleet.profile.max_machines
    fleet.see_that_there_is_room(1 + max(fleet.profile.min_workers, 1), "A scheduler and its first workers")
    return f"{most - fleet.room()} of {most} are there"


def _launch(fleet: Fleet, role: str) -> str:
    fleet.may_launch(role)
    return "can be started"


def _quota(fleet: Fleet) -> str:
    """Compare what the profile may take with what the account may have. What runs already is not counted."""
    profile = fleet.profile
    scheduler, worker = fleet.kinds
    needed = {False: 0, True: 0}
    if scheduler.type.startswith(USUAL):
        needed[False] += scheduler.threads
    if worker.type.startswith(USUAL):
        needed[profile.spot] += worker.threads * profile.max_workers
    told = []
    for spot, threads in needed.items():
        if not threads:
            continue
        try:
            answer = fleet.account.call(
                "get_service_quota", "service-quotas", ServiceCode="ec2", QuotaCode=QUOTAS[spot]
            )
        except Refused as error:
            return f"not known: {error.message}"
        most = answer["Quota"]["Value"]
        kind = "spot" if spot else "on demand"
        if threads > most:
            raise ClusterError(
                f"The profile may take {threads} vCPUs {kind}, the account has {most:g} ({QUOTAS[spot]})."
            )
        told.append(f"{threads} of {most:g} vCPUs {kind}")
    return ", ".join(told) or "of these types none is known"
