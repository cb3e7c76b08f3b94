"""By default we reach a scheduler by its public address, and the workers reach it by its private one.

Addresses of EC2 are only there in a network namespace of our own, in which they all lead to loopback.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.ec2.simulator import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tests.ec2.simulator import Cloud

INSIDE = "TEST_OWN_NETWORK"
PUBLIC = "54.214.0.0/16"
"""What moto gives."""
NAMESPACE = f'ip link set lo up && ip route add local {PUBLIC} dev lo && exec "$@"'
UNSHARE = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", NAMESPACE, "sh"]


@pytest.mark.slow
@pytest.mark.open_to_others
@pytest.mark.skipif(
    INSIDE not in os.environ
    and subprocess.run([*UNSHARE, "true"], check=False, capture_output=True).returncode != 0,
    reason="the system gives nobody a network namespace (unshare, ip)",
)
def test_a_scheduler_is_reached_by_its_public_and_its_private_address(request: pytest.FixtureRequest):
    if INSIDE in os.environ:
        return reach(request.getfixturevalue("opened"), request.getfixturevalue("cloud"))
    done = subprocess.run(
        [*UNSHARE, sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", Path(__file__)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        | {INSIDE: "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    return None


def reach(opened: Callable[..., AbstractContextManager[Any]], cloud: Cloud) -> None:
    cloud.public = True
    with opened(private=False, allow="203.0.113.7/32") as client:
        [scheduler] = cloud.running("scheduler")
        [machine] = [each for each in cloud.instances() if each["InstanceId"] == scheduler.id]
        assert client.scheduler.address == f"tls://{machine['PublicIpAddress']}:8786"
        [worker] = cloud.running("worker")
        assert f"tls://{scheduler.address}:8786" in (worker.folder / "user-data").read_text()
        assert client.submit(lambda: 7).result(60) == 7
    assert cloud.left() == []
