"""Clusters that stay: found by their tags, used by many, ended by anybody with the credentials."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from daskflow import Task, default_namespace, namespace
from daskflow.clusters import ec2_check, ec2_groups, profiles
from daskflow.clusters.ec2_account import Account
from tests.ec2.simulator import PATIENCE, ROOT
from tests.ec2.tables import toml
from tests.watching import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3server import Bucket

    from tests.ec2.gate import Gate
    from tests.ec2.simulator import Cloud

pytestmark = pytest.mark.timeout(300)
FLOW = """
    import os
    from daskflow import FlowSpec, step


    class F(FlowSpec):
        @step
        def start(self):
            self.home = os.environ["HOME"]
            self.next(self.end)

        @step
        def end(self):
            pass


    if __name__ == "__main__":
        F()
"""
TOOL = [sys.executable, "-c", "from daskflow.cli.tool import main; main()"]


@pytest.fixture
def every_namespace() -> Iterator[None]:
    namespace(None)
    yield
    default_namespace()


@pytest.fixture
def folder(tmp_path: Path, cloud: Cloud) -> Path:
    (tmp_path / "flow.py").write_text(textwrap.dedent(FLOW))
    configure(tmp_path, cloud)
    return tmp_path


def configure(folder: Path, cloud: Cloud, **more: Any) -> None:
    (folder / "daskflow.toml").write_text(toml({"team": cloud.profile(max_workers=3) | more}))


def environment(user: str) -> dict[str, str]:
    beats = {"DASK_DISTRIBUTED__CLIENT__HEARTBEAT": "50ms"}  # many in a run, as in one that takes longer
    return os.environ | beats | {"PYTHONPATH": ROOT, "DASKFLOW_USER": user}


def tool(folder: Path, *words: str, user: str = "ada", fails: bool = False) -> str:
    """What ``daskflow cluster`` prints."""
    done = subprocess.run(
        [*TOOL, "cluster", *words],
        cwd=folder,
        env=environment(user),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stdout
    assert "Traceback" not in done.stdout
    return done.stdout


def run(folder: Path, bucket: Bucket, user: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "flow.py", "--datastore", bucket.url(user), "run", "--cluster", "team"],
        cwd=folder,
        env=environment(user),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.usefixtures("every_namespace")
def test_a_cluster_that_stays_is_used_by_two_people_and_ended_by_either(
    folder: Path, bucket: Bucket, cloud: Cloud
):
    up = tool(folder, "up", "team")
    assert "The cluster 'team' is up. Without a task for" in up
    assert "and after 7 days in any case" in up
    assert "'team' of ada is up already" in tool(folder, "up", "team", user="bob", fails=True)

    runs = {user: run(folder, bucket, user) for user in ("ada", "bob")}
    outputs = {user: each.communicate(timeout=PATIENCE)[0] for user, each in runs.items()}

    for user, each in runs.items():
        assert each.returncode == 0, outputs[user]
        assert "The cluster 'team' of ada is up, since" in outputs[user]
        assert "Traceback" not in outputs[user]
        home = Task("F/1/start/0", store=bucket.url(user)).data.home
        assert Path(home).parent == cloud.folder
    assert len(cloud.shown) == 2
    assert "'team' of ada has ended: 2 machines" in tool(folder, "down", "team", user="bob")
    assert cloud.left() == []


@pytest.mark.slow
def test_a_cluster_that_stays_is_looked_at_and_scaled_by_anybody(folder: Path, cloud: Cloud):
    tool(folder, "up", "team")

    assert "had 1 worker, and gets 2" in tool(folder, "scale", "team", "2", user="bob")
    wait_until(lambda: len(cloud.running("worker")) == 2, PATIENCE)
    listed = tool(folder, "ls", user="bob").splitlines()[1].split()
    assert (listed[:2], listed[3:6]) == (["team", "ada"], ["everybody", "3", "us-east-1"])
    [told] = map(json.loads, tool(folder, "ls", "--json").splitlines())
    assert (told["name"], told["owner"], told["shared"], len(told["workers"])) == ("team", "ada", True, 2)
    assert "[scheduler]" in tool(folder, "logs", "team")
    assert f"--- {cloud.running('scheduler')[0].id}" in tool(folder, "logs", "team", "--console")
    assert "gets 1" in tool(folder, "scale", "team", "1")
    wait_until(lambda: len(cloud.running("worker")) == 1, PATIENCE)

    tool(folder, "down", "team", user="bob")
    assert cloud.left() == []
    assert "There is no cluster." in tool(folder, "ls")
    assert "No cluster 'team' is up" in tool(folder, "down", "team", fails=True)


@pytest.mark.slow
def test_machines_whose_image_has_its_python_itself_are_shared_too(
    folder: Path, bucket: Bucket, cloud: Cloud, every_namespace: None
):
    (folder / "daskflow.toml").write_text(toml({"team": cloud.profile_of_ami(max_workers=3)}))
    tool(folder, "up", "team")

    joined = run(folder, bucket, "bob")
    output, _ = joined.communicate(timeout=PATIENCE)

    assert joined.returncode == 0, output
    assert "gets 2" in tool(folder, "scale", "team", "2", user="bob")
    wait_until(lambda: len(cloud.running("worker")) == 2, PATIENCE)
    assert "[scheduler]" in tool(folder, "logs", "team")
    assert f"--- {cloud.running('scheduler')[0].id}" in tool(folder, "logs", "team", "--console")
    tool(folder, "down", "team")
    assert cloud.left() == []


@pytest.mark.slow
def test_workers_that_somebody_adds_belong_to_who_has_the_cluster(folder: Path, cloud: Cloud):
    configure(folder, cloud, max_machines=3)
    tool(folder, "up", "team")

    assert "ada has 2 of profile 'team'" in tool(folder, "scale", "team", "3", user="bob", fails=True)
    tool(folder, "scale", "team", "2", user="bob")

    assert "There is no cluster of bob." in tool(folder, "down", "--all", user="bob")
    assert "'team' of ada has ended: 3 machines" in tool(folder, "down", "--all")
    assert cloud.left() == []


@pytest.mark.slow
def test_a_run_on_a_cluster_without_workers_says_how_to_add_some_and_waits(
    folder: Path, bucket: Bucket, cloud: Cloud
):
    tool(folder, "up", "team")
    assert "had 1 worker, and gets 0" in tool(folder, "scale", "team", "0")

    with run(folder, bucket, "ada") as started:
        assert started.stdout is not None
        lines = iter(started.stdout)
        assert any("It has no worker: 'daskflow cluster scale team N' adds some." in line for line in lines)
        tool(folder, "scale", "team", "1")
        rest = "".join(lines)

    assert "Done! F/1" in rest
    tool(folder, "down", "team")
    assert cloud.left() == []


@pytest.mark.slow
def test_its_dashboard_is_seen_on_this_machine(folder: Path, cloud: Cloud):
    tool(folder, "up", "team")

    with subprocess.Popen(
        [*TOOL, "cluster", "dashboard", "team"],
        cwd=folder,
        env=environment("bob"),
        stdout=subprocess.PIPE,
        text=True,
    ) as shown:
        assert shown.stdout is not None
        link = shown.stdout.readline().split()[0]
        with urllib.request.urlopen(link, timeout=30) as page:
            assert "Dask" in page.read().decode()
        shown.send_signal(signal.SIGINT)
        assert shown.wait(30) == 0

    tool(folder, "down", "--all")


@pytest.mark.parametrize("order", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_stopped_leaves_nothing(folder: Path, cloud: Cloud, order: signal.Signals):
    cloud.boots = False
    with subprocess.Popen([*TOOL, "cluster", "up", "team"], cwd=folder, env=environment("ada")) as started:
        wait_until(lambda: cloud.shown, PATIENCE)
        started.send_signal(order)
        assert started.wait(60) == 130

    assert cloud.left() == []


def test_an_order_to_stop_waits_until_it_is_known_what_was_made(folder: Path, cloud: Cloud, gate: Gate):
    orders: list[str] = []

    def stops(action: str, *_: object) -> None:
        if action == "CreateSecurityGroup":
            started.send_signal(signal.SIGINT)
            orders.append(action)

    gate.refuses = stops
    with subprocess.Popen([*TOOL, "cluster", "up", "team"], cwd=folder, env=environment("ada")) as started:
        assert started.wait(60) == 130

    assert orders
    assert cloud.left() == []


def test_it_is_seen_and_ended_from_any_machine_with_the_credentials(
    folder: Path, cloud: Cloud, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    tool(folder, "up", "team")
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    assert tool(elsewhere, "ls", user="bob").splitlines()[1].split()[:2] == ["team", "ada"]
    assert "There is no cluster of bob." in tool(elsewhere, "down", "--all", user="bob")
    assert "'team' of ada has ended" in tool(elsewhere, "down", "--all", "--owner", "ada", user="bob")
    assert cloud.left() == []
    assert {each.name for each in folder.iterdir()} == {"daskflow.toml", "flow.py"}


@pytest.mark.slow
def test_a_worker_that_ec2_refuses_ends_what_was_started(folder: Path, cloud: Cloud, gate: Gate):
    gate.refuses = lambda action, _, count: (
        "VcpuLimitExceeded" if (action, count) == ("RunInstances", 3) else None
    )

    output = tool(folder, "up", "team", "--workers", "3", fails=True)

    assert "A quota of your account in us-east-1 is used up" in output
    assert cloud.left() == []


def test_a_security_group_that_could_not_be_removed_goes_when_all_of_its_owner_is_ended(
    folder: Path, cloud: Cloud, gate: Gate
):
    cloud.boots = False
    refused = {"RunInstances": "VcpuLimitExceeded", "DeleteSecurityGroup": "UnauthorizedOperation"}
    gate.refuses = lambda action, *_: refused.get(action)
    output = tool(folder, "up", "team", fails=True)
    gate.refuses = lambda *_: None
    [group] = cloud.left()
    account = Account("us-east-1")

    assert f"The machines have ended, their security group {group} is left: Your AWS credentials" in output
    assert "'daskflow cluster down --all --region us-east-1' removes it." in output
    assert ec2_groups.remove_abandoned_groups(account) == []  # somebody may just be starting it
    assert group not in tool(folder, "down", "--all", user="bob")
    assert f"The security group {group} was left" in tool(folder, "down", "--all", "--region", "us-east-1")
    assert cloud.left() == []


@pytest.mark.slow
def test_the_security_group_of_machines_that_are_there_stays(folder: Path, cloud: Cloud):
    tool(folder, "up", "team")

    assert ec2_groups.remove_groups_of(Account("us-east-1"), "ada") == []

    assert "'team' of ada has ended: 2 machines" in tool(folder, "down", "--all")
    assert cloud.left() == []


@pytest.mark.slow
def test_no_more_workers_are_added_than_may_be(folder: Path, cloud: Cloud):
    configure(folder, cloud, max_machines=3)
    tool(folder, "up", "team")

    assert "allows 3 workers (max_workers)" in tool(folder, "scale", "team", "4", fails=True)
    assert "2 workers more are more machines than may be" in tool(folder, "scale", "team", "3", fails=True)

    assert len(cloud.shown) == 2
    tool(folder, "down", "team")


def test_a_profile_is_checked_against_the_account_and_nothing_starts(folder: Path, cloud: Cloud, gate: Gate):
    good = tool(folder, "check", "team")
    gate.refuses = lambda action, *_: "UnauthorizedOperation" if action == "CreateSecurityGroup" else None
    denied = tool(folder, "check", "team", fails=True)
    configure(folder, cloud, worker_instance_type="m7g.large")
    unfit = tool(folder, "check", "team", fails=True)

    assert "FAILED" not in good
    assert f"t3.small ({cloud.ami}, 2 threads) in {cloud.subnet} of {cloud.vpc}" in good
    assert "ok      scheduler: can be started" in good
    assert "FAILED  security group: Your AWS credentials don't allow ec2:CreateSecurityGroup" in denied
    assert "FAILED  image, types and subnet: " in unfit
    assert "m7g.large is arm64" in unfit
    assert cloud.shown == set()


def checked(folder: Path, user: str = "ada") -> dict[str, ec2_check.Finding]:
    """What is found, by what it is of."""
    profile = profiles.find("team", folder, {})
    assert isinstance(profile, profiles.Ec2Profile)
    return {each.what: each for each in ec2_check.findings(Account(profile.region), profile, user)}


RIGHTS = {
    "to end machines": "TerminateInstances",
    "to open the security group": "AuthorizeSecurityGroupIngress",
    "to remove the security group": "DeleteSecurityGroup",
}


@pytest.mark.parametrize("code", ["UnauthorizedOperation", "InvalidInstanceID.NotFound"])
def test_rights_that_show_only_on_something_that_is_there_are_not_known_before(
    folder: Path, cloud: Cloud, gate: Gate, code: str
):
    allowed = checked(folder)
    gate.refuses = lambda action, *_: code if action in RIGHTS.values() else None

    found = checked(folder)

    for what in RIGHTS:
        thing = "i" if "machines" in what else "sg"
        words = f"not known: nothing of yours is there to try it on, and of {thing}-00000000000000000 EC2 says {code}"
        assert allowed[what].state == "ok"
        assert (found[what].state, found[what].found) == ("unknown", words)
    assert cloud.left() == []


@pytest.mark.slow
def test_rights_are_tried_on_what_is_there(folder: Path, cloud: Cloud, gate: Gate):
    tool(folder, "up", "team")
    there = cloud.left()
    tried: list[dict[str, str]] = []

    def denies(action: str, arguments: dict[str, str], _: int) -> str | None:
        if action not in RIGHTS.values():
            return None
        tried.append(arguments)
        return "UnauthorizedOperation"

    gate.refuses = denies
    ours, others = checked(folder), checked(folder, "bob")
    gate.refuses = lambda *_: None
    allowed = checked(folder)

    for what, action in RIGHTS.items():
        assert ours[what].state == "failed"
        assert f"don't allow ec2:{action}" in ours[what].found
        assert others[what].state == "unknown"
        assert allowed[what].state == "ok"
    assert {each["DryRun"] for each in tried} == {"true"}
    assert {each.get("InstanceId.1") or each["GroupId"] for each in tried} <= set(there)
    assert cloud.left() == there
    tool(folder, "down", "team")


def test_rights_on_a_security_group_of_ones_own_are_not_needed(folder: Path, cloud: Cloud):
    group = cloud.ec2.create_security_group(GroupName="own", Description="own", VpcId=cloud.vpc)["GroupId"]
    configure(folder, cloud, security_group=group)

    assert not {"to open the security group", "to remove the security group"} & set(checked(folder))


def test_a_quota_that_we_may_not_read_is_not_known_and_no_failure(
    folder: Path, cloud: Cloud, gate: Gate, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", gate.address)
    gate.refuses = lambda action, *_: "AccessDeniedException" if "GetServiceQuota" in action else None

    lines = tool(folder, "check", "team").splitlines()
    objects = [json.loads(line) for line in tool(folder, "check", "team", "--json").splitlines()]

    words = "not known: Your AWS credentials don't allow servicequotas:GetServiceQuota in us-east-1."
    assert lines[-1].startswith(f"?       quota: {words}")
    assert objects[-1]["found"].startswith(words)
    assert (objects[-1]["what"], objects[-1]["state"]) == ("quota", "unknown")
    assert {each["state"] for each in objects[:-1]} == {"ok"}
    assert cloud.shown == set()


def test_what_is_no_profile_of_ec2_is_told(folder: Path):
    assert "has a profile [cluster.teem]. Did you mean 'team'?" in tool(folder, "up", "teem", fails=True)
    (folder / "daskflow.toml").write_text('[cluster.hpc]\nclass = "a.B"')
    assert "The profile 'hpc' is a class, a.B" in tool(folder, "up", "hpc", fails=True)
    assert "Give either the NAME of a cluster, or --all" in tool(folder, "down", fails=True)
