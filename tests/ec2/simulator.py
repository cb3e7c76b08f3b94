"""EC2 on this machine: moto answers the calls, and what it takes for instances boots here.

An instance has an address of 127.0.0.0/8, all of which Linux routes to loopback. It boots by running its user data, with programs
of our own in the place of ``docker`` and ``shutdown``: a container is a process that is bound to the instance's address. A machine
image that has its Python itself has a program of ours in the place of that, which does the same.
"""

from __future__ import annotations

import base64
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from s3server import ACCOUNT

from tests.watching import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3server import Bucket

ROOT = str(Path(__file__).parents[2])
LIVING = ("pending", "running")
POLL_SECONDS = 0.1
PATIENCE = 100
"""Seconds; a cluster takes two on a machine that has nothing else to do."""
IMAGE = "registry.example/flows:1"
BROKEN_IMAGE = "registry.example/nothing:1"
DASK_IMAGE = "registry.example/dask:1"
"""Has Dask, and no daskflow."""
WITHOUT_DASKFLOW = "import sys\nsys.modules['daskflow'] = None\n"

RUN = f"""
listens_on = words.index("--dashboard-address") + 1
words[listens_on] = words[listens_on].replace("127.0.0.1", address)
host = os.environ["SIMULATED_LISTEN"] if "distributed.cli.dask_scheduler" in words else address
os.execve({sys.executable!r}, [{sys.executable!r}, *words, "--host", host], environment)
"""
"""What the two programs do alike: run ``words`` bound to the instance's address."""
DOCKER = f"""#!{sys.executable} -SE
import os, sys

address = os.environ["SIMULATED_ADDRESS"]
words = sys.argv[1:]
assert words.pop(0) == "run", words
environment = {{name: os.environ[name] for name in os.environ if name.startswith("AWS_")}}  # as by an instance profile
environment |= {{"HOME": os.getcwd(), "TMPDIR": os.getcwd(), "PATH": "/usr/bin:/bin", "PYTHONPATH": {ROOT!r}}}
while words[0].startswith("-"):
    word = words.pop(0)
    if word == "--env":
        name, is_said, value = words.pop(0).partition("=")
        environment[name] = value if is_said else os.environ[name]
    else:
        assert word in ("--rm", "--network=host", "--gpus=all"), word
image, program, *words = words
if image == {BROKEN_IMAGE!r}:
    sys.exit("python: No module named distributed")
if image == {DASK_IMAGE!r}:
    with open("sitecustomize.py", "w") as file:
        file.write({WITHOUT_DASKFLOW!r})
    environment["PYTHONPATH"] = os.getcwd()
assert (image in ({IMAGE!r}, {DASK_IMAGE!r}), program) == (True, "python"), (image, program)
{RUN}"""
PYTHON = f"""#!{sys.executable} -SE
import os, sys

address = os.environ["SIMULATED_ADDRESS"]
words = sys.argv[1:]
assert (os.getcwd(), os.environ["TMPDIR"]) == ("/var/tmp", "/var/tmp")
os.chdir(os.environ["HOME"])  # other machines share the host's
environment = os.environ | {{"TMPDIR": os.environ["HOME"], "PYTHONPATH": {ROOT!r}}}
{RUN}"""
SHUTDOWN = """#!/bin/sh
case "$2" in
    now) touch "$HOME/ended"; sleep 60;;
    *) echo "$2" > "$HOME/lifetime";;
esac
"""


@dataclass
class Machine:
    """An instance that has booted."""

    id: str
    address: str
    folder: Path
    process: subprocess.Popen[bytes]
    role: str

    def ends_itself(self) -> bool:
        return (self.folder / "ended").exists()

    def processes(self) -> list[psutil.Process]:
        """All that run in its folder."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("HOME") == str(self.folder) and process.status() != "zombie":
                    found.append(process)
        return found

    def switch_off(self) -> None:
        """End all its processes at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait()


@dataclass
class Cloud:
    """An account in which instances boot, until it is closed."""

    server: str
    folder: Path
    ec2: Any
    public: bool = False
    """Whether schedulers listen on all addresses, for which a network namespace is needed in which those of EC2 are there."""
    boots: bool = True
    """Whether instances that are started from now on do anything."""
    machines: dict[str, Machine] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)
    _end: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        block = f"127.{random.randint(16, 250)}.{random.randint(0, 255)}.0/24"
        self.vpc = self.ec2.create_vpc(CidrBlock=block)["Vpc"]["VpcId"]
        zone = f"{self.ec2.meta.region_name}a"  # where all types are that the tests use
        made = self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=block, AvailabilityZone=zone)
        self.subnet = made["Subnet"]["SubnetId"]
        images = self.ec2.describe_images(Owners=["099720109477"])["Images"]
        self.ami = next(each["ImageId"] for each in images if each["Architecture"] == "x86_64")
        self._programs = self.folder / "bin"
        self._programs.mkdir()
        self.python = self.folder / "image's-$own" / "bin" / "python"
        self.python.parent.mkdir(parents=True)
        programs = {"docker": DOCKER, "shutdown": SHUTDOWN, "systemctl": "#!/bin/sh\n"}
        for path, text in (
            (self.python, PYTHON),
            *((self._programs / name, programs[name]) for name in programs),
        ):
            path.write_text(text)
            path.chmod(0o755)

    def profile(self, name: str = "ec2", **more: Any) -> dict[str, Any]:
        """What a profile says whose machines start here."""
        return {
            "kind": "ec2",
            "image": IMAGE,
            "ami": self.ami,
            "subnet": self.subnet,
            "private": True,
            "scheduler_instance_type": "t3.small",
            "worker_instance_type": "t3.small",
            "max_workers": 1,
            "min_workers": 1,
        } | more

    def profile_of_ami(self, **more: Any) -> dict[str, Any]:
        """The same of one whose machine image has its Python itself."""
        values = self.profile(python=str(self.python)) | more
        del values["image"]
        return values

    def instances(self, *states: str) -> list[dict[str, Any]]:
        """Those in our network."""
        filters = [
            {"Name": "vpc-id", "Values": [self.vpc]},
            {"Name": "instance-state-name", "Values": list(states or LIVING)},
        ]
        reservations = self.ec2.describe_instances(Filters=filters)["Reservations"]
        return [each for reservation in reservations for each in reservation["Instances"]]

    def user_data(self, machine: str) -> bytes:
        found = self.ec2.describe_instance_attribute(InstanceId=machine, Attribute="userData")
        return base64.b64decode(found["UserData"]["Value"])

    def running(self, role: str = "") -> list[Machine]:
        return [each for each in list(self.machines.values()) if role in ("", each.role)]

    def groups(self) -> list[dict[str, Any]]:
        """The security groups that somebody made in our network."""
        found = self.ec2.describe_security_groups(Filters=[{"Name": "vpc-id", "Values": [self.vpc]}])
        return [each for each in found["SecurityGroups"] if each["GroupName"] != "default"]

    def left(self) -> list[str]:
        """Instances, volumes and security groups that daskflow made and that are there."""
        volumes = self.ec2.describe_volumes(Filters=[{"Name": "tag-key", "Values": ["daskflow"]}])["Volumes"]
        groups = [each["GroupId"] for each in self.groups() if each.get("Tags")]
        return (
            [each["InstanceId"] for each in self.instances()]
            + [each["VolumeId"] for each in volumes]
            + groups
        )

    def lose(self, machine: Machine) -> None:
        """Let an instance vanish, as EC2 does with a spot instance that it takes back."""
        self.ec2.terminate_instances(InstanceIds=[machine.id])
        wait_until(lambda: machine.id not in self.machines)

    def run(self) -> None:
        """Boot and end machines as EC2 says they live, until the end."""
        while not self._end.wait(POLL_SECONDS):
            living = {each["InstanceId"]: each for each in self.instances()}
            for machine in [
                each for each in self.machines.values() if each.id in living and each.ends_itself()
            ]:
                self.ec2.terminate_instances(InstanceIds=[machine.id])
                del living[machine.id]
            for gone in self.machines.keys() - living.keys():
                self.machines[gone].switch_off()
                del self.machines[gone]
            for new in living.keys() - self.machines.keys() - self.shown:
                self.shown.add(new)
                if self.boots:
                    self.machines[new] = self._boot(living[new])

    def _boot(self, instance: dict[str, Any]) -> Machine:
        machine, address = instance["InstanceId"], instance["PrivateIpAddress"]
        folder = self.folder / machine
        folder.mkdir()
        (folder / "user-data").touch(0o600)  # as cloud-init has it
        (folder / "user-data").write_bytes(self.user_data(machine))
        environment = ACCOUNT | {
            "AWS_ENDPOINT_URL": self.server,
            "HOME": str(folder),
            "PATH": f"{self._programs}:/usr/bin:/bin",
            "SIMULATED_ADDRESS": address,
            "SIMULATED_LISTEN": "0.0.0.0" if self.public else address,
        }
        with (folder / "console").open("wb") as console:
            process = subprocess.Popen(
                ["sh", "user-data"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        tags = {each["Key"]: each["Value"] for each in instance.get("Tags", [])}
        return Machine(machine, address, folder, process, tags.get("daskflow:role", ""))

    def close(self) -> None:
        """End all machines."""
        self._end.set()
        for machine in self.machines.values():
            machine.switch_off()
        if left := [each["InstanceId"] for each in self.instances()]:
            self.ec2.terminate_instances(InstanceIds=left)
        for group in self.groups():
            self.ec2.delete_security_group(GroupId=group["GroupId"])


@contextlib.contextmanager
def cloud_of(bucket: Bucket, kind: type[Cloud] = Cloud) -> Iterator[Cloud]:
    """A cloud at a bucket's server, whose machines reach the bucket."""
    import boto3

    with tempfile.TemporaryDirectory(prefix="cloud-") as folder:
        cloud = kind(bucket.server, Path(folder), boto3.client("ec2"))
        thread = threading.Thread(target=cloud.run)
        thread.start()
        try:
            yield cloud
        finally:
            cloud._end.set()
            thread.join()
            cloud.close()  # of a test that failed
            cloud.ec2.close()


def listening(processes: list[psutil.Process]) -> set[str]:
    """The addresses at which these listen."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            for each in process.net_connections("inet"):
                if each.status == psutil.CONN_LISTEN:
                    found.add(each.laddr.ip)
    return found
