"""A cloud on this machine in which each test leaves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from s3server import moto

from daskflow.clusters import Purpose, open_cluster
from tests.ec2.gate import Gate, gate_before
from tests.ec2.simulator import Cloud, cloud_of
from tests.ec2.tables import toml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from s3server import Bucket


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A server of our own, which knows EC2 as well."""
    with moto() as address:
        yield address


@pytest.fixture
def cloud(bucket: Bucket) -> Iterator[Cloud]:
    with cloud_of(bucket) as found:
        yield found
        assert found.left() == []


@pytest.fixture
def gate(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Before the cloud's EC2."""
    with gate_before(s3_server) as found:
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", found.address)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", found.address)
        yield found


@pytest.fixture
def told() -> list[str]:
    """What the user was told."""
    return []


@pytest.fixture
def opened(
    cloud: Cloud, bucket: Bucket, tmp_path: Path, told: list[str]
) -> Callable[..., AbstractContextManager[Any]]:
    """Opens a cluster whose profile says this, beside what it takes to start here."""

    def cluster(**more: Any) -> AbstractContextManager[Any]:
        values = {key: value for key, value in cloud.profile(**more).items() if value is not None}
        (tmp_path / "daskflow.toml").write_text(toml({"team": values}))
        return open_cluster("team", None, {}, Purpose(tmp_path, bucket.url(), "ada", told.append))

    return cluster
