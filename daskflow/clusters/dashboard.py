"""The pages of the Dask dashboard, loaded when someone looks.

Importing Bokeh takes half a second. The scheduler's HTTP server is there from the start; the first request for a page
imports Bokeh beside the running tasks, adds all stock pages and sends the browser there again.
"""

from __future__ import annotations

import asyncio
from typing import Any


def pages_on_demand(scheduler: Any) -> None:
    """Let a scheduler that was started without its dashboard add it at the first request for a page."""
    from tornado import web

    loading: list[asyncio.Task[None]] = []

    async def load() -> None:
        pages = await asyncio.get_running_loop().run_in_executor(None, _import_pages)
        pages.connect(scheduler.http_application, scheduler.http_server, scheduler, prefix="")

    class FirstLook(web.RequestHandler):
        async def get(self) -> None:
            if not loading:
                loading.append(asyncio.create_task(load()))
            await asyncio.shield(loading[0])
            first.wildcard_router.rules.clear()  # from now on the real pages answer
            self.redirect(self.request.uri or "/status")

    first = web.Application([(r"/(?!favicon|static|statics)[\w-]*", FirstLook)])
    scheduler.http_application.add_application(first)


def _import_pages() -> Any:
    import distributed.dashboard.scheduler

    return distributed.dashboard.scheduler
