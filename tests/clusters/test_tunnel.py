"""The dashboard of a scheduler elsewhere, on this machine."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
from distributed import Client, LocalCluster

from daskflow.clusters.tunnel import dashboard_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def client() -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=0, protocol="tcp", host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_a_dashboard_is_reached_until_the_tunnel_is_closed(client: Client):
    with dashboard_of(client) as link, urllib.request.urlopen(link, timeout=30) as page:
        assert "Dask" in page.read().decode()

    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(link, timeout=30)


def test_a_tunnel_is_closed_where_its_connections_end(client: Client, monkeypatch: pytest.MonkeyPatch):
    # Elsewhere it goes wrong only if a connection ends in the same moment, which no test can bring about; so it is seen where.
    closed_in = []
    close = asyncio.Server.close

    def noted(server: asyncio.Server) -> None:
        closed_in.append(asyncio.get_running_loop())  # there is none in the thread of a test
        close(server)

    monkeypatch.setattr(asyncio.Server, "close", noted)
    with dashboard_of(client):
        pass

    assert closed_in == [client.loop.asyncio_loop]
