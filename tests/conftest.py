"""Settings that hold for all tests."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from listeners import Watcher, watcher
from s3server import Bucket, Proxy, bucket_at, moto, proxy_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# Machines are noisy: no test asserts how long something takes.
settings.register_profile("daskflow", deadline=None)
settings.load_profile("daskflow")

# Whose flows run here, and whose runs the client shows.
os.environ["DASKFLOW_USER"] = "ada"

# A run below nohup ignores a hang-up, as it should; those that the tests start must not.
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def listeners() -> Iterator[Watcher]:
    """Sees whatever listens where others could reach it."""
    with watcher() as found:
        yield found
        assert found.seen() == []  # since the last test


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Generator[None, None, None]:
    """A test fails during which something listens where others could reach it."""
    yield
    seen = item.funcargs["listeners"].seen()
    if seen and item.get_closest_marker("open_to_others") is None:
        pytest.fail("Others could reach " + "; ".join(seen), pytrace=False)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server: the one that the environment names, or one of our own."""
    if address := os.environ.get("TEST_S3_SERVER"):
        yield address
        return
    with moto() as address:
        yield address


@pytest.fixture
def bucket(s3_server: str) -> Iterator[Bucket]:
    """A bucket of one's own, which this process and those that it starts can reach."""
    with bucket_at(s3_server) as found:
        yield found


@pytest.fixture
def proxy(s3_server: str) -> Iterator[Proxy]:
    """A proxy before the S3 server; who uses it names its address."""
    with proxy_of(s3_server) as found:
        yield found
