"""The machines of one cluster in EC2, from the first to the last: what is started here is ended here.

Every call that makes something tags it in that same call, so whatever is left can be found by anybody with the account's
credentials, and nothing has to be remembered on this machine.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from daskflow.clusters import ec2_account, ec2_boot, ec2_groups
from daskflow.clusters.ec2_account import ALIVE, GONE_SECONDS, MARK, PORT, Refused, as_tag, growing, tags_of
from daskflow.clusters.ec2_clusters import SCHEDULER, WORKER, console_output
from daskflow.clusters.profiles import duration_text
from daskflow.errors import ClusterError
from daskflow.task.certificate import self_signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from daskflow.clusters.ec2_account import Account, Kind, Place
    from daskflow.clusters.ec2_clusters import Cluster
    from daskflow.clusters.profiles import Ec2Profile

T = TypeVar("T")
LISTED_SECONDS = 60
"""EC2 may take so long until it lists what was made."""
CONNECT_SECONDS = 3


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
    there
        A cluster that is there already, to which these machines are added; None for a new one.
    shared
        Whether it stays when the command that started it has ended.
    """

    def __init__(
        self,
        account: Account,
        profile: Ec2Profile,
        owner: str,
        configuration: Mapping[str, Any],
        *,
        there: Cluster | None = None,
        shared: bool = False,
    ) -> None:
        self.account, self.profile, self.owner, self.shared = account, profile, owner, shared
        self.id = there.id if there else secrets.token_hex(5)
        self.credentials = there.credentials(account) if there else _new_credentials(profile)
        self._configuration = dict(configuration) | self.credentials.configuration()
        self._kinds: tuple[Kind, Kind] | None = None
        self._place: Place | None = None
        self._group = there.group if there else profile.security_group
        self._owns_group = there is None and not profile.security_group
        self._started: dict[str, str] = {}
        """Name of each machine that was started and not ended, by its id."""
        self._when: dict[str, float] = {}
        """When each of these was started, by a clock of this process."""
        self._change = threading.Condition()
        self._starting = 0
        self._ended = False

    def prepare(self, workers: int) -> None:
        """Look up what machines need, see that there may be a scheduler and so many workers, and make their security group.

        Raises :class:`ClusterError`.
        """
        self.look_up()
        self.see_that_there_is_room(workers + 1, f"A scheduler and {count(workers)}")
        if self._group:
            ec2_groups.check_group(self.account, self.profile, self.place)
        else:
            with contextlib.suppress(ClusterError):  # what others left must not keep this one from starting
                ec2_groups.remove_abandoned_groups(self.account)
            self._make_group(ec2_account.allowed(self.profile, self.place))

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        """What scheduler and workers are, once it is looked up."""
        assert self._kinds is not None
        return self._kinds

    @property
    def place(self) -> Place:
        """Where they start, once it is looked up."""
        assert self._place is not None
        return self._place

    def beginning(self, workers: int) -> str:
        """What is told before a scheduler and so many workers start, which takes minutes."""
        return f"A scheduler and {count(workers)} start in EC2, {self.account.region}. It takes some minutes."

    def prepare_more(self, workers: int) -> None:
        """Look up what machines need, and see that there may be so many more. Raises :class:`ClusterError`."""
        self.look_up()
        self.see_that_there_is_room(workers, f"{count(workers)} more")

    def look_up(self) -> None:
        """Find out what machines need. Raises :class:`ClusterError` if the profile does not fit the account."""
        self._kinds = ec2_account.kinds(self.account, self.profile)
        self._place = ec2_account.place(self.account, self.profile)

    def see_that_there_is_room(self, machines: int, what: str) -> None:
        """Raises :class:`ClusterError` if there may not be so many more machines."""
        room = self.room()
        if room < machines:
            raise ClusterError(
                f"{what} are more machines than may be: {self.owner} has {self.profile.max_machines - room} of profile "
                f"'{self.profile.name}' in EC2 already, of {self.profile.max_machines} (max_machines). 'daskflow cluster ls' shows "
                "them, 'daskflow cluster down' ends them."
            )

    def room(self) -> int:
        """How many more machines there may be, by what EC2 says is there."""
        there = self.account.instances(cluster=self.profile.name, owner=as_tag(self.owner))
        known = {each["InstanceId"] for each in there}
        with self._change:
            known |= {
                machine for machine, when in self._when.items() if time.monotonic() - when < LISTED_SECONDS
            }
        return self.profile.max_machines - len(known)

    def start_scheduler(self) -> tuple[str, str]:
        """The addresses of a new scheduler's machine, for the other machines and for us, which may take minutes to listen."""
        machine = self._launch(SCHEDULER, SCHEDULER, ec2_boot.scheduler_command(self.profile))
        inner = machine["PrivateIpAddress"]
        return inner, inner if self.profile.private else self._public_address(machine["InstanceId"])

    def start_worker(self, name: str, scheduler: str) -> str:
        """The id of a new worker's machine; it joins the scheduler at this address."""
        command = ec2_boot.worker_command(scheduler, name, self.kinds[1].threads)
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

        A Ctrl-C does not stop it half-way, a second one does.

        Raises :class:`ClusterError` with what is left, if AWS does not let us.
        """
        _to_the_end(self._end)

    def _end(self) -> None:
        with self._change:
            self._ended = True
            self._change.wait_for(lambda: self._starting == 0)
        again = f"'daskflow cluster down --all --region {self.account.region}'"
        try:
            self._terminate(self._there())
            self._wait_until_gone()
        except ClusterError as error:
            left = ", ".join(self._started) or "none"
            raise ClusterError(
                f"The cluster could not be ended: {error.message} Machines that may be left: {left}; security group: {self._group}. "
                f"{again} tries again. The machines end by themselves once their scheduler was idle for {duration_text(self.profile.idle_timeout)}."
            ) from error
        if self._group is None or not self._owns_group:
            return
        try:
            ec2_groups.remove_group(self.account, self._group)
        except ClusterError as error:
            raise ClusterError(
                f"The machines have ended, their security group {self._group} is left: {error.message} {again} removes it."
            ) from error
        self._group = None

    def _launch(self, role: str, name: str, command: Sequence[str]) -> dict[str, Any]:
        request = self._request(role, name, command)

        def launch() -> dict[str, Any]:
            with self._launching():
                started = self._call_with_group("run_instances", request)
                machine: dict[str, Any] = started["Instances"][0]
                with self._change:
                    self._started[machine["InstanceId"]] = name
                    self._when[machine["InstanceId"]] = time.monotonic()
            return machine

        return _to_the_end(launch)

    def _call_with_group(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Call EC2, which may need some seconds until it knows everywhere of a security group that was made a moment ago."""
        deadline = time.monotonic() + LISTED_SECONDS
        for pause in growing(0.5, 5.0):
            try:
                return self.account.call(operation, **request)
            except Refused as error:
                is_new = self._owns_group and error.code == "InvalidGroup.NotFound"
                if not is_new or self._ended or time.monotonic() > deadline:
                    raise
                time.sleep(pause)
        raise AssertionError

    def may_launch(self, role: str) -> None:
        """Ask EC2 whether it would start such a machine, without starting it. Raises :class:`ClusterError` if not."""
        command = ec2_boot.worker_command("tls://203.0.113.100:8786", "name", 1)
        request = self._request(role, "name", command)
        request["NetworkInterfaces"][0].pop("Groups")
        self.account.ask_only("run_instances", **request)

    def _request(self, role: str, name: str, command: Sequence[str]) -> dict[str, Any]:
        """What is asked of EC2 for a machine."""
        profile = self.profile
        kind = self.kinds[role == WORKER]
        disk = {
            "VolumeSize": profile.disk,
            "VolumeType": "gp3",
            "Encrypted": True,
            "DeleteOnTermination": True,
        }
        network = {
            "DeviceIndex": 0,
            "SubnetId": self.place.subnet,
            "Groups": [self._group],
            "AssociatePublicIpAddress": not profile.private,
            "DeleteOnTermination": True,
        }
        return {
            "MinCount": 1,
            "MaxCount": 1,
            "ImageId": kind.ami,
            "InstanceType": kind.type,
            "UserData": ec2_boot.user_data(profile, self._configuration, command, gpu=kind.gpu),
            "ClientToken": secrets.token_hex(16),  # so that a request that is repeated starts one machine
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions": {
                "HttpEndpoint": "enabled",
                "HttpTokens": "required",
                "HttpPutResponseHopLimit": 1,
            },
            "BlockDeviceMappings": [{"DeviceName": kind.root_device, "Ebs": disk}],
            "NetworkInterfaces": [network],
            "TagSpecifications": self._tags(role, name, ("instance", "volume", "network-interface")),
        } | _optional(profile, role)

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
            f"{MARK}:owner": as_tag(self.owner),
            f"{MARK}:role": role,
            f"{MARK}:name": name,
            f"{MARK}:shared": "yes" if self.shared else "no",
            f"{MARK}:created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        return [{"ResourceType": each, "Tags": listed} for each in resources]

    def may_make_group(self) -> None:
        """Ask EC2 whether it would make a security group, without making it. Raises :class:`ClusterError` if not."""
        self.account.ask_only("create_security_group", **self._group_request())

    def _group_request(self) -> dict[str, Any]:
        return {
            "GroupName": f"daskflow-{self.profile.name}-{self.id}",
            "Description": f"Cluster {self.id} of daskflow; removed with it",
            "VpcId": self.place.vpc,
            "TagSpecifications": self._tags("group", "group", ("security-group",)),
        }

    def _make_group(self, allowed: Sequence[str]) -> None:
        """A security group that lets its own machines in, and these addresses to the scheduler's port."""
        request = self._group_request()

        def make() -> None:
            with self._launching():
                self._group = self.account.call("create_security_group", **request)["GroupId"]

        _to_the_end(make)
        among = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": self._group}]}
        rules = [among, ec2_groups.to_scheduler(allowed)] if allowed else [among]
        self._call_with_group(
            "authorize_security_group_ingress", {"GroupId": self._group, "IpPermissions": rules}
        )

    def _public_address(self, machine: str) -> str:
        """The public address of a machine, which it has once it runs."""
        deadline = time.monotonic() + self.profile.start_timeout
        for pause in growing(1.0, 10.0):
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
                f"The scheduler's machine ended while it started: {ec2_boot.what_is_wrong(self.profile, self.kinds[0])}"
                f"{self._output(SCHEDULER)}"
            )

    def see_that_workers_live(self) -> None:
        """Raises :class:`ClusterError` if no worker's machine is there any more."""
        if WORKER not in self._roles():
            raise ClusterError(
                "The workers' machines ended before they joined the scheduler: "
                f"{ec2_boot.what_is_wrong(self.profile, self.kinds[1])}{self._output(WORKER)}"
            )

    def _roles(self) -> set[str]:
        """What machines there are, among them those that are too young to be listed."""
        listed = self._described((*ALIVE, "terminated"))
        found = {
            tags_of(each)[f"{MARK}:role"]
            for each in listed
            if each["State"]["Name"] in ("pending", "running")
        }
        ids = {each["InstanceId"] for each in listed}
        with self._change:
            young = self._young() - ids
            return found | {SCHEDULER if self._started[each] == SCHEDULER else WORKER for each in young}

    def _young(self) -> set[str]:
        """The machines that EC2 may not list yet."""
        now = time.monotonic()
        return {machine for machine, when in self._when.items() if now - when < LISTED_SECONDS}

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
        ec2_account.terminate(self.account, machines)
        with self._change:
            for each in machines:
                self._started.pop(each, None)
                self._when.pop(each, None)

    def _wait_until_gone(self) -> None:
        deadline = time.monotonic() + GONE_SECONDS
        for pause in growing(0.2, 5.0):
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


def _to_the_end(call: Callable[[], T]) -> T:
    """What a call returns. A Ctrl-C meanwhile is raised when it is over: what it makes is known then. A second one is raised at once."""
    threads = ThreadPoolExecutor(1)  # signals interrupt the main thread alone
    future = threads.submit(call)
    threads.shutdown(wait=False)
    try:
        return future.result()
    except KeyboardInterrupt:
        future.result()
        raise


def count(workers: int) -> str:
    """So many workers, in words."""
    return "1 worker" if workers == 1 else f"{workers} workers"


def _new_credentials(profile: Ec2Profile) -> ec2_boot.Credentials:
    return ec2_boot.Credentials(*self_signed(timedelta(seconds=profile.lifetime) + timedelta(days=1)))


def _listens(host: str) -> bool:
    try:
        with socket.create_connection((host, PORT), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False
