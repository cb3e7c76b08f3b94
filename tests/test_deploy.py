"""What deploy/ says goes with what the code does."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daskflow.clusters.profiles import PYTHON
from tests.wheels import asked_for, wheel

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
BESIDE = {
    "ec2:CreateTags",  # by the calls that create
    "iam:PassRole",  # by the calls that start
}
STORE = {"s3:ListBucket", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject", "s3:AbortMultipartUpload"}
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
    assert actions("policy-driver.json") == called() | BESIDE | STORE


def test_whatever_changes_something_is_allowed_only_on_what_is_marked():
    for each in statements("policy-driver.json"):
        words = json.dumps(each["Action"])
        if "Terminate" in words or "Delete" in words or "Authorize" in words:
            assert each["Condition"] == {"Null": {"aws:ResourceTag/daskflow": "false"}}


def test_the_machines_may_reach_the_store_and_get_their_image():
    others = actions("policy-machines.json") - STORE

    assert actions("policy-machines.json") >= STORE
    assert all(each.startswith("ecr:") for each in others)


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
