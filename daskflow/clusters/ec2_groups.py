"""Security groups of the user's own: whether they may be used, and how open they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskflow.clusters.ec2_account import Refused
from daskflow.clusters.openness import parts_of_the_world
from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from daskflow.clusters.ec2_account import Account, Place
    from daskflow.clusters.profiles import Ec2Profile

MOST_NAMED = 4


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
