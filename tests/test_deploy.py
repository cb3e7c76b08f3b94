"""What deploy/ says goes with what the code does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from daskflow import Flow, default_namespace, namespace
from daskflow.clusters.profiles import PYTHON
from daskflow.errors import OverwrittenWarning
from daskflow.store.storage import storage_at
from tests.wheels import asked_for, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3server import Asked, Bucket, Proxy

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
BESIDE = {
    "ec2:CreateTags",  # by the calls that create
    "iam:PassRole",  # by the calls that start
}
PREFIX = "PREFIX"
"""The store's, as the policies write it."""
ASKED_OF_A_BUCKET = {
    "list-type",
    "prefix",
    "delimiter",
    "continuation-token",
    "encoding-type",
    "max-keys",
    "start-after",
}
NEEDED = {
    ("GET", ""): "s3:GetObject",
    ("HEAD", ""): "s3:GetObject",
    ("GET", "versionId"): "s3:GetObjectVersion",
    ("HEAD", "versionId"): "s3:GetObjectVersion",
    ("PUT", ""): "s3:PutObject",
    ("PUT", "partNumber uploadId"): "s3:PutObject",
    ("POST", "uploads"): "s3:PutObject",
    ("POST", "uploadId"): "s3:PutObject",
    ("DELETE", "uploadId"): "s3:AbortMultipartUpload",
    ("DELETE", ""): "s3:DeleteObject",
}
"""What one has to be allowed for a request about an object, by its method and what it says after the ``?``.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
"""
FLOW = """
    import os

    import pandas as pd

    from daskflow import FlowSpec, step


    class F(FlowSpec):
        @step
        def start(self):
            self.large = os.urandom(20 << 20)
            self.frame = pd.DataFrame({"a": range(3)})
            self.items = [1, 2]
            self.next(self.work, foreach="items")

        @step
        def work(self):
            print("at work")
            self.table = pd.DataFrame({"a": range(self.input)})
            self.next(self.gather)

        @step
        def gather(self, inputs):
            self.table = inputs.concat("table")
            self.next(self.end)

        @step
        def end(self):
            pass


    if __name__ == "__main__":
        F()
"""
PREFIXES = {"ssm": "ssm", "service-quotas": "servicequotas"}


def statements(policy: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DEPLOY / policy).read_text())["Statement"]
    return found


def actions(policy: str) -> set[str]:
    found: set[str] = set()
    for each in statements(policy):
        found |= {each["Action"]} if isinstance(each["Action"], str) else set(each["Action"])
    return found


def called() -> set[str]:
    """The actions that the code carries out."""
    found = set()
    for file in (ROOT / "daskflow" / "clusters").glob("ec2*.py"):
        text = file.read_text()
        calls = re.findall(
            r'\.(?:call|pages|ask_only|_call_with_group)\(\s*"(\w+)"[,)](?:\s*"(ssm|service-quotas)")?', text
        )
        for operation, service in calls:
            name = "".join(word.capitalize() for word in operation.split("_"))
            found.add(f"{PREFIXES.get(service, 'ec2')}:{name}")
    return found


def test_the_drivers_policy_allows_what_the_code_does_and_nothing_else():
    assert "ec2:RunInstances" in called()
    assert actions("policy-driver.json") - of_s3("policy-driver.json") == called() | BESIDE


def test_whatever_changes_something_is_allowed_only_on_what_is_marked():
    for each in statements("policy-driver.json"):
        words = json.dumps(each["Action"])
        if "Terminate" in words or "Delete" in words or "Authorize" in words:
            assert each["Condition"] == {"Null": {"aws:ResourceTag/daskflow": "false"}}


def test_the_machines_may_reach_the_store_and_get_their_image():
    others = actions("policy-machines.json") - of_s3("policy-machines.json")

    assert others
    assert all(each.startswith("ecr:") for each in others)


def of_s3(policy: str) -> set[str]:
    return {each for each in actions(policy) if each.startswith("s3:")}


def needed(asked: Asked) -> tuple[str, str]:
    """What one has to be allowed for a request, and on what."""
    said = parse_qs(asked.query, keep_blank_values=True)
    headers = {name.lower() for name in asked.headers}
    assert not headers & {"x-amz-acl", "x-amz-tagging", "x-amz-copy-source"}, "needs more rights"
    said.pop("x-id", None)
    if not asked.key:
        assert asked.method in ("GET", "HEAD"), asked
        assert set(said) <= ASKED_OF_A_BUCKET, asked
        assert said.get("prefix", [f"{PREFIX}/"])[0].startswith(f"{PREFIX}/"), asked
        return "s3:ListBucket", "arn:aws:s3:::BUCKET"
    assert asked.key.startswith(f"{PREFIX}/"), asked
    return NEEDED[asked.method, " ".join(sorted(said))], f"arn:aws:s3:::BUCKET/{PREFIX}/*"


@pytest.fixture
def every_namespace() -> Iterator[None]:
    namespace(None)
    yield
    default_namespace()


@pytest.mark.slow
@pytest.mark.usefixtures("every_namespace")
def test_of_s3_the_policies_allow_what_is_asked_of_it_and_nothing_else(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    bucket.versioned()
    url = bucket.url(PREFIX)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
    (tmp_path / "flow.py").write_text(textwrap.dedent(FLOW))

    for words in (
        "run",
        "resume --origin-run-id 1 work",
        "logs 1/work/0",
        "dump 1/gather/0",
        "tag add --run-id 1 good",
    ):
        command(tmp_path, "flow.py", "--datastore", url, *words.split())
    read_in_every_way(url, bucket)
    with pytest.raises(ZeroDivisionError), storage_at(url).writer("F/1/lost") as file:
        file.write(bytes(20 << 20))
        raise ZeroDivisionError

    found = {needed(each) for each in proxy.asked}
    for policy in ("policy-driver.json", "policy-machines.json"):
        assert found == allowed_of_s3(policy), policy


def command(folder: Path, *words: str) -> None:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "DASKFLOW_USER": "ada"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def read_in_every_way(url: str, bucket: Bucket) -> None:
    import pandas as pd

    from daskflow.client.sql import query

    run = Flow("F", store=url)["1"]
    assert len(run["start"].task.data.large) == 20 << 20
    frame, of_dask = run["start"].task.artifacts.frame, run["gather"].task.artifacts.table
    for rows in (
        frame.data,
        frame.head(),
        frame.scan().collect(),
        frame.dataset().to_table(),
        frame.dask().compute(),
        pd.read_parquet(frame.path, storage_options=frame.storage_options),
        of_dask.data.compute(),
        query("select * from gather.table", "F", ["1"], url).rows,
    ):
        assert len(rows) == 3
    assert len(run.to_pandas()) == 5
    key = frame.path.removeprefix(f"s3://{bucket.name}/")
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"overwritten")
    with pytest.warns(OverwrittenWarning):
        assert len(Flow("F", store=url)["1"]["start"].task.data.frame) == 3


def allowed_of_s3(policy: str) -> set[tuple[str, str]]:
    found = set()
    for each in statements(policy):
        for action in [each["Action"]] if isinstance(each["Action"], str) else each["Action"]:
            if action.startswith("s3:"):
                found.add((action, each["Resource"]))
    return found


@pytest.mark.parametrize(
    ("script", "needs"), [("remove-everything.sh", "REGION"), ("machine-image.sh", "REQUIREMENTS_FILE")]
)
def test_a_script_can_be_read_by_a_plain_shell(script: str, needs: str):
    subprocess.run(["sh", "-n", DEPLOY / script], check=True)

    usage = subprocess.run([DEPLOY / script], check=False, capture_output=True, text=True)
    assert usage.returncode == 2
    assert needs in usage.stderr


OWN_OPT = 'mount -t tmpfs none /opt && exec "$@"'
UNSHARE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", OWN_OPT, "sh"]


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode != 0,
    reason="the system gives nobody a folder /opt of his own (unshare)",
)
def test_a_machine_gets_the_packages_that_are_asked_for(tmp_path: Path):
    wheel(tmp_path / "wheels", "distributed", "2")
    own = wheel(tmp_path, "daskflow", "1")
    asked_for(tmp_path / "requirements.txt", "distributed")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, does in {"dnf": "", "cloud-init": "", "python3.99": f'exec {sys.executable} "$@"'}.items():
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*"\n{does}\n')
        (programs / name).chmod(0o755)

    done = subprocess.run(
        [*UNSHARE, DEPLOY / "machine-image.sh", "3.99", "requirements.txt", own.name],
        cwd=tmp_path,
        env={"PATH": f"{programs}:/usr/bin:/bin", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "dnf install --assumeyes python3.99 python3.99-pip" in done.stdout
    assert "cloud-init clean" in done.stdout
    assert done.stdout.endswith("/opt/daskflow is complete.\n")


def test_a_machine_image_has_its_python_where_a_profile_looks_for_it():
    assert f'{PYTHON} -c "import daskflow, distributed"' in (DEPLOY / "machine-image.sh").read_text()
