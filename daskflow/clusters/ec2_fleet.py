"""The machines of one cluster in EC2, from the first to the last: what is started here is ended here.

Every call that makes something tags it in that same call, so whatever is left can be found by anybody with the account's
credentials, and nothing has to be remembered on this machine.
"""

from __future__ import annotations

import contextlib
import math
import re
import secrets
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from daskflow.clusters import ec2_account, ec2_boot
from daskflow.clusters.ec2_account import ALIVE, MARK, PORT, Refused, tags_of
from daskflow.errors import ClusterError
from daskflow.task.certificate import self_signed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from daskflow.clusters.ec2_account import Account, Kind, Place
    from daskflow.clusters.profiles import Ec2Profile

SCHEDULER, WORKER = "scheduler", "worker"
GONE_SECONDS = 300
"""How long machines may take to end, once they were told to."""
CONNECT_SECONDS = 3
LEFT_ALONE = timedelta(hours=1)
"""A security group without machines that is younger may be that of a cluster which is just being started."""


class Fleet:
    """The machines of one cluster. May be used by several threads.

    Parameters
    ----------
    account
        Where they are.
    profile
        What they are.
    owner
        Whose they are.
    configuration
        Dask's, for scheduler and workers.
    """

    def __init__(
        self, account: Account, profile: Ec2Profile, owner: str, configuration: Mapping[str, Any]
    ) -> None:
        valid = timedelta(seconds=profile.lifetime) + timedelta(days=1)
        self.account, self.profile, self.owner = account, profile, owner
        self.id = secrets.token_hex(5)
        self.credentials = ec2_boot.Credentials(*self_signed(valid))
        self._configuration = dict(configuration) | self.credentials.configuration()
        self._kinds: tuple[Kind, Kind] | None = None
        self._place: Place | None = None
        self._group = profile.security_group
        self._started: dict[str, str] = {}
        """Name of each machine that was started and not ended, by its id."""
        self._change = threading.Condition()
        self._starting = 0
        self._ended = False

    def prepare(self, workers: int) -> None:
        """Look up what machines need, see that there may be a scheduler and so many workers, and make their security group.

        Raises :class:`ClusterError`.
        """
        self._kinds = ec2_account.kinds(self.account, self.profile)
        self._place = ec2_account.place(self.account, self.profile)
        room = self.room()
        if room < workers + 1:
            there = self.profile.max_machines - room
            raise ClusterError(
                f"A scheduler and {workers} {'worker' if workers == 1 else 'workers'} are more machines than may be: {self.owner} has "
                f"{there} of profile '{self.profile.name}' in EC2 already, of {self.profile.max_machines} (max_machines). "
                f"They have the tag '{MARK}:cluster' = '{self.profile.name}'."
            )
        if self._group:
            ec2_account.check_group(self.account, self.profile, self._place)
        else:
            with contextlib.suppress(ClusterError):  # what others left must not keep this one from starting
                remove_abandoned_groups(self.account)
            self._make_group(ec2_account.allowed(self.profile, self._place))

    def room(self) -> int:
        """How many more machines there may be, by what EC2 says is there."""
        there = self.account.instances(cluster=self.profile.name, owner=_as_tag(self.owner))
        known = {each["InstanceId"] for each in there}
        with self._change:  # what was started a moment ago is not listed yet
            return self.profile.max_machines - len(known | set(self._started))

    def start_scheduler(self) -> tuple[str, str]:
        """The addresses of a new scheduler's machine, for the other machines and for us, which may take minutes to listen."""
        machine = self._launch(SCHEDULER, SCHEDULER, ec2_boot.scheduler_command(self.profile))
        inner = machine["PrivateIpAddress"]
        return inner, inner if self.profile.private else self._public_address(machine["InstanceId"])

    def start_worker(self, name: str, scheduler: str) -> str:
        """The id of a new worker's machine; it joins the scheduler at this address."""
        assert self._kinds is not None
        command = ec2_boot.worker_command(scheduler, name, self._kinds[1].threads)
        started: str = self._launch(WORKER, name, command)["InstanceId"]
        return started

    def wait_for_scheduler(self, host: str) -> None:
        """Return once something listens there. Raises :class:`ClusterError` if its machine ends, or it takes too long."""
        deadline = time.monotonic() + self.profile.start_timeout
        look, pause = time.monotonic() + CONNECT_SECONDS, CONNECT_SECONDS
        while not _listens(host):
            if self._ended:
                raise ClusterError("The cluster was ended while its scheduler started.")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"The scheduler did not answer at {host}:{PORT} within {self.profile.start_timeout} seconds (start_timeout). Either "
                    f"its machine did not get so far, or the security group or a firewall does not let you in.{self._output(SCHEDULER)}"
                )
            if time.monotonic() > look:
                self._see_that_scheduler_lives()
                pause = min(pause * 2, 15)
                look = time.monotonic() + pause
            time.sleep(0.1)

    def terminate(self, machine: str) -> None:
        """End one machine."""
        self._terminate([machine])

    def end(self) -> None:
        """End all machines and remove the security group; nothing is started from now on. May be called more than once.

        Raises :class:`ClusterError` with what is left, if AWS does not let us.
        """
        with self._change:
            self._ended = True
            self._change.wait_for(lambda: self._starting == 0)
        try:
            self._terminate(self._there())
            self._wait_until_gone()
            if self._group and self._group != self.profile.security_group:
                remove_group(self.account, self._group)
                self._group = None
        except ClusterError as error:
            left = ", ".join(self._started) or "none"
            raise ClusterError(
                f"The cluster could not be ended: {error.message} Machines that may be left: {left}; security group: "
                f"{self._group}, all with the tag '{MARK}' = '{self.id}'. The machines end by themselves once their scheduler was idle for "
                f"{self.profile.idle_timeout} seconds."
            ) from error

    def _launch(self, role: str, name: str, command: Sequence[str]) -> dict[str, Any]:
        assert self._kinds is not None
        assert self._place is not None
        profile = self.profile
        kind = self._kinds[role == WORKER]
        script = ec2_boot.user_data(profile, self._configuration, command, gpu=kind.gpu)
        with self._launching():
            started = self.account.call(
                "run_instances",
                MinCount=1,
                MaxCount=1,
                ImageId=kind.ami,
                InstanceType=kind.type,
                UserData=script,
                ClientToken=secrets.token_hex(16),  # so that a request that is repeated starts one machine
                InstanceInitiatedShutdownBehavior="terminate",
                MetadataOptions={
                    "HttpEndpoint": "enabled",
                    "HttpTokens": "required",
                    "HttpPutResponseHopLimit": 1,
                },
                BlockDeviceMappings=[
                    {
                        "DeviceName": kind.root_device,
                        "Ebs": {
                            "VolumeSize": profile.disk,
                            "VolumeType": "gp3",
                            "Encrypted": True,
                            "DeleteOnTermination": True,
                        },
                    }
                ],
                NetworkInterfaces=[
                    {
                        "DeviceIndex": 0,
                        "SubnetId": self._place.subnet,
                        "Groups": [self._group],
                        "AssociatePublicIpAddress": not profile.private,
                        "DeleteOnTermination": True,
                    }
                ],
                TagSpecifications=self._tags(role, name, ("instance", "volume", "network-interface")),
                **_optional(profile, role),
            )
            machine: dict[str, Any] = started["Instances"][0]
            with self._change:
                self._started[machine["InstanceId"]] = name
        return machine

    @contextlib.contextmanager
    def _launching(self) -> Iterator[None]:
        """While this is open, :meth:`end` waits; once it was called, nothing opens."""
        with self._change:
            if self._ended:
                raise ClusterError("The cluster has ended.")
            self._starting += 1
        try:
            yield
        finally:
            with self._change:
                self._starting -= 1
                self._change.notify_all()

    def _tags(self, role: str, name: str, resources: Sequence[str]) -> list[dict[str, Any]]:
        tags = {
            "Name": f"daskflow-{self.profile.name}-{name}",
            MARK: self.id,
            f"{MARK}:cluster": self.profile.name,
            f"{MARK}:owner": _as_tag(self.owner),
            f"{MARK}:role": role,
            f"{MARK}:created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        return [{"ResourceType": each, "Tags": listed} for each in resources]

    def _make_group(self, allowed: Sequence[str]) -> None:
        """A security group that lets its own machines in, and these addresses to the scheduler's port."""
        assert self._place is not None
        with self._launching():
            self._group = self.account.call(
                "create_security_group",
                GroupName=f"daskflow-{self.profile.name}-{self.id}",
                Description=f"Cluster {self.id} of daskflow; removed with it",
                VpcId=self._place.vpc,
                TagSpecifications=self._tags("group", "group", ("security-group",)),
            )["GroupId"]
        ranges: dict[str, list[dict[str, str]]] = {"IpRanges": [], "Ipv6Ranges": []}
        for block in allowed:
            which, key = ("Ipv6Ranges", "CidrIpv6") if ":" in block else ("IpRanges", "CidrIp")
            ranges[which].append({key: block, "Description": "who started it"})
        among = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": self._group}]}
        to_scheduler = {"IpProtocol": "tcp", "FromPort": PORT, "ToPort": PORT} | {
            which: given for which, given in ranges.items() if given
        }
        self.account.call(
            "authorize_security_group_ingress",
            GroupId=self._group,
            IpPermissions=[among, to_scheduler] if allowed else [among],
        )

    def _public_address(self, machine: str) -> str:
        """The public address of a machine, which it has once it runs."""
        deadline = time.monotonic() + self.profile.start_timeout
        for pause in _growing(1.0, 10.0):
            for each in self._described(("pending", "running")):
                if each["InstanceId"] == machine and each.get("PublicIpAddress"):
                    address: str = each["PublicIpAddress"]
                    return address
            if self._ended or time.monotonic() > deadline:
                break
            time.sleep(pause)
        raise ClusterError(
            f"The scheduler's machine {machine} got no public address; in a private subnet set private = true."
        )

    def _see_that_scheduler_lives(self) -> None:
        if SCHEDULER not in self._roles():
            raise ClusterError(
                f"The scheduler's machine ended while it started: does the image {self.profile.image} exist, can the machine get it, "
                f"and has it Dask?{self._output(SCHEDULER)}"
            )

    def see_that_workers_live(self) -> None:
        """Raises :class:`ClusterError` if no worker's machine is there any more."""
        if WORKER not in self._roles():
            raise ClusterError(
                f"The workers' machines ended before they joined the scheduler: is the image {self.profile.image} made for "
                f"{self.profile.worker_instance_type}, and has it Dask?{self._output(WORKER)}"
            )

    def _roles(self) -> set[str | None]:
        return {tags_of(each).get(f"{MARK}:role") for each in self._described(("pending", "running"))}

    def _output(self, role: str) -> str:
        """The last lines that a machine wrote, to be put after a sentence; empty if they can't be had."""
        for machine, name in self._started.items():
            if (name == SCHEDULER) == (role == SCHEDULER):
                with contextlib.suppress(ClusterError):
                    lines = console_output(self.account, machine).rstrip().splitlines()
                    return "\nIt wrote last:\n" + "\n".join(lines[-15:]) if lines else ""
        return ""

    def _described(self, states: Sequence[str] = ALIVE) -> list[dict[str, Any]]:
        return self.account.instances(states=states, id=self.id)

    def _there(self) -> list[str]:
        """The ids of all machines of this cluster: those that EC2 lists, and those that it may not list yet."""
        every = {
            each["InstanceId"]: each["State"]["Name"] for each in self._described((*ALIVE, "terminated"))
        }
        with self._change:
            unlisted = [machine for machine in self._started if machine not in every]
        return [
            machine for machine, state in every.items() if state not in ("terminated", "shutting-down")
        ] + unlisted

    def _terminate(self, machines: Sequence[str]) -> None:
        terminate(self.account, machines)
        with self._change:
            for each in machines:
                self._started.pop(each, None)

    def _wait_until_gone(self) -> None:
        deadline = time.monotonic() + GONE_SECONDS
        for pause in _growing(0.2, 5.0):
            there = self._described()
            late = [each["InstanceId"] for each in there if each["State"]["Name"] != "shutting-down"]
            if late:  # one that was not listed before
                self._terminate(late)
            if not there:
                return
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{', '.join(each['InstanceId'] for each in there)} did not end in {GONE_SECONDS} seconds."
                )
            time.sleep(pause)


def terminate(account: Account, machines: Sequence[str]) -> None:
    """End machines; those that are gone already are no error."""
    if not machines:
        return
    try:
        account.call("terminate_instances", InstanceIds=list(machines))
    except Refused as error:
        if not error.code.endswith(".NotFound"):
            raise
        if len(machines) > 1:  # EC2 ended none of them
            for each in machines:
                terminate(account, [each])


def remove_group(account: Account, group: str) -> None:
    """Remove a security group, as soon as the machines that were in it let go."""
    deadline = time.monotonic() + GONE_SECONDS
    for pause in _growing(0.5, 5.0):
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
    groups = account.pages("describe_security_groups", "SecurityGroups", Filters=ec2_account.tagged())
    if not groups:
        return []
    in_use = {tags_of(each)[MARK] for each in account.instances()}
    removed = []
    for each in groups:
        tags = tags_of(each)
        created = datetime.fromisoformat(tags[f"{MARK}:created"])
        if tags[MARK] not in in_use and datetime.now(UTC) - created > LEFT_ALONE:
            remove_group(account, each["GroupId"])
            removed.append(each["GroupId"])
    return removed


def console_output(account: Account, machine: str) -> str:
    """What a machine wrote to its console, as far as EC2 has it."""
    answer = account.call("get_console_output", InstanceId=machine, Latest=True)
    return str(answer.get("Output") or "")


def _optional(profile: Ec2Profile, role: str) -> dict[str, Any]:
    """The arguments of a launch that only some profiles need."""
    found: dict[str, Any] = {}
    if profile.iam_instance_profile:
        key = "Arn" if profile.iam_instance_profile.startswith("arn:") else "Name"
        found["IamInstanceProfile"] = {key: profile.iam_instance_profile}
    if profile.spot and role == WORKER:
        once = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        found["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": once}
    return found


def _listens(host: str) -> bool:
    try:
        with socket.create_connection((host, PORT), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False


def _growing(first: float, most: float) -> Iterator[float]:
    """Pauses that get longer, up to ``most`` seconds, without end."""
    for power in range(1_000_000):
        yield min(first * math.pow(1.5, min(power, 50)), most)


def _as_tag(text: str) -> str:
    """As the value of a tag may be written."""
    return re.sub(r"[^\w .:/=+@-]", "_", text)[:256] or "_"
