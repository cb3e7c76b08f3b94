"""Whether a profile fits the account it is for, found out without starting anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskflow.clusters import ec2_account, ec2_groups, ec2_shared
from daskflow.clusters.ec2_account import MARK, STAYING, Refused, as_tag, tags_of
from daskflow.clusters.ec2_clusters import SCHEDULER, WORKER
from daskflow.clusters.ec2_fleet import Fleet
from daskflow.clusters.ec2_groups import groups_of, to_scheduler
from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from daskflow.clusters.ec2_account import Account
    from daskflow.clusters.profiles import Ec2Profile

QUOTAS = {False: "L-1216C47A", True: "L-34B43A08"}
"""How many virtual CPUs of the usual types may run on demand, and as spot instances."""
USUAL = tuple("acdhimrtz")
"""The families whose types these are."""
OK, UNKNOWN, FAILED = "ok", "unknown", "failed"
NO_MACHINE, NO_GROUP = "i-00000000000000000", "sg-00000000000000000"
"""Ids that nothing has."""
SOMEBODY = "203.0.113.7/32"
"""An address that is for examples, and nobody's."""


@dataclass(frozen=True)
class Finding:
    """What was found of one thing that is looked at.

    Attributes
    ----------
    what
        The thing.
    state
        ``ok``, ``failed``, or ``unknown`` if we may not look, or it shows only when something was made.
    found
        What was found, in words.
    """

    what: str
    state: str
    found: str


class _NotKnown(ClusterError):
    """It is not known."""


def findings(account: Account, profile: Ec2Profile, owner: str) -> Iterator[Finding]:
    """A finding for each thing that is looked at. Nothing is made or changed."""
    fleet = Fleet(account, profile, owner, ec2_shared.CONFIGURATION)
    yield Finding("region", OK, account.region)
    looked_up = _finding("image, types and subnet", lambda: _described(fleet))
    yield looked_up
    if looked_up.state == FAILED:
        return
    yield _finding("addresses", lambda: _reached_from(fleet))
    yield _finding("security group", lambda: _group(fleet))
    yield _finding("machines", lambda: _room(fleet))
    yield _finding("scheduler", lambda: _launch(fleet, SCHEDULER))
    yield _finding("workers", lambda: _launch(fleet, WORKER))
    yield _finding("to end machines", lambda: _ending(fleet))
    if not profile.security_group:
        yield _finding("to open the security group", lambda: _opening(fleet))
        yield _finding("to remove the security group", lambda: _removing(fleet))
    yield _finding("quota", lambda: _quota(fleet))


def _finding(what: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(what, OK, look())
    except _NotKnown as error:
        return Finding(what, UNKNOWN, error.message)
    except ClusterError as error:
        return Finding(what, FAILED, error.message)


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


def _ending(fleet: Fleet) -> str:
    there = fleet.account.instances(states=STAYING)
    return _allowed(
        fleet,
        {each["InstanceId"]: each for each in there},
        NO_MACHINE,
        lambda machine: fleet.account.ask_only("terminate_instances", InstanceIds=[machine]),
    )


def _opening(fleet: Fleet) -> str:
    rules = [to_scheduler([SOMEBODY])]
    return _allowed(
        fleet,
        _marked_groups(fleet),
        NO_GROUP,
        lambda group: fleet.account.ask_only(
            "authorize_security_group_ingress", GroupId=group, IpPermissions=rules
        ),
    )


def _removing(fleet: Fleet) -> str:
    return _allowed(
        fleet,
        _marked_groups(fleet),
        NO_GROUP,
        lambda group: fleet.account.ask_only("delete_security_group", GroupId=group),
    )


def _marked_groups(fleet: Fleet) -> dict[str, Any]:
    return {each["GroupId"]: each for each in groups_of(fleet.account)}


def _allowed(fleet: Fleet, there: Mapping[str, Any], nothing: str, ask: Callable[[str], None]) -> str:
    """Ask whether something may be done to what has daskflow's mark.

    It is asked of one thing that is ours, else of somebody else's, else of one that is not there. Only of ours a refusal says that we
    may not: a policy may look at the owner or, as that in ``deploy/``, at the mark, and it is documented nowhere whether EC2 misses a
    right first, or the thing.
    """
    own = [name for name, each in there.items() if tags_of(each).get(f"{MARK}:owner") == as_tag(fleet.owner)]
    tried = next(iter([*own, *there, nothing]))
    try:
        ask(tried)
    except Refused as error:
        if own and error.is_denial:
            raise
        raise _NotKnown(
            f"not known: nothing of yours is there to try it on, and of {tried} EC2 says {error.code}"
        ) from error
    return "allowed"


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
            raise _NotKnown(f"not known: {error.message}") from error
        most = answer["Quota"]["Value"]
        kind = "spot" if spot else "on demand"
        if threads > most:
            raise ClusterError(
                f"The profile may take {threads} vCPUs {kind}, the account has {most:g} ({QUOTAS[spot]})."
            )
        told.append(f"{threads} of {most:g} vCPUs {kind}")
    return ", ".join(told) or "of these types none is known"
