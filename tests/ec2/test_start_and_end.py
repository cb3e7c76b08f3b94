"""However a cluster's start or end goes, nothing of it is left."""

from __future__ import annotations

import copy
import ipaddress
import os
import re
import signal
import subprocess
import sys
import textwrap
import urllib.request
from typing import TYPE_CHECKING, Any

import dask
import distributed  # noqa: F401 - has its part of the configuration
import psutil
import pytest

from daskflow.clusters import ec2_groups, open_cluster
from daskflow.clusters.ec2_account import Account, Place
from daskflow.clusters.ec2_boot import credentials_in
from daskflow.clusters.profiles import Ec2Profile
from daskflow.errors import ClusterError
from tests.ec2.simulator import BROKEN_IMAGE, DASK_IMAGE, IMAGE, PATIENCE, ROOT, listening
from tests.ec2.tables import toml
from tests.watching import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from s3server import Bucket

    from tests.ec2.gate import Gate
    from tests.ec2.simulator import Cloud

    Opened = Callable[..., AbstractContextManager[Any]]


pytestmark = pytest.mark.timeout(300)


def not_opened(cluster: AbstractContextManager[Any]) -> str:
    """The error with which a cluster does not start."""
    with pytest.raises(ClusterError) as told, cluster:
        pass
    return told.value.message


def test_a_cluster_is_closed_to_others_and_its_parts_are_marked_as_ours(
    opened: Opened, cloud: Cloud, gate: Gate
):
    before = copy.deepcopy(dask.config.get("distributed.comm"))

    with opened(min_workers=2, max_workers=2) as client:
        client.wait_for_workers(2, timeout=60)
        assert client.submit(lambda: 7).result(60) == 7
        status = urllib.request.urlopen(client.dashboard_link, timeout=30)
        page = status.read().decode()

        machines = cloud.instances()
        assert len(machines) == 3
        for machine in machines:
            tags = {each["Key"]: each["Value"] for each in machine["Tags"]}
            assert tags["daskflow:owner"] == "ada"
            assert tags["daskflow:cluster"] == "team"
            assert machine["MetadataOptions"]["HttpTokens"] == "required"
            behaviour = cloud.ec2.describe_instance_attribute(
                InstanceId=machine["InstanceId"], Attribute="instanceInitiatedShutdownBehavior"
            )
            assert behaviour["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
            assert len(cloud.user_data(machine["InstanceId"])) < 8000
        volumes = cloud.ec2.describe_volumes(
            Filters=[{"Name": "tag:daskflow", "Values": [tags["daskflow"]]}]
        )["Volumes"]
        assert [each["Encrypted"] for each in volumes] == [True] * 3
        [group] = cloud.groups()
        assert {each["Key"]: each["Value"] for each in group["Tags"]}["daskflow"] == tags["daskflow"]
        among, ours = sorted(group["IpPermissions"], key=lambda each: each.get("FromPort", 0))
        assert [each["GroupId"] for each in among["UserIdGroupPairs"]] == [group["GroupId"]]
        assert among["IpRanges"] == []
        assert (ours["FromPort"], ours["ToPort"]) == (8786, 8786)
        assert [each["CidrIp"] for each in ours["IpRanges"]] == ["127.0.0.1/32"]
        started = sum(gate.asked.values())
        processes = [process for machine in cloud.running() for process in machine.processes()]
        addresses = listening([*processes, psutil.Process()])

    assert status.status == 200
    assert "Dask" in page
    assert all(ipaddress.ip_address(each).is_loopback for each in addresses), addresses
    assert started <= 2 * 2 + 15, gate.asked
    assert cloud.left() == []
    assert dask.config.get("distributed.comm") == before


def test_it_lasts_no_longer_than_its_lifetime_whatever_happens_to_it(opened: Opened, cloud: Cloud):
    with opened(lifetime="2 hours"):
        lifetimes = [(each.folder / "lifetime").read_text().strip() for each in cloud.running()]

    assert lifetimes == ["+120", "+120"]


@pytest.mark.parametrize("worker", [1, 2])
def test_a_worker_that_ec2_refuses_ends_what_was_started(
    opened: Opened, cloud: Cloud, gate: Gate, worker: int
):
    gate.refuses = lambda action, _, count: (
        "InsufficientInstanceCapacity" if (action, count) == ("RunInstances", 1 + worker) else None
    )

    message = not_opened(opened(min_workers=2, max_workers=2))

    assert "EC2 has no such machine to give in us-east-1 now: It is not to be." in message
    assert cloud.left() == []


@pytest.mark.parametrize(
    ("action", "code", "words"),
    [
        ("RunInstances", "UnauthorizedOperation", "Your AWS credentials don't allow ec2:RunInstances in us-east-1"),
        ("CreateSecurityGroup", "UnauthorizedOperation", "don't allow ec2:CreateSecurityGroup"),
        ("AuthorizeSecurityGroupIngress", "UnauthorizedOperation", "ec2:AuthorizeSecurityGroupIngress"),
        ("DescribeSubnets", "UnauthorizedOperation", "don't allow ec2:DescribeSubnets"),
        ("RunInstances", "VcpuLimitExceeded", "A quota of your account in us-east-1 is used up"),
        ("DescribeInstances", "RequestExpired", "Your AWS credentials have expired"),
        ("DescribeInstanceTypes", "AuthFailure", "AWS does not know your credentials"),
    ],
)  # fmt: skip
def test_what_aws_refuses_is_told_by_its_name(
    opened: Opened, cloud: Cloud, gate: Gate, action: str, code: str, words: str
):
    gate.refuses = lambda asked, _, count: code if (asked, count) == (action, 1) else None

    assert words in not_opened(opened())
    assert cloud.left() == []


def test_a_scheduler_that_does_not_answer_is_given_up(opened: Opened, cloud: Cloud):
    cloud.boots = False

    message = not_opened(opened(start_timeout="1 second"))

    assert "did not answer at 127." in message
    assert "within 1 seconds (start_timeout)" in message
    assert cloud.left() == []


def test_an_image_that_runs_no_scheduler_is_told_before_the_time_is_over(opened: Opened, cloud: Cloud):
    message = not_opened(opened(image=BROKEN_IMAGE, start_timeout="100 seconds"))

    assert "The scheduler's machine ended while it started" in message
    assert BROKEN_IMAGE in message
    assert cloud.left() == []


def test_a_machine_image_that_has_no_such_python_is_told(opened: Opened, cloud: Cloud):
    nothing = "/opt/nothing/bin/python"

    message = not_opened(opened(image=None, python=nothing, start_timeout="100 seconds"))

    assert (
        f"has the machine image {cloud.ami} a Python with Dask, {nothing}, that runs on t3.small?" in message
    )
    assert cloud.left() == []


@pytest.mark.parametrize("image", ["container", "machine"])
def test_the_clusters_key_stands_where_only_the_machines_owner_reads(
    opened: Opened, cloud: Cloud, image: str
):
    profile = {"image": IMAGE} if image == "container" else {"image": None, "python": str(cloud.python)}

    with opened(**profile) as client:
        assert client.submit(lambda: 7).result(60) == 7
        scripts = [cloud.user_data(each.id).decode() for each in cloud.running()]
        processes = [process for machine in cloud.running() for process in machine.processes()]
        lines = [" ".join(process.cmdline()) for process in processes]
        files = [each for each in cloud.folder.rglob("*") if each.is_file() and each.stat().st_mode & 0o044]
        contents = [each.read_bytes() for each in files]

    assert len({credentials_in(each) for each in scripts}) == 1
    key = credentials_in(scripts[0]).key.splitlines()[1]
    secrets = [key, *(re.findall(r"DASK_INTERNAL_INHERIT_CONFIG=(\S+)", " ".join(scripts)))]
    assert len(processes) >= 4
    assert len(secrets) == 3
    assert not [line for line in lines if any(each in line for each in secrets)]
    assert not [content for content in contents if any(each.encode() in content for each in secrets)]
    assert cloud.left() == []


def test_an_image_without_daskflow_is_told(opened: Opened, cloud: Cloud):
    message = not_opened(opened(image=DASK_IMAGE))

    assert "The scheduler's image has no daskflow that is like this one" in message
    assert cloud.left() == []


DRIVER = """
    import sys
    from pathlib import Path
    from daskflow.clusters import Purpose, open_cluster

    purpose = Purpose(Path.cwd(), "s3://bucket/store", "ada", print)
    with open_cluster("team", None, {}, purpose):
        print("open", flush=True)
        sys.stdin.read()
"""


def driver(folder: Path, **profile: Any) -> subprocess.Popen[str]:
    """A process that opens a cluster, says so and waits."""
    (folder / "daskflow.toml").write_text(toml({"team": profile}))
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(DRIVER)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": ROOT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_interrupted_start_leaves_nothing(cloud: Cloud, tmp_path: Path):
    cloud.boots = False
    with driver(tmp_path, **cloud.profile()) as started:
        wait_until(lambda: cloud.shown, PATIENCE)
        started.send_signal(signal.SIGINT)
        _, errors = started.communicate(timeout=60)

    assert "KeyboardInterrupt" in errors
    assert cloud.left() == []


@pytest.mark.slow
def test_the_machines_of_a_driver_that_was_killed_end_themselves(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with driver(tmp_path, **cloud.profile(idle_timeout="10 seconds")) as started:
        assert started.stdout is not None
        assert "open\n" in iter(started.stdout.readline, "")
        assert len(cloud.running()) == 2
        started.kill()

    wait_until(lambda: not cloud.instances(), PATIENCE)
    [group] = cloud.left()  # it costs nothing, lets nobody in to anything, and goes with the next command
    account = Account(None)
    assert (
        ec2_groups.remove_abandoned_groups(account) == []
    )  # it might be that of a cluster which is being started
    monkeypatch.setattr(ec2_groups, "LEFT_ALONE", ec2_groups.LEFT_ALONE * 0)
    assert ec2_groups.remove_abandoned_groups(account) == [group]


def test_there_are_no_more_machines_than_the_profile_allows_as_ec2_counts_them(
    opened: Opened, cloud: Cloud, bucket: Bucket
):
    with opened(max_machines=3):
        message = not_opened(opened(max_machines=3))

    assert (
        "A scheduler and 1 worker are more machines than may be: ada has 2 of profile 'team' in EC2"
        in message
    )
    assert "of 3 (max_machines)" in message
    assert len(cloud.shown) == 2


def test_a_security_group_that_lets_everybody_in_is_refused_unless_the_profile_says_so(
    opened: Opened, cloud: Cloud
):
    group = cloud.ec2.create_security_group(GroupName="own", Description="own", VpcId=cloud.vpc)["GroupId"]
    cloud.ec2.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=8786, ToPort=8787, CidrIp="0.0.0.0/0"
    )

    message = not_opened(opened(security_group=group))
    with opened(security_group=group, allow="0.0.0.0/0") as client:
        assert client.submit(lambda: 7).result(60) == 7

    assert "lets everybody in (0.0.0.0/0, port 8786 to 8787)" in message
    assert [each["GroupId"] for each in cloud.groups()] == [group]  # it is not ours to remove


def own_group(cloud: Cloud, *rules: dict[str, Any]) -> str:
    group: str = cloud.ec2.create_security_group(GroupName="own", Description="own", VpcId=cloud.vpc)[
        "GroupId"
    ]
    for rule in rules:
        permission = {"IpProtocol": "tcp", "FromPort": 8786, "ToPort": 8786} | rule
        cloud.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])
    return group


def prefix_list(cloud: Cloud, *blocks: str) -> dict[str, Any]:
    made = cloud.ec2.create_managed_prefix_list(
        PrefixListName="own", MaxEntries=9, AddressFamily="IPv4", Entries=[{"Cidr": each} for each in blocks]
    )
    return {"PrefixListIds": [{"PrefixListId": made["PrefixList"]["PrefixListId"]}]}


def addresses(*blocks: str, **more: Any) -> dict[str, Any]:
    return {"IpRanges": [{"CidrIp": each} for each in blocks]} | more


def test_the_world_in_pieces_is_the_world(opened: Opened, cloud: Cloud):
    group = own_group(cloud, addresses("16.0.0.0/8"), addresses("17.0.0.0/8", FromPort=8000, ToPort=9000))

    message = not_opened(opened(security_group=group))

    words = (
        "lets a large part of the internet in (16.0.0.0/8, 17.0.0.0/8, port 8786 to 8786, port 8000 to 9000)"
    )
    assert words in message
    assert 'say allow = "0.0.0.0/0" if that is what you want' in message


def test_what_a_prefix_list_lets_in_counts(opened: Opened, cloud: Cloud, gate: Gate):
    wide, narrow = prefix_list(cloud, "0.0.0.0/1", "203.0.113.7/32"), prefix_list(cloud, "203.0.113.7/32")
    group = own_group(cloud, wide)
    message = not_opened(opened(security_group=group))
    cloud.ec2.delete_security_group(GroupId=group)

    group = own_group(cloud, narrow)
    profile = Ec2Profile(name="team", image=IMAGE, security_group=group)
    ec2_groups.check_group(Account(None), profile, Place(cloud.subnet, cloud.vpc, ""))
    gate.refuses = lambda action, *_: (
        "UnauthorizedOperation" if action == "GetManagedPrefixListEntries" else None
    )
    denied = not_opened(opened(security_group=group))

    assert "lets a large part of the internet in (0.0.0.0/1, 203.0.113.7/32, port 8786 to 8786)" in message
    name = narrow["PrefixListIds"][0]["PrefixListId"]
    assert f"whom the security group {group} lets in by its prefix list {name} is not known" in denied
    assert "don't allow ec2:GetManagedPrefixListEntries" in denied


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        ({"worker_instance_type": "m7g.large"}, "is for x86_64, but m7g.large is arm64"),
        ({"worker_instance_type": "t3.smal"}, "t3.smal"),
        ({"ami": "ami-00000000000000000"}, "there is no image ami-00000000000000000 in us-east-1"),
        ({"subnet": "subnet-00000000"}, "there is no subnet subnet-00000000 in us-east-1"),
        ({"security_group": "sg-00000000"}, "there is no security group sg-00000000 in us-east-1"),
        ({"iam_instance_profile": "nobody"}, "ec2:RunInstances was refused in us-east-1"),
        ({"environment": {"LONG": "x" * 16000}}, "EC2 takes 16,384. Of these 16,005 are the profile's environment"),
    ],
)  # fmt: skip
def test_a_profile_that_does_not_fit_the_account_is_told_by_what_does_not(
    opened: Opened, cloud: Cloud, profile: dict[str, Any], words: str
):
    assert words in not_opened(opened(**profile))
    assert cloud.shown == set()
    assert cloud.left() == []


def test_without_credentials_or_region_that_is_what_is_told(opened: Opened, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert "There are no AWS credentials" in not_opened(opened())

    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "No AWS region is set" in not_opened(opened())


def test_a_store_on_this_machine_is_told_before_anything_starts(opened: Opened, cloud: Cloud, tmp_path: Path):
    opened()  # writes the profile
    from daskflow.clusters import Purpose

    with pytest.raises(ClusterError, match="can't see the store /tmp/store, a directory of this machine"):
        open_cluster("team", None, {}, Purpose(tmp_path, "/tmp/store", "ada", print))


@pytest.mark.slow
def test_workers_go_when_there_is_nothing_to_do_and_come_again(opened: Opened, cloud: Cloud, tmp_path: Path):
    def waits_for(file: Path, _: int) -> int:
        import time

        while not file.exists():
            time.sleep(0.05)
        return 1

    with opened(min_workers=0, max_workers=2, idle_worker="1 second") as client:
        works = client.map(waits_for, [tmp_path / "go"] * 4, range(4), pure=False)
        wait_until(lambda: len(client.processing()) == 2 and all(client.processing().values()), PATIENCE)
        (tmp_path / "go").touch()
        assert sum(client.gather(works)) == 4
        del works
        wait_until(lambda: not cloud.running("worker"), PATIENCE)
        assert client.submit(lambda: 7).result(60) == 7


@pytest.mark.slow
def test_while_it_runs_no_more_workers_are_asked_for_than_ec2_may_have(
    opened: Opened, cloud: Cloud, told: list[str], tmp_path: Path
):
    with opened(max_machines=4), opened(min_workers=1, max_workers=3, max_machines=4) as client:
        assert told.pop() == "A scheduler and 1 worker start in EC2, us-east-1. It takes some minutes."
        told.clear()
        client.cluster.scale(3)
        wait_until(lambda: told, PATIENCE)

    assert told == [
        "EC2 has as many machines of this profile as may be, 4 (max_machines): no more workers for now."
    ]
    assert len(cloud.shown) == 4


def test_a_worker_that_ec2_refuses_later_is_told_and_the_others_go_on(
    opened: Opened, cloud: Cloud, gate: Gate, told: list[str]
):
    with opened(max_workers=2) as client:
        gate.refuses = lambda action, *_: "InsufficientInstanceCapacity" if action == "RunInstances" else None
        told.clear()  # that it starts
        client.cluster.scale(2)
        wait_until(lambda: told, PATIENCE)
        assert client.submit(lambda: 7).result(60) == 7

    assert "A worker could not be started. EC2 has no such machine to give" in told[0]
