"""What deploy/ says goes with what the code does."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

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
            r'\.(?:call|pages|_ask_only|_call_with_group)\(\s*"(\w+)"[,)](?:\s*"(ssm|service-quotas)")?', text
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


@pytest.mark.parametrize("script", ["remove-everything.sh"])
def test_a_script_can_be_read_by_a_plain_shell(script: str):
    subprocess.run(["sh", "-n", DEPLOY / script], check=True)

    usage = subprocess.run([DEPLOY / script], check=False, capture_output=True, text=True)
    assert usage.returncode == 2
    assert "REGION" in usage.stderr
