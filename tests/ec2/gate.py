"""Stands between a driver and the simulated EC2: counts what is asked, and refuses what a test says."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REFUSAL = (
    "<?xml version='1.0'?><Response><Errors><Error><Code>{}</Code><Message>{}</Message></Error></Errors>"
    "<RequestID>1</RequestID></Response>"
)


@dataclass
class Gate:
    """``refuses`` gets an action, its arguments and how often it was asked for; what it returns is the error's code."""

    refuses: Callable[[str, dict[str, str], int], str | None] = lambda *_: None
    asked: Counter[str] = field(default_factory=Counter)
    address: str = ""


@contextlib.contextmanager
def gate_before(server: str) -> Iterator[Gate]:
    gate = Gate()
    target = urlsplit(server)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            arguments = dict(parse_qsl(body.decode()))
            action = arguments.get("Action", self.headers.get("X-Amz-Target", ""))
            with lock:
                gate.asked[action] += 1
                code = gate.refuses(action, arguments, gate.asked[action])
            if code is not None:
                said = "It is not to be."
                is_json = "X-Amz-Target" in self.headers
                refusal = (
                    json.dumps({"__type": code, "message": said}) if is_json else REFUSAL.format(code, said)
                )
                return self._answer(400, refusal.encode())
            upstream = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
            try:
                upstream.request("POST", self.path, body, dict(self.headers))
                answer = upstream.getresponse()
                return self._answer(answer.status, answer.read())
            finally:
                upstream.close()

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        http_server.daemon_threads = True
        gate.address = f"http://127.0.0.1:{http_server.server_port}"
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield gate
        finally:
            http_server.shutdown()
            thread.join()
