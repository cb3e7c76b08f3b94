"""Run a flow whose page in the dashboard is held open by a websocket client, or by nobody.

Prints the seconds from the flow's first line to its end, and what the client was sent. Arguments: `open` or `closed`, and the
command that runs the flow.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
import urllib.request
from urllib.parse import urlsplit

from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

LOOK_SECONDS = 20
CLOSE_SECONDS = 1


async def watch(address: str, seen: dict[str, int]) -> None:
    """Hold the page open, as a browser does, until the dashboard goes away."""
    try:
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(address, timeout=LOOK_SECONDS).read())
    except OSError:  # the run was over before its page was loaded
        return
    token = re.search(rb'"token":\s*"([^"]+)"', page)
    assert token is not None, page[:1000]
    parts = urlsplit(address)
    where = HTTPRequest(
        f"ws://{parts.netloc}{parts.path}/ws?{parts.query}",
        headers={"Origin": f"{parts.scheme}://{parts.netloc}"},
    )
    socket = await websocket_connect(
        where, subprotocols=["bokeh", token[1].decode()], max_message_size=1 << 28
    )
    seen["page"] = len(page)
    while (message := await socket.read_message()) is not None:
        seen["messages"] += 1
        seen["bytes"] += len(message)


async def main(how: str, command: list[str]) -> None:
    """Run the flow, and watch it if it is to be watched."""
    seen = {"page": 0, "messages": 0, "bytes": 0}
    began = time.perf_counter()
    flow = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert flow.stdout is not None
    watching = None
    async for line in flow.stdout:
        found = re.search(rb"Dashboard: (\S+)", line)
        if found is not None:
            began = time.perf_counter()
            if how == "open":
                watching = asyncio.create_task(watch(found[1].decode(), seen))
    status = await flow.wait()
    took = time.perf_counter() - began
    if watching is not None:  # a cluster that goes on leaves the page open
        over, _ = await asyncio.wait([watching], timeout=CLOSE_SECONDS)
        await asyncio.gather(*over)
        watching.cancel()
    if status:
        sys.exit(f"the flow ended with {status}")
    print(f"seconds={took}")
    for name, number in seen.items():
        print(f"{name}={number}")


asyncio.run(main(sys.argv[1], sys.argv[2:]))
