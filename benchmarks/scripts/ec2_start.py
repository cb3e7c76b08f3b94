"""Seconds until a scheduler and its workers have booted in a simulated EC2, and the calls of EC2's interface that it took.

Arguments: the folder that has `tests/`, how many workers, and who starts them: `daskflow`, or `stock` for dask-cloudprovider alone.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT, WORKERS, WHO = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sys.path[:0] = [ROOT, f"{ROOT}/tests"]

from s3server import bucket_at, moto  # noqa: E402 - they are found now

from tests.ec2.gate import gate_before  # noqa: E402 - as above
from tests.ec2.simulator import IMAGE, Cloud, cloud_of  # noqa: E402 - as above
from tests.ec2.tables import toml  # noqa: E402 - as above

PATIENCE = 100


def of_container(container: list[str], address: str) -> str:
    """What a container of dask-cloudprovider's runs, bound to the machine's address."""
    words = container[container.index(IMAGE) + 1 :]
    if "--spec" in words:
        at = words.index("--spec") + 1
        spec = json.loads(words[at])
        spec.setdefault("opts", {})["host"] = address
        words[at] = json.dumps(spec)
    else:
        words += ["--host", address, "--dashboard-address", f"{address}:8787"]
    return shlex.join(sys.executable if word == "python" else word for word in words)


class Stock(Cloud):
    """A cloud whose machines get the user data of dask-cloudprovider, which is for cloud-init."""

    def user_data(self, machine: str) -> bytes:
        import yaml

        given = super().user_data(machine)
        if not given.startswith(b"#cloud-config"):
            return given
        [container, *after] = yaml.safe_load(given)["runcmd"]
        address = next(each["PrivateIpAddress"] for each in self.instances() if each["InstanceId"] == machine)
        return "\n".join([of_container(shlex.split(container), address), *after]).encode()


@contextmanager
def ours(cloud: Cloud, store: str) -> Iterator[Any]:
    """A cluster as a profile of daskflow starts it."""
    from daskflow.clusters import Purpose, open_cluster

    with tempfile.TemporaryDirectory() as name:
        profile = cloud.profile(min_workers=WORKERS, max_workers=WORKERS)
        (Path(name) / "daskflow.toml").write_text(toml({"team": profile}))
        with open_cluster("team", None, {}, Purpose(Path(name), store, "benchmark", print)) as client:
            yield client


@contextmanager
def theirs(cloud: Cloud) -> Iterator[Any]:
    """The same by dask-cloudprovider alone."""
    from dask_cloudprovider.aws import EC2Cluster
    from distributed import Client

    group = cloud.ec2.create_security_group(GroupName="stock", Description="stock", VpcId=cloud.vpc)
    cluster = EC2Cluster(
        region="us-east-1",
        ami=cloud.ami,
        vpc=cloud.vpc,
        subnet_id=cloud.subnet,
        security_groups=[group["GroupId"]],
        instance_type="t3.small",
        docker_image=IMAGE,
        use_private_ip=True,
        bootstrap=False,
        n_workers=WORKERS,
    )
    try:
        with Client(cluster) as client:
            yield client
    finally:
        cluster.close()


if __name__ == "__main__":
    import dask_cloudprovider.aws  # noqa: F401 - not part of what is measured

    with moto() as server, bucket_at(server) as bucket, gate_before(server) as gate:
        made = cloud_of(bucket, Stock if WHO == "stock" else Cloud)
        with made as cloud:
            os.environ["AWS_ENDPOINT_URL_EC2"] = gate.address
            began = time.perf_counter()
            opened = theirs(cloud) if WHO == "stock" else ours(cloud, bucket.url())
            with opened as client:
                client.wait_for_workers(WORKERS, timeout=PATIENCE)
                print(f"seconds={time.perf_counter() - began}")
                print(f"calls={sum(gate.asked.values())}")
            del os.environ["AWS_ENDPOINT_URL_EC2"]
