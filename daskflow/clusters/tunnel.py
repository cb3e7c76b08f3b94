"""The dashboard of a scheduler elsewhere, on this machine's loopback.

The dashboard is plain HTTP without a password. So it listens where only its own machine can reach it, and its pages come through
the scheduler's port, which lets in who has the cluster's certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from distributed import SchedulerPlugin

from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATION = "daskflow_tunnel"
LOOPBACK = "127.0.0.1"
PIECE_BYTES = 1 << 16


class Exit(SchedulerPlugin):  # type: ignore[misc] # Dask has no types for its plugins
    """Lets a scheduler carry bytes between a connection to its port and its own dashboard."""

    name = "daskflow-tunnel"
    idempotent = True

    async def start(self, scheduler: Any) -> None:
        """Called on the scheduler."""

        async def tunnel(comm: Any) -> None:
            reader, writer = await asyncio.open_connection(
                scheduler.http_server.address, scheduler.http_server.port
            )
            await _carry(comm, reader, writer)

        scheduler.handlers[OPERATION] = tunnel


@contextlib.contextmanager
def dashboard_of(client: Any) -> Iterator[str]:
    """The URL, on this machine, of the dashboard of a client's scheduler.

    Raises :class:`ClusterError` if the scheduler has no daskflow.
    """
    try:
        client.register_plugin(Exit())
    except ImportError as error:
        raise ClusterError(
            f"The scheduler's image has no daskflow that is like this one: {error}. Install the same version there and here."
        ) from error
    server = client.sync(_open, client)
    try:
        yield f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/status"
    finally:
        client.sync(_close, server)


async def _open(client: Any) -> asyncio.Server:
    from distributed.comm import connect

    security = client.security.get_connection_args("client")

    async def enter(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            comm = await connect(client.scheduler.address, **security)
            await comm.write({"op": OPERATION, "reply": False})
        except OSError:  # the scheduler has gone
            writer.close()
            return
        await _carry(comm, reader, writer)

    return await asyncio.start_server(enter, LOOPBACK, 0)


async def _close(server: asyncio.Server) -> None:
    server.close()  # in its loop, where connections end at the same moment


async def _carry(comm: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes both ways until one side has no more."""

    async def out() -> None:
        while piece := await reader.read(PIECE_BYTES):
            await comm.write(piece)

    async def back() -> None:
        while True:
            writer.write(await comm.read())
            await writer.drain()

    ways = [asyncio.ensure_future(out()), asyncio.ensure_future(back())]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        comm.abort()
        writer.close()
