"""Security groups: how open one of the user's own is; those that were made for clusters, by their tags, and their removal."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from daskflow.clusters import ec2_account
from daskflow.clusters.ec2_account import GONE_SECONDS, MARK, PORT, STAYING, Refused, as_tag, growing, tags_of
from daskflow.clusters.openness import parts_of_the_world
from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daskflow.clusters.ec2_account import Account, Place
    from daskflow.clusters.profiles import Ec2Profile

MOST_NAMED = 4
LEFT_ALONE = timedelta(hours=1)
"""A security group without machines that is younger may be that of a cluster which somebody is just starting."""


def check_group(account: Account, profile: Ec2Profile, where: Place) -> None:
    """See that the profile's security group is there and no more open than the profile says in so many words.

    Raises :class:`ClusterError` if not, or if that can't be known.
    """
    group = _described(account, profile)
    if group["VpcId"] != where.vpc:
        raise ClusterError(
            f"Profile '{profile.name}': the security group {profile.security_group} is of {group['VpcId']}, the subnet of {where.vpc}."
        )
    rules = [(_ports(rule), _blocks(account, profile, rule)) for rule in group["IpPermissions"]]
    for some in (*([rule] for rule in rules), rules):  # each alone, and all together
        for everybody, blocks in parts_of_the_world(block for _, let_in in some for block in let_in).items():
            if everybody not in (profile.allow or ()):
                raise ClusterError(_too_open(profile, everybody, blocks, [ports for ports, _ in some]))


def _described(account: Account, profile: Ec2Profile) -> Mapping[str, Any]:
    try:
        [group] = account.call("describe_security_groups", GroupIds=[profile.security_group])[
            "SecurityGroups"
        ]
    except Refused as error:
        if not error.code.startswith("InvalidGroup"):
            raise
        raise ClusterError(
            f"Profile '{profile.name}': there is no security group {profile.security_group} in {account.region}."
        ) from error
    return group  # type: ignore[no-any-return] # botocore has no types


def _blocks(account: Account, profile: Ec2Profile, rule: Mapping[str, Any]) -> list[str]:
    """The blocks of addresses that a rule lets in."""
    found = [each["CidrIp"] for each in rule["IpRanges"]]
    found += [each["CidrIpv6"] for each in rule.get("Ipv6Ranges", ())]
    for each in rule.get("PrefixListIds", ()):
        try:
            entries = account.pages(
                "get_managed_prefix_list_entries", "Entries", PrefixListId=each["PrefixListId"]
            )
        except Refused as error:
            raise ClusterError(
                f"Profile '{profile.name}': whom the security group {profile.security_group} lets in by its prefix list "
                f"{each['PrefixListId']} is not known. {error.message}"
            ) from error
        found += [entry["Cidr"] for entry in entries]
    return found


def _too_open(profile: Ec2Profile, everybody: str, blocks: Sequence[str], ports: Sequence[str]) -> str:
    who = "everybody" if everybody in blocks else "a large part of the internet"
    named = ", ".join(blocks[:MOST_NAMED])
    more = f" and {len(blocks) - MOST_NAMED} more" if len(blocks) > MOST_NAMED else ""
    return (
        f"Profile '{profile.name}': the security group {profile.security_group} lets {who} in ({named}{more}, "
        f'{", ".join(dict.fromkeys(ports))}). Close it, or say allow = "{everybody}" if that is what you want.'
    )


def _ports(rule: Mapping[str, Any]) -> str:
    return f"port {rule['FromPort']} to {rule['ToPort']}" if "FromPort" in rule else "all ports"


def groups_of(account: Account, id: str = "", **tags: str) -> list[dict[str, Any]]:  # noqa: A002 - that is what it is
    """The security groups that have daskflow's mark, of one cluster if ``id`` says which, and these tags."""
    return account.pages("describe_security_groups", "SecurityGroups", Filters=ec2_account.tagged(id, **tags))


def to_scheduler(blocks: Sequence[str]) -> dict[str, Any]:
    """A rule of a security group by which these addresses reach the scheduler's port."""
    rule: dict[str, Any] = {"IpProtocol": "tcp", "FromPort": PORT, "ToPort": PORT}
    for block in blocks:
        which, key = ("Ipv6Ranges", "CidrIpv6") if ":" in block else ("IpRanges", "CidrIp")
        rule.setdefault(which, []).append({key: block, "Description": "who uses it"})
    return rule


def remove_group(account: Account, group: str) -> None:
    """Remove a security group, as soon as the machines that were in it let go."""
    deadline = time.monotonic() + GONE_SECONDS
    for pause in growing(0.5, 5.0):
        try:
            account.call("delete_security_group", GroupId=group)
        except Refused as error:
            if error.code.startswith("InvalidGroup"):
                return
            if error.code != "DependencyViolation" or time.monotonic() > deadline:
                raise
            time.sleep(pause)
        else:
            return


def remove_abandoned_groups(account: Account) -> list[str]:
    """Remove the security groups of clusters that have no machine, as after a driver was killed; returns them."""
    groups = groups_of(account)
    in_use = {tags_of(each)[MARK] for each in account.instances()} if groups else set()
    return _remove(
        [each for each in groups if tags_of(each)[MARK] not in in_use and _age(each) > LEFT_ALONE], account
    )


def remove_groups_of(account: Account, owner: str) -> list[str]:
    """Remove the security groups of all clusters of somebody whose machines have ended, or are ending; returns them.

    However young one is: who ends all of his clusters ends those that he is just starting too.
    """
    groups = groups_of(account, owner=as_tag(owner))
    in_use = {tags_of(each)[MARK] for each in account.instances(states=STAYING)} if groups else set()
    return _remove([each for each in groups if tags_of(each)[MARK] not in in_use], account)


def _remove(groups: Sequence[Mapping[str, Any]], account: Account) -> list[str]:
    for each in groups:
        remove_group(account, each["GroupId"])
    return [each["GroupId"] for each in groups]


def _age(group: Mapping[str, Any]) -> timedelta:
    return datetime.now(UTC) - datetime.fromisoformat(tags_of(group)[f"{MARK}:created"])
