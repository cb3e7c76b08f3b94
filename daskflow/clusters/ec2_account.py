"""What is asked of an AWS account, in calls whose refusals are told in words."""

from __future__ import annotations

import ipaddress
import math
import re
import socket
import threading
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from daskflow.clusters.profiles import Ec2Profile

MARK = "daskflow"
"""The tag that everything has which daskflow makes. Its value is the cluster's id."""
ALIVE = ("pending", "running", "stopping", "stopped", "shutting-down")
"""States of an instance that is there."""
STAYING = tuple(state for state in ALIVE if state != "shutting-down")
"""States of an instance that nobody has told to end."""
GONE_SECONDS = 300
"""How long machines may take to end, once they were told to."""
PORT = 8786
"""Where the scheduler listens."""
ADDRESS_OF_CALLER = "https://checkip.amazonaws.com"
"""Amazon's page that says by which address one comes to it."""
_IMAGES = {
    "x86_64": "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id",
    "arm64": "/aws/service/ecs/optimized-ami/amazon-linux-2023/arm64/recommended/image_id",
    "gpu": "/aws/service/ecs/optimized-ami/amazon-linux-2023/gpu/recommended/image_id",
}
"""Where AWS names the newest of its machine images that have Docker."""
_SERVICES = {"ssm": "ssm", "ec2": "ec2", "service-quotas": "servicequotas"}
_EXPIRED = frozenset({"RequestExpired", "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_UNKNOWN = frozenset(
    {"AuthFailure", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"}
)
_FULL = frozenset(
    {"InsufficientInstanceCapacity", "SpotMaxPriceTooLow", "InsufficientHostCapacity", "InsufficientCapacity"}
)
_QUOTA = frozenset(
    {"VcpuLimitExceeded", "InstanceLimitExceeded", "MaxSpotInstanceCountExceeded", "VolumeLimitExceeded"}
)
WOULD_BE_DONE = "DryRunOperation"
"""The code with which EC2 refuses what it was only asked about, and would have done."""
_DENIED = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"})


class Account:
    """An account in a region, as the credentials that the AWS SDKs find open it. May be used by several threads.

    Raises :class:`ClusterError` if no region is known.
    """

    def __init__(self, region: str | None) -> None:
        import botocore.config
        import botocore.exceptions
        import botocore.session

        try:
            self._session = botocore.session.get_session()
            self.region: str = region or self._session.get_config_variable("region")
        except botocore.exceptions.BotoCoreError as error:
            raise ClusterError(f"AWS can't be asked: {error}") from error
        if not self.region:
            raise ClusterError(
                'No AWS region is set: write region = "..." into the profile, set AWS_DEFAULT_REGION, or use '
                "--cluster-option region=..."
            )
        self._config = botocore.config.Config(
            retries={"max_attempts": 6, "mode": "standard"}, connect_timeout=10, read_timeout=60
        )
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def call(self, operation: str, service: str = "ec2", **arguments: Any) -> dict[str, Any]:
        """Carry out an operation. Raises :class:`Refused`."""
        import botocore.exceptions

        try:
            client = self._client(service)
            answer: dict[str, Any] = getattr(client, operation)(**arguments)
        except botocore.exceptions.ClientError as error:
            name = f"{_SERVICES[service]}:{error.operation_name}"
            details = error.response["Error"]
            raise Refused(name, str(details.get("Code")), str(details.get("Message")), self.region) from error
        except botocore.exceptions.NoCredentialsError as error:
            raise ClusterError(
                "There are no AWS credentials: set AWS_PROFILE, or sign in (aws sso login, aws configure)."
            ) from error
        except botocore.exceptions.BotoCoreError as error:
            raise ClusterError(f"AWS in {self.region} can't be asked: {error}") from error
        return answer

    def ask_only(self, operation: str, **arguments: Any) -> None:
        """Ask EC2 whether it would carry out an operation, which it does not. Raises :class:`Refused` if it would not."""
        try:
            self.call(operation, DryRun=True, **arguments)
        except Refused as error:
            if error.code != WOULD_BE_DONE:
                raise

    def pages(self, operation: str, result: str, **arguments: Any) -> list[dict[str, Any]]:
        """All of what an operation of EC2 lists."""
        found: list[dict[str, Any]] = []
        token: str | None = ""
        while token is not None:
            answer = self.call(operation, **arguments | ({"NextToken": token} if token else {}))
            found += answer.get(result, [])
            token = answer.get("NextToken") or None
        return found

    def instances(self, *, states: Iterable[str] = ALIVE, **tags: str) -> list[dict[str, Any]]:
        """The instances in these states that have daskflow's mark and tags (see :func:`tagged`)."""
        filters = [{"Name": "instance-state-name", "Values": list(states)}, *tagged(**tags)]
        reservations = self.pages("describe_instances", "Reservations", Filters=filters)
        return [each for reservation in reservations for each in reservation["Instances"]]

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._session.create_client(
                    service, region_name=self.region, config=self._config
                )
            return self._clients[service]


class Refused(ClusterError):
    """AWS refused an operation."""

    def __init__(self, operation: str, code: str, message: str, region: str) -> None:
        super().__init__(_told(operation, code, message, region))
        self.code = code
        self.is_denial = code in _DENIED


def _told(operation: str, code: str, message: str, region: str) -> str:
    if code in _DENIED:
        return f"Your AWS credentials don't allow {operation} in {region}. deploy/ has a policy with all that is needed. ({message})"
    if code in _EXPIRED:
        return f"Your AWS credentials have expired ({operation}: {message}). Sign in again, with aws sso login say."
    if code in _UNKNOWN:
        return f"AWS does not know your credentials ({operation}: {message})."
    if code in _FULL:
        return f"EC2 has no such machine to give in {region} now: {message} Try another instance type or subnet, or without spot."
    if code in _QUOTA:
        return f"A quota of your account in {region} is used up: {message} Ask for more in Service Quotas, or take fewer machines."
    return f"{operation} was refused in {region}: {message} ({code})"


def tagged(id: str = "", **tags: str) -> list[dict[str, Any]]:  # noqa: A002 - that is what it is
    """Filters for what has daskflow's mark: of one cluster if ``id`` says which, and with these tags, named without the mark."""
    named = [{"Name": f"tag:{MARK}:{name}", "Values": [value]} for name, value in tags.items()]
    return [{"Name": f"tag:{MARK}", "Values": [id]} if id else {"Name": "tag-key", "Values": [MARK]}, *named]


def tags_of(thing: Mapping[str, Any]) -> dict[str, str]:
    """The tags of something that EC2 describes."""
    return {each["Key"]: each["Value"] for each in thing.get("Tags") or ()}


@dataclass(frozen=True)
class Kind:
    """A kind of machine: type, the image it boots, and what matters of both."""

    type: str
    ami: str
    root_device: str
    threads: int
    gpu: bool


@dataclass(frozen=True)
class Place:
    """Where machines start."""

    subnet: str
    vpc: str
    block: str
    """The subnet's addresses."""


def kinds(account: Account, profile: Ec2Profile) -> tuple[Kind, Kind]:
    """What scheduler and workers are. Raises :class:`ClusterError` if type and image do not go together."""
    wanted = [profile.scheduler_instance_type, profile.worker_instance_type]
    try:
        answer = account.call("describe_instance_types", InstanceTypes=sorted(set(wanted)))
    except Refused as error:
        if error.code != "InvalidInstanceType":
            raise
        raise ClusterError(f"Profile '{profile.name}': {error.message}") from error
    types = {each["InstanceType"]: each for each in answer["InstanceTypes"]}
    for each in wanted:
        if each not in types:
            raise ClusterError(
                f"Profile '{profile.name}': there is no instance type '{each}' in {account.region}."
            )
    amis = dict.fromkeys(wanted, profile.ami) if profile.ami else amazons_images(account, types)
    images = _described(account, profile, sorted({str(each) for each in amis.values()}))
    for name in wanted:
        image = images[amis[name]]
        if image["Architecture"] not in types[name]["ProcessorInfo"]["SupportedArchitectures"]:
            raise ClusterError(
                f"Profile '{profile.name}': the image {amis[name]} is for {image['Architecture']}, but {name} is "
                f"{', '.join(types[name]['ProcessorInfo']['SupportedArchitectures'])}."
            )
    scheduler, worker = (
        Kind(
            name,
            str(amis[name]),
            images[amis[name]]["RootDeviceName"],
            types[name]["VCpuInfo"]["DefaultVCpus"],
            bool(types[name].get("GpuInfo")),
        )
        for name in wanted
    )
    return scheduler, worker


def amazons_images(account: Account, types: Mapping[str, Any]) -> dict[str, str]:
    """For each type the newest of Amazon's images that have Docker."""
    names = {
        name: _IMAGES["gpu" if each.get("GpuInfo") else each["ProcessorInfo"]["SupportedArchitectures"][-1]]
        for name, each in types.items()
    }
    answer = account.call("get_parameters", "ssm", Names=sorted(set(names.values())))
    values = {each["Name"]: each["Value"] for each in answer["Parameters"]}
    if missing := [each for each in names.values() if each not in values]:
        raise ClusterError(
            f"AWS names no image in {account.region} under {missing[0]}: set ami in the profile."
        )
    return {name: values[path] for name, path in names.items()}


def _described(account: Account, profile: Ec2Profile, amis: Sequence[str]) -> dict[Any, dict[str, Any]]:
    try:
        answer = account.call("describe_images", ImageIds=list(amis))
    except Refused as error:
        if not error.code.startswith("InvalidAMIID"):
            raise
        answer = {}
    images = {each["ImageId"]: each for each in answer.get("Images", ())}
    for each in amis:
        if each not in images:
            raise ClusterError(
                f"Profile '{profile.name}': there is no image {each} in {account.region}. An AMI belongs to one region; copy it "
                "there, or name one that is there."
            )
    return images


def place(account: Account, profile: Ec2Profile) -> Place:
    """The subnet to start in. Raises :class:`ClusterError` if there is none, or its zone has no such machines."""
    types = {profile.scheduler_instance_type, profile.worker_instance_type}
    if profile.subnet:
        try:
            [found] = account.call("describe_subnets", SubnetIds=[profile.subnet])["Subnets"]
        except Refused as error:
            if not error.code.startswith("InvalidSubnet"):
                raise
            raise ClusterError(
                f"Profile '{profile.name}': there is no subnet {profile.subnet} in {account.region}."
            ) from error
        zone, zones = str(found["AvailabilityZone"]), _zones(account, types)
        if missing := [name for name in sorted(types) if zone not in zones[name]]:
            raise ClusterError(
                f"Profile '{profile.name}': EC2 has no {' and no '.join(missing)} in {zone}, the zone of {profile.subnet}. Take another "
                f"instance type, or a subnet of {', '.join(sorted(set.intersection(*zones.values()))) or 'another region'}."
            )
        return Place(found["SubnetId"], found["VpcId"], found["CidrBlock"])
    subnets = account.call("describe_subnets", Filters=[{"Name": "default-for-az", "Values": ["true"]}])[
        "Subnets"
    ]
    if not subnets:
        raise ClusterError(
            f"The account has no default VPC with subnets in {account.region}: set subnet in profile '{profile.name}'."
        )
    zones = _zones(account, types)
    for each in sorted(subnets, key=lambda each: str(each["AvailabilityZone"])):
        if all(each["AvailabilityZone"] in zones[name] for name in types):
            return Place(each["SubnetId"], each["VpcId"], each["CidrBlock"])
    raise ClusterError(
        f"No zone of the default VPC in {account.region} has {' and '.join(sorted(types))}: set subnet, or other instance types, in "
        f"profile '{profile.name}'."
    )


def _zones(account: Account, types: set[str]) -> dict[str, set[str]]:
    """In which zones there are machines of each type."""
    found: dict[str, set[str]] = {name: set() for name in types}
    offered = account.pages(
        "describe_instance_type_offerings",
        "InstanceTypeOfferings",
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": sorted(types)}],
    )
    for each in offered:
        found[each["InstanceType"]].add(each["Location"])
    return found


def allowed(profile: Ec2Profile, where: Place) -> tuple[str, ...]:
    """The blocks of addresses that may reach the scheduler."""
    if profile.allow is not None:
        return profile.allow
    if profile.private:
        return (f"{own_address_towards(where.block)}/32",)
    return (f"{own_public_address()}/32",)


def own_address_towards(block: str) -> str:
    """By which address a network sees this machine. Nothing is sent."""
    network = ipaddress.ip_network(block)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unconnected:
        try:
            unconnected.connect((str(network[min(1, network.num_addresses - 1)]), PORT))
        except OSError as error:
            raise ClusterError(
                f"There is no way from here to the subnet's addresses {block} ({error.strerror}): with private = true the command "
                "has to run in the VPC, or be connected to it."
            ) from error
        return str(unconnected.getsockname()[0])


def own_public_address(page: str = ADDRESS_OF_CALLER) -> str:
    """By which address we come to AWS. Raises :class:`ClusterError` if the page does not say it."""
    try:
        with urllib.request.urlopen(page, timeout=10) as answer:
            return str(ipaddress.IPv4Address(answer.read(100).decode("ascii").strip()))
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"Which address may reach the scheduler is not known: {page} does not say yours ({error}). Set allow in the profile, "
            'such as allow = "203.0.113.7/32".'
        ) from error


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


def growing(first: float, most: float) -> Iterator[float]:
    """Pauses that get longer, up to ``most`` seconds, without end."""
    for power in range(1_000_000):
        yield min(first * math.pow(1.5, min(power, 50)), most)


def as_tag(text: str) -> str:
    """As the value of a tag may be written."""
    return re.sub(r"[^\w .:/=+@-]", "_", text)[:256] or "_"
