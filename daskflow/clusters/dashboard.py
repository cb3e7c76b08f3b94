"""The pages of the Dask dashboard, loaded when someone looks.

Importing Bokeh takes half a second. The scheduler's HTTP server is there from the start; the first request for a page
imports Bokeh beside the running tasks, adds all stock pages and sends the browser there again.
"""

from __future__ import annotations

import asyncio
from typing import Any

OTHERS = "daskflow"
"""A page that others add, with all below it."""
LOOKS, PAUSE_SECONDS = 40, 0.05
"""Who asks for it before it is there waits, so often."""


def pages_on_demand(scheduler: Any) -> None:
    """Let a scheduler that was started without its dashboard add it at the first request for a page.

    What is added to its HTTP server for that has a coroutine ``load_pages``, for others that need them, and calls what is in
    its list ``when_loaded`` then.
    """
    from tornado import web

    application = scheduler.http_application

    class StockPages(web.Application):
        def __init__(self) -> None:
            super().__init__(
                [(rf"/{OTHERS}(?:/.*)?", Soon), (r"/(?!favicon|static|statics)[\w-]*", FirstLook)]
            )
            self.when_loaded: list[Any] = []
            self._loading: asyncio.Task[None] | None = None

        async def load_pages(self) -> None:
            if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
                self._loading = asyncio.create_task(self._load())
            await asyncio.shield(self._loading)

        async def _load(self) -> None:
            pages = await asyncio.get_running_loop().run_in_executor(None, _import_pages)
            pages.connect(application, scheduler.http_server, scheduler, prefix="")
            for call in self.when_loaded:
                call()
            self.wildcard_router.rules.clear()  # from now on the real pages answer

    class FirstLook(web.RequestHandler):
        async def get(self) -> None:
            await stock.load_pages()
            self.redirect(self.request.uri or "/status")

    class Soon(web.RequestHandler):
        async def get(self) -> None:
            for _ in range(LOOKS):
                if any(hasattr(each, OTHERS) for each in application.applications):
                    self._auto_finish = False  # whoever has come answers, also a websocket
                    application.find_handler(self.request).execute()
                    return
                await asyncio.sleep(PAUSE_SECONDS)
            self.send_error(404)

    stock = StockPages()
    application.add_application(stock)


def _import_pages() -> Any:
    import distributed.dashboard.scheduler

    return distributed.dashboard.scheduler
