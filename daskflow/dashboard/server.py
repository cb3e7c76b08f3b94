"""The page by itself, for a store: ``daskflow ui``."""

from __future__ import annotations

import hmac
import logging
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskflow.dashboard import api, hosts
from daskflow.dashboard.page import document
from daskflow.dashboard.stored import StoreSource
from daskflow.errors import CommandException

if TYPE_CHECKING:
    from collections.abc import Callable

PORT = 8788
"""Where the page is unless told otherwise; if that is taken, anywhere."""


def serve(store: str, host: str, port: int | None, tell: Callable[[str], None]) -> None:
    """Show a store's runs until interrupted.

    Parameters
    ----------
    store
        URL of the store.
    host, port
        Where to listen. From elsewhere than this machine only who knows a token gets an answer.
    tell
        Gets the address of the page.

    Raises :class:`CommandException` if that can't be, and as :class:`StoreSource` does.
    """
    import asyncio

    asyncio.run(_serve(store, host, port, tell))


async def _serve(store: str, host: str, port: int | None, tell: Callable[[str], None]) -> None:
    import asyncio
    import signal

    from tornado.httpserver import HTTPServer
    from tornado.ioloop import IOLoop

    source = StoreSource(store)
    sockets = _bound(host, port)
    number = sockets[0].getsockname()[1]
    token = None if hosts.is_loopback(host) else secrets.token_urlsafe(24)
    shown = _shown(host)
    names = _names(host)
    app = _application(source, [f"{name}:{number}" for name in names], token, f"daskflow-token-{number}")
    server = HTTPServer(app)
    server.add_sockets(sockets)
    app.initialize(IOLoop.current())
    app.start()
    over = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, over.set)
    tell(f"http://{shown}:{number}/daskflow" + (f"?token={token}" if token else ""))
    await over.wait()
    logging.disable()  # pages that are open lose their connection, and nobody needs to be told
    server.stop()
    app.stop()
    source.close()


def _application(source: StoreSource, known: list[str], token: str | None, cookie: str) -> Any:
    """Tornado's application: the page, its files and the API, for those who may see them."""
    import distributed
    from bokeh.application import Application
    from bokeh.application.handlers.function import FunctionHandler
    from bokeh.server.server import BokehTornado
    from tornado import web

    statics = Path(distributed.__file__).parent / "http" / "static"

    class Guarded(BokehTornado):  # type: ignore[misc]
        def find_handler(self, request: Any, **kwargs: Any) -> Any:
            answer = _refusal(request, known, token, cookie)
            if answer is not None:
                return self.get_handler_delegate(request, *answer)
            self.websocket_origins.add(request.host)  # with a token: who has it came by this name
            return super().find_handler(request, **kwargs)

    return Guarded(
        {"/daskflow": Application(FunctionHandler(document(source)))},
        use_index=False,
        extra_websocket_origins=known,
        absolute_url="",
        extra_patterns=[
            (r"/", web.RedirectHandler, {"url": "/daskflow", "permanent": False}),
            (r"/statics/(.*)", web.StaticFileHandler, {"path": str(statics)}),
            *api.routes(source),
        ],
    )


def _refusal(
    request: Any, known: list[str], token: str | None, cookie: str
) -> tuple[Any, dict[str, Any]] | None:
    """Who answers a request that must not be answered as it is, and with what; None if it may be.

    ``cookie`` is the name of the one that holds the token: on one machine there may be several servers.
    Without a token only who comes by a name of this machine for itself gets an answer, as through a tunnel of SSH by any port.
    """
    from tornado import web

    class TakesToken(web.RequestHandler):
        def prepare(self) -> None:
            self.set_cookie(cookie, str(token), httponly=True, samesite="Lax")
            kept = [part for part in request.query.split("&") if not part.startswith("token=")]
            self.redirect("/" + request.path.lstrip("/") + ("?" + "&".join(kept) if kept else ""))

    if token is None:
        if not hosts.is_loopback(hosts.name_of(request.host)):
            text = f"This page is at http://{known[0]}/daskflow, and under no other name."
            return hosts.refused(), {"text": text}
        return None
    held = request.cookies.get(cookie)
    if held is not None and hmac.compare_digest(held.value.encode(), token.encode()):
        return None
    given = request.arguments.get("token", [b""])[-1]
    if hmac.compare_digest(given, token.encode()):
        return TakesToken, {}
    header = request.headers.get("Authorization", "")
    if hmac.compare_digest(header.encode(), f"Bearer {token}".encode()):
        return None
    return hosts.refused(), {"text": "Open the address that `daskflow ui` printed: it ends in ?token=..."}


def _bound(host: str, port: int | None) -> list[socket.socket]:
    from tornado.netutil import bind_sockets

    try:
        try:
            return bind_sockets(PORT if port is None else port, host)
        except OSError:
            if port is not None:
                raise
            return bind_sockets(0, host)
    except OSError as error:
        raise CommandException(
            f"Nothing can listen at {host}:{port or PORT}: {error.strerror or error}. Choose another --host or --port."
        ) from error


def _names(host: str) -> list[str]:
    """Under which names a browser reaches a host."""
    if hosts.is_loopback(host):
        return list(dict.fromkeys([_shown(host), "127.0.0.1", "localhost", "[::1]"]))
    own = [socket.gethostname(), socket.getfqdn()]
    return list(dict.fromkeys([_shown(host), host, *own, "127.0.0.1", "localhost"]))


def _shown(host: str) -> str:
    """A host as part of an address."""
    if host in ("0.0.0.0", "::", ""):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
