"""The page ``/daskflow`` among those of a scheduler's dashboard."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daskflow.dashboard import hosts
from daskflow.dashboard.events import Told
from daskflow.dashboard.model import RunModel, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = "daskflow"
PAUSE_SECONDS = 0.001
"""How long the scheduler sees to all else between two parts of what the page takes."""


@dataclass
class Pages:
    """What was added to a scheduler.

    Attributes
    ----------
    path
        Of the page, from the root of the server.
    missing
        Why there is none.
    is_watched
        Whether a browser has it open.
    """

    path: str = ""
    missing: str = ""
    is_watched: Callable[[], bool] = field(default=lambda: False)
    close: Callable[[], None] = field(default=lambda: None)


def has_bokeh() -> bool:
    """Whether this Python has Bokeh, which is not loaded to find out."""
    return importlib.util.find_spec("bokeh") is not None


def add_pages(scheduler: Any, source: Source) -> Pages:
    """Add the page to a scheduler's HTTP server, behind its prefix, and to the navigation bar of all pages."""
    if not has_bokeh():
        return Pages(
            missing="The scheduler's Python has no Bokeh, so no dashboard shows the run: pip install bokeh there."
        )
    application = scheduler.http_application
    later = next((each for each in application.applications if hasattr(each, "load_pages")), None)
    stock = next((each for each in application.applications if hasattr(each, "prefix")), None)
    if later is None and stock is None:
        return Pages(missing="The scheduler was started without its dashboard, so none shows the run.")
    base = "" if stock is None else stock.prefix.rstrip("/")
    page = _Page(scheduler, source, base, later)
    page.add()
    return Pages(path=f"{base}/{PAGE}", is_watched=page.is_watched, close=page.close)


class _Page:
    """The page, which is loaded when somebody asks for it."""

    def __init__(self, scheduler: Any, source: Source, base: str, later: Any) -> None:
        self._scheduler = scheduler
        self._source = source
        self._base = base
        self._later = later
        self._loading: asyncio.Task[None] | None = None
        self._shown: Any = None

    def add(self) -> None:
        """Answer from now on; and let Dask's own pages have a link."""
        from tornado import web

        page, application = self, self._scheduler.http_application

        class FirstLook(web.RequestHandler):
            async def get(self) -> None:
                await page.load()
                self._auto_finish = False  # the real page answers; to send there would be lost on a websocket
                application.find_handler(self.request).execute()

        self._first = web.Application([(f"{self.path}(?:/.*)?", FirstLook)])
        setattr(self._first, PAGE, self.path)  # who waits for the page finds that it is there
        application.applications.insert(0, self._first)
        if self._later is None:
            self._link()
        else:
            self._later.when_loaded.append(self._link)

    @property
    def path(self) -> str:
        """From the root of the server."""
        return f"{self._base}/{PAGE}"

    async def load(self) -> None:
        """Load the page, once; Dask's own come first, as others look for them there."""
        if self._loading is None or (self._loading.done() and self._loading.exception() is not None):
            self._loading = asyncio.create_task(self._load())
        await asyncio.shield(self._loading)

    async def _load(self) -> None:
        if self._later is not None:
            gc.freeze()
            await self._later.load_pages()
        await asyncio.get_running_loop().run_in_executor(None, _import)
        for (
            _
        ) in _warmed_up():  # a thread would take Python from the scheduler at each of its calls of the system
            await asyncio.sleep(PAUSE_SECONDS)
        self._show()
        gc.freeze()  # what is loaded stays; to go through it all holds the scheduler up for 0.1 s
        self._first.wildcard_router.rules.clear()  # from now on the real page answers
        await asyncio.sleep(PAUSE_SECONDS)

    def _show(self) -> None:
        import dask
        from bokeh.application import Application
        from bokeh.application.handlers.function import FunctionHandler
        from distributed.dashboard.core import DaskBokehTornado
        from tornado.ioloop import IOLoop

        from daskflow.dashboard import api, page

        how = dict(dask.config.get("distributed.scheduler.dashboard.bokeh-application"))
        origins = _origins(self._scheduler, how.pop("allow_websocket_origin", None) or ())
        own, path = _names(self._scheduler), self.path
        variables = {"prefix": f"{self._base}/"} | _template_variables(self._scheduler)
        fill = page.document(self._source, variables)

        class Guarded(DaskBokehTornado):  # type: ignore[misc]
            def find_handler(self, request: Any, **kwargs: Any) -> Any:
                is_ours = f"{request.path}/".startswith(f"{path}/")
                if is_ours and not _is_known(request.host, own, origins):
                    return self.get_handler_delegate(request, hosts.refused(), {"text": _UNKNOWN})
                return super().find_handler(request, **kwargs)

        self._shown = Guarded(
            {f"/{PAGE}": Application(FunctionHandler(fill))},
            prefix=self._base,
            use_index=False,
            extra_websocket_origins=origins,
            absolute_url="",
            extra_patterns=api.routes(self._source),
            **how,
        )
        self._scheduler.http_application.add_application(self._shown)
        self._shown.initialize(IOLoop.current())
        self._shown.start()

    def _link(self) -> None:
        pages = _template_variables(self._scheduler)["pages"]
        if PAGE not in pages:
            pages.insert(0, PAGE)

    def is_watched(self) -> bool:
        """Whether a browser has it open."""
        return self._shown is not None and bool(self._shown.get_sessions(f"/{PAGE}"))

    def close(self) -> None:
        """The scheduler ends."""
        if self._loading is not None:
            self._loading.cancel()
        if self._shown is not None:
            self._shown.stop()


_UNKNOWN = (
    "This page is shown under no such name. If it is reached by it, name it in Dask's setting "
    "distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin."
)


def _is_known(host: str, own: set[str], origins: list[str]) -> bool:
    """Whether a request's host is one of ours, an address, or one that Dask's setting names."""
    from bokeh.server.util import check_allowlist

    name = hosts.name_of(host)
    return name in own or hosts.is_address(name) or check_allowlist(host.lower(), origins)


def _names(scheduler: Any) -> set[str]:
    """The names of a scheduler's machine that it knows itself."""
    names = {socket.gethostname(), socket.getfqdn(), str(scheduler.http_server.address)}
    host = str(scheduler.address).partition("://")[2].rpartition(":")[0]
    names |= {host} if "/" not in host else set()
    return {name.lower() for name in names} - {"", "0.0.0.0", "::"}


def _origins(scheduler: Any, configured: Any) -> list[str]:
    """From which pages a browser may open our websocket: those of this server, by the names that it knows.

    Loopback with any port, as that is what a tunnel through SSH looks like. Dask's setting adds to it, but for its default,
    which allows all. Tornado lets in who comes from the very name that he asks for, and does not look here: so requests
    for names that are not ours have to be refused.
    """
    own = [f"{name}:{scheduler.http_server.port}" for name in sorted(_names(scheduler))]
    return ["localhost:*", "127.0.0.1:*", *own, *(each for each in configured if each != "*")]


def _template_variables(scheduler: Any) -> dict[str, Any]:
    """What the templates of Dask's pages get; always the same lists."""
    from distributed.dashboard.scheduler import template_variables

    found: dict[str, Any] = template_variables(scheduler)
    return found


def _import() -> None:
    import bokeh.document
    import bokeh.embed  # noqa: F401 - what the page needs is loaded

    import daskflow.dashboard.api
    import daskflow.dashboard.page  # noqa: F401 - what the page needs is loaded


def _warmed_up() -> Iterator[None]:
    """Make a page that nobody sees, a little at a time: the first takes a tenth of a second more than others."""
    from bokeh.document import Document
    from bokeh.embed import file_html

    from daskflow.dashboard import page, render

    yield from render.compiled()
    doc = Document()
    page.document(_Nothing())(doc)
    yield
    file_html(doc, suppress_callback_warning=True)
    yield


class _Nothing(Source):
    """A source of one run in which nothing has happened."""

    opens_latest = True

    def __init__(self) -> None:
        self._model = RunModel("F", "1")
        self._model.apply(Told({"steps": [{"name": "start", "type": "start", "next": ["end"]}]}))

    def runs(self) -> list[dict[str, Any]]:
        """Its head."""
        return [self._model.head()]

    def model(self, flow: str, run: str) -> RunModel:
        """It."""
        return self._model

    def detail(self, flow: str, run: str, step: str, task: str) -> dict[str, Any]:
        """Nothing."""
        return {}

    def table(self, flow: str, run: str, step: str, task: str, name: str, first: int) -> dict[str, Any]:
        """Nothing."""
        return {}
