"""The script that needs nothing but the AWS command line."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Any

    from tests.ec2.simulator import Cloud

SCRIPT = Path(__file__).parents[2] / "deploy" / "remove-everything.sh"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("aws") is None, reason="there is no AWS command line")
def test_all_that_is_marked_is_removed_and_nothing_else(
    opened: Callable[..., AbstractContextManager[Any]], cloud: Cloud
):
    own = cloud.ec2.create_security_group(GroupName="own", Description="own", VpcId=cloud.vpc)["GroupId"]
    mark = [{"ResourceType": "volume", "Tags": [{"Key": "daskflow", "Value": "lost"}]}]
    cloud.ec2.create_volume(AvailabilityZone="us-east-1a", Size=1, TagSpecifications=mark)

    with opened():
        assert len(cloud.left()) > 3
        done = subprocess.run(
            [SCRIPT, "us-east-1"],
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        left = cloud.left()

    assert done.returncode == 0, done.stderr
    assert "us-east-1: nothing of daskflow is left." in done.stdout
    assert left == []
    assert [each["GroupId"] for each in cloud.groups()] == [own]
