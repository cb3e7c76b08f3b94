"""An SSH server on loopback that runs what it is told to. Arguments: folder with host key and authorized keys; writes its port there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import asyncssh


async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run the command until it ends, or until its client is gone."""
    child = await asyncio.create_subprocess_shell(
        process.command or "true",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    ended, gone = asyncio.create_task(child.wait()), asyncio.create_task(process.channel.wait_closed())
    await asyncio.wait([ended, gone], return_when=asyncio.FIRST_COMPLETED)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
    process.exit(await child.wait())


async def serve(folder: Path) -> None:
    """Until the process is ended."""
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[str(folder / "host")],
        authorized_client_keys=str(folder / "authorized_keys"),
        process_factory=run,
        encoding=None,
    )
    written = folder / "port.new"
    written.write_text(str(server.get_port()))
    written.rename(folder / "port")
    await server.wait_closed()


asyncio.run(serve(Path(sys.argv[1])))
