"""A real S3 server on loopback, and a bucket in it; between it and us, if wanted, a proxy that makes trouble."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import re
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "ada",
    "AWS_SECRET_ACCESS_KEY": "lovelace",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
_numbers = itertools.count()


_MOTO = """
import io
import threading

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

moto = DomainDispatcherApplication(create_backend_app)
lock = threading.Lock()


def one_condition_at_a_time(environ, start_response):
    if "HTTP_IF_NONE_MATCH" not in environ or environ["REQUEST_METHOD"] != "PUT":
        return moto(environ, start_response)
    environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
    with lock:
        return list(moto(environ, start_response))


run_simple("127.0.0.1", 0, one_condition_at_a_time, threaded=True)
"""
"""Moto looks whether an object is there and then puts it, and two requests may both find none. S3 does not: so this holds the
second back."""


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """The address of a server."""
    command = [sys.executable, "-u", "-c", _MOTO]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            found = next(
                filter(None, (re.search(r"http://127\.0\.0\.1:\d+", line) for line in process.stdout))
            )
            drain = threading.Thread(target=process.stdout.read)
            drain.start()
            yield found.group()
        finally:
            process.terminate()
            process.wait()
            drain.join()


@dataclass
class Bucket:
    """A bucket of a server, which the environment of this process names."""

    name: str
    server: str
    client: Any

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return ACCOUNT | {"AWS_ENDPOINT_URL": self.server}

    def url(self, prefix: str = "store") -> str:
        return f"s3://{self.name}/{prefix}"

    def objects(self) -> list[str]:
        """The keys of all that is in it."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return sorted(each["Key"] for page in pages for each in page.get("Contents", ()))

    def versioned(self) -> None:
        """Let it keep what is overwritten."""
        self.client.put_bucket_versioning(Bucket=self.name, VersioningConfiguration={"Status": "Enabled"})


@contextlib.contextmanager
def bucket_at(server: str) -> Iterator[Bucket]:
    """A new bucket, with an environment in which everybody finds it."""
    import boto3

    from daskflow.store import s3

    with pytest.MonkeyPatch.context() as patch:
        for name, value in (ACCOUNT | {"AWS_ENDPOINT_URL": server}).items():
            patch.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        s3._opened.clear()  # clients of another server
        client = boto3.client("s3")
        bucket = Bucket(f"flows-{os.getpid()}-{next(_numbers)}", server, client)
        client.create_bucket(Bucket=bucket.name)
        yield bucket
        s3._opened.clear()
        client.close()


@dataclass
class Asked:
    """A request as it came to the proxy."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    number: int = 0

    @property
    def key(self) -> str:
        """The object's key, without the bucket."""
        return self.path.removeprefix("/").partition("/")[2]


@dataclass
class Proxy:
    """Stands before a server, counts, and lets go wrong what ``plan`` says.

    ``plan`` gets each request and returns what happens to it: ``slow down`` (503, never forwarded), ``reset`` (the
    connection ends before it is forwarded), ``unanswered`` (the connection ends after it was forwarded), ``cut`` (the
    answer's body ends early), ``wrong etag``, ``denied``, any other S3 error code, or None.
    """

    server: str
    plan: Callable[[Asked], str | None] = lambda _: None
    asked: list[Asked] = field(default_factory=list)
    sent: int = 0
    """Bytes of bodies that went to clients."""
    address: str = ""

    def count(self, method: str) -> int:
        return sum(each.method == method for each in self.asked)


_STATUS = {
    "SlowDown": 503,
    "InternalError": 500,
    "AccessDenied": 403,
    "RequestTimeTooSkewed": 403,
    "ExpiredToken": 400,
    "NoSuchKey": 404,
}


@contextlib.contextmanager
def proxy_of(server: str) -> Iterator[Proxy]:
    """A proxy before a server."""
    proxy = Proxy(server)
    target = urlsplit(server)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _handle(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(self.command, parts.path, parts.query, dict(self.headers))
            with lock:
                asked.number = len(proxy.asked)
                proxy.asked.append(asked)
            fault = proxy.plan(asked)
            if fault == "reset":
                return self._end()
            if fault in _STATUS:
                return self._refuse(fault)
            upstream = http.client.HTTPConnection(target.hostname, target.port, timeout=60)
            try:
                upstream.request(self.command, self.path, body, dict(self.headers))
                answer = upstream.getresponse()
                data = answer.read()
            finally:
                upstream.close()
            if fault == "unanswered":
                return self._end()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() in ("transfer-encoding", "connection"):
                    continue
                if name.lower() == "etag" and fault == "wrong etag":
                    value = '"00000000000000000000000000000000"'
                self.send_header(name, value)
            if "Content-Length" not in dict(answer.getheaders()):
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if fault == "cut":
                self.wfile.write(data[: len(data) // 2])
                return self._end()
            self.wfile.write(data)
            with lock:
                proxy.sent += len(data)
            return None

        def _refuse(self, code: str) -> None:
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Please wait</Message></Error>".encode()
            self.send_response(_STATUS[code])
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        def _end(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _handle

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        http_server.daemon_threads = True
        proxy.address = f"http://127.0.0.1:{http_server.server_port}"
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            http_server.shutdown()
            thread.join()
