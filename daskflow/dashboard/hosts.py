"""Under which names a page may be asked for.

A browser that was led here under another name, by a page of somebody else's, is told nothing: to it we are that page's own
server, whatever other pages may open.
"""

from __future__ import annotations

import ipaddress
from functools import cache
from typing import Any


def name_of(host: str) -> str:
    """A host as requests have it, without its port: ``localhost`` of ``localhost:8787``, ``[::1]`` of ``[::1]:8787``."""
    name, _, port = host.lower().rpartition(":")
    return name if name and port.isdecimal() else host.lower()


def is_address(name: str) -> bool:
    """Whether a name is an address, for which nobody can be led elsewhere."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def is_loopback(name: str) -> bool:
    """Whether a name is one that every machine has for itself."""
    return name == "localhost" or (is_address(name) and ipaddress.ip_address(name.strip("[]")).is_loopback)


@cache
def refused() -> Any:
    """The handler, of Tornado's, that answers a request with status 403 and its argument ``text``."""
    from tornado import web

    class Refused(web.RequestHandler):
        def initialize(self, text: str) -> None:
            self._text = text

        def data_received(self, chunk: bytes) -> None:
            """Nothing is sent here."""

        def prepare(self) -> None:
            self.set_status(403)
            self.finish(f"{self._text}\n")

    return Refused
