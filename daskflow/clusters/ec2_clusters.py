"""Clusters as EC2 knows them by the tags of their machines: found by anybody with the account's credentials, and ended."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskflow.clusters import ec2_account, ec2_boot, ec2_groups
from daskflow.clusters.ec2_account import MARK, STAYING, Refused, tags_of
from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daskflow.clusters.ec2_account import Account

SCHEDULER, WORKER = "scheduler", "worker"


@dataclass(frozen=True)
class Cluster:
    """A cluster as EC2 knows it.

    Attributes
    ----------
    id, name, owner, created
        As its tags say; ``name`` is the profile's.
    shared
        Whether it outlives the command that started it.
    scheduler
        Its machine as EC2 describes it, None if it is gone.
    workers
        The workers' machines.
    group
        Its security group, None if there is none.
    """

    id: str
    name: str
    owner: str
    created: str
    shared: bool
    scheduler: dict[str, Any] | None
    workers: tuple[dict[str, Any], ...]
    group: str | None

    @property
    def machines(self) -> list[str]:
        """The ids of all its machines."""
        return [each["InstanceId"] for each in (*([self.scheduler] if self.scheduler else ()), *self.workers)]

    def described(self) -> dict[str, Any]:
        """For a program."""
        scheduler = self.scheduler["InstanceId"] if self.scheduler else None
        workers = [each["InstanceId"] for each in self.workers]
        about = {"name": self.name, "id": self.id, "owner": self.owner, "created": self.created}
        return about | {"shared": self.shared, "scheduler": scheduler, "workers": workers}

    def host(self) -> str:
        """By which address we reach the scheduler."""
        if self.scheduler is None:
            raise ClusterError(f"The cluster '{self.name}' of {self.owner} has no scheduler any more.")
        return str(self.scheduler.get("PublicIpAddress") or self.scheduler["PrivateIpAddress"])

    def credentials(self, account: Account) -> ec2_boot.Credentials:
        """How to speak with it, which who may read its machines' user data may know."""
        self.host()
        assert self.scheduler is not None
        answer = account.call(
            "describe_instance_attribute", InstanceId=self.scheduler["InstanceId"], Attribute="userData"
        )
        script = base64.b64decode(answer["UserData"].get("Value", "")).decode(errors="replace")
        return ec2_boot.credentials_in(script)

    def end(self, account: Account) -> None:
        """End its machines, and remove its security group. Raises :class:`ClusterError`."""
        ec2_account.terminate(account, self.machines)
        for group in ec2_groups.groups_of(account, self.id):
            ec2_groups.remove_group(account, group["GroupId"])


def clusters(account: Account, **tags: str) -> list[Cluster]:
    """The clusters that have a machine with these tags, the oldest first."""
    by_id: dict[str, list[dict[str, Any]]] = {}
    for machine in account.instances(states=STAYING, **tags):
        by_id.setdefault(tags_of(machine)[MARK], []).append(machine)
    found = [_cluster(machines) for machines in by_id.values()]
    return sorted(found, key=lambda cluster: (cluster.created, cluster.id))


def _cluster(machines: Sequence[dict[str, Any]]) -> Cluster:
    scheduler, workers = None, []
    for each in machines:
        if tags_of(each).get(f"{MARK}:role") == SCHEDULER:
            scheduler = each
        else:
            workers.append(each)
    tags = tags_of(scheduler or workers[0])
    interfaces = (scheduler or workers[0]).get("NetworkInterfaces") or ()
    groups = [group for interface in interfaces for group in interface.get("Groups", ())]
    return Cluster(
        id=tags[MARK],
        name=tags.get(f"{MARK}:cluster", ""),
        owner=tags.get(f"{MARK}:owner", ""),
        created=tags.get(f"{MARK}:created", ""),
        shared=tags.get(f"{MARK}:shared") == "yes",
        scheduler=scheduler,
        workers=tuple(workers),
        group=next((each["GroupId"] for each in groups), None),
    )


def admit(account: Account, cluster: Cluster, block: str) -> None:
    """Let an address reach the scheduler of a cluster whose security group is ours."""
    for group in ec2_groups.groups_of(account, cluster.id):
        try:
            account.call(
                "authorize_security_group_ingress",
                GroupId=group["GroupId"],
                IpPermissions=[ec2_groups.to_scheduler([block])],
            )
        except Refused as error:
            if error.code != "InvalidPermission.Duplicate":
                raise


def console_output(account: Account, machine: str) -> str:
    """What a machine wrote to its console, as far as EC2 has it."""
    answer = account.call("get_console_output", InstanceId=machine, Latest=True)
    return str(answer.get("Output") or "")
