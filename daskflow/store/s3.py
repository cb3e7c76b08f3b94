"""A prefix of an S3 bucket as a store: conditional writes, logs in parts; :mod:`daskflow.store.s3_files` has the large objects.

Credentials, region, endpoint and profile are found as the AWS SDKs find them. What is to differ for one store stands in
its URL: ``s3://bucket/prefix?endpoint_url=http://storage:9000&sse=aws:kms`` (see :data:`OPTIONS`), so that every worker
has the same configuration.

A process has one client, and so one pool of connections, for each URL. None of its connections is used across a fork. Protocol:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html (``If-None-Match``).
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import parse_qsl, urlsplit

from daskflow._collector import collector_off
from daskflow.errors import OverwrittenWarning, SettingsError, StoreError
from daskflow.store.s3_errors import code_of, explained
from daskflow.store.s3_files import Reader, Upload

if TYPE_CHECKING:
    from collections.abc import Iterator

OPTIONS = ("endpoint_url", "region", "profile", "addressing_style", "sse", "sse_kms_key_id")
"""What may follow the ``?`` of a URL. ``addressing_style`` is ``path`` or ``virtual``; ``sse`` is ``AES256``, ``aws:kms``
or ``aws:kms:dsse``, how S3 encrypts what is written."""
MOST_CONNECTIONS = 64
GOOD_SECONDS = 300
"""Credentials that pass are good for more than this: the SDK renews them ten minutes before their end."""
_URL = re.compile(r"s3://([^/?]+)(?:/([^?]*))?(?:\?(.*))?", re.DOTALL)


@dataclass(frozen=True)
class Place:
    """What the URL of a store on S3 says."""

    bucket: str
    prefix: str
    options: dict[str, str]

    @classmethod
    def of(cls, url: str) -> Place:
        """Raises :class:`SettingsError` if the URL names no bucket, or has an option that there is not."""
        found = _URL.fullmatch(url)
        if found is None:
            raise SettingsError(f"'{url}' names no bucket: a store on S3 is s3://BUCKET/PREFIX.")
        options = dict(parse_qsl(found[3] or "", keep_blank_values=True))
        for name in options:
            if name not in OPTIONS:
                raise SettingsError(f"'{url}': there is no option '{name}'; there is {', '.join(OPTIONS)}.")
        if not options.get("endpoint_url", "http://").startswith(("http://", "https://")):
            raise SettingsError(f"'{url}': endpoint_url must begin with http:// or https://.")
        return cls(found[1], (found[2] or "").strip("/"), options)


class S3Storage:
    """A prefix of a bucket."""

    append_bytes, append_seconds = 1 << 20, 30.0
    remote = True

    def __init__(self, url: str) -> None:
        self.url = url
        place = Place.of(url)
        self._bucket, self._prefix, self._options = place.bucket, place.prefix, place.options
        self._lock = threading.Lock()
        self._client: Any = None
        self._session: Any = None
        self._unused = False

    def locate(self, path: str) -> str:
        """The URL of the object."""
        return f"s3://{self._bucket}/{self._key(path)}"

    def read(self, path: str) -> bytes:
        """The whole content of an object."""
        with self._explained("read", path):
            found = self.client().get_object(**self.address(path))
            return bytes(found["Body"].read())

    def open(self, path: str, version: str | None = None) -> BinaryIO:
        """A seekable reader. Further reads fail if the object is replaced meanwhile.

        If the bucket keeps versions and the object's is another than ``version``, that one is read, with an
        :class:`OverwrittenWarning`.
        """
        reader = Reader(self, path)
        reader.begin()
        if version is not None and reader.version not in (None, version):
            text = f"{self.locate(path)} was overwritten; what was written first is read, version {version}."
            warnings.warn(text, OverwrittenWarning, stacklevel=2)
            reader = Reader(self, path, version)
            reader.begin()
            reader.overwritten = True
        return cast("BinaryIO", reader)

    def exists(self, path: str) -> bool:
        """Whether there is such an object."""
        return self._head(path) is not None

    def made_by(self, path: str) -> int | None:
        """By when the object was there at the latest: S3 tells whole seconds."""
        found = self._head(path)
        return None if found is None else (int(found["LastModified"].timestamp()) + 1) * 1_000_000_000

    def _head(self, path: str) -> Any:
        """What S3 tells of an object, None if there is none."""
        with self._explained("look for", path):
            try:
                return self.client().head_object(**self.address(path))
            except Exception as error:
                if code_of(error) in ("404", "NoSuchKey", "NotFound"):
                    return None
                raise

    def names(self, path: str) -> list[str]:
        """Names directly below ``path``. Never from a cache."""
        folder = self._key(path).strip("/")
        start = f"{folder}/" if folder else ""
        with self._explained("list", path):
            pages = self.client().get_paginator("list_objects_v2")
            found = []
            for page in pages.paginate(Bucket=self._bucket, Prefix=start, Delimiter="/"):
                found += [each["Prefix"][len(start) : -1] for each in page.get("CommonPrefixes", ())]
                found += [each["Key"][len(start) :] for each in page.get("Contents", ())]
        return [name for name in found if name]

    def create(self, path: str, data: bytes) -> bool:
        """Publish an object if there is none: ``PUT`` with ``If-None-Match: *``."""
        with self._explained("create", path):
            try:
                self._put(path, data, IfNoneMatch="*")
            except Exception as error:
                if code_of(error) in ("PreconditionFailed", "412"):
                    return False
                raise
        return True

    @contextlib.contextmanager
    def writer(self, path: str) -> Iterator[BinaryIO]:
        """A writer for an object that no one else writes; there is none before the block is left without an error."""
        upload = Upload(self, path)
        try:
            yield cast("BinaryIO", upload)
            upload.complete()
        except BaseException:
            upload.abort()
            raise

    def replace(self, path: str, data: bytes) -> None:
        """Put ``data`` in the place of what is under ``path``, if anything."""
        with self._explained("replace", path):
            self._put(path, data)

    def append(self, path: str, data: bytes, size: int = 0) -> None:
        """Put ``data`` behind the first ``size`` bytes, as an object of its own: none can be added to."""
        with self._explained("append to", path):
            self._put(f"{path}.{size:012d}" if size else path, data)

    def appended(self, path: str) -> bytes:
        """All that was appended."""
        data = self.read(path)
        folder, _, name = path.rpartition("/")
        later = re.compile(re.escape(name) + r"\.([0-9]{12})")
        for found in sorted(filter(None, map(later.fullmatch, self.names(folder))), key=lambda part: part[1]):
            data = data[: int(found[1])] + self.read(f"{folder}/{found[0]}")
        return data

    def client(self) -> Any:
        """The client of this process."""
        with self._lock:
            self._unused = False
            if self._client is None:
                self._client = self._new_client()
            return self._client

    def prepare_fork(self) -> None:
        """Make a client that has no connection yet, for the forks of this process: to make one takes tens of milliseconds."""
        with self._lock, contextlib.suppress(StoreError):  # who needs one will be told
            if self._client is None:
                self._client = self._new_client()
            elif not self._unused:
                self._client.close()
            self._unused = True
            with contextlib.suppress(Exception):  # as above
                self._session.get_credentials().get_frozen_credentials()  # else each fork would ask for some of its own

    def after_fork(self, from_threads: bool) -> None:
        """In the child of a fork: its parent's connections are not its own.

        The client is, unless another thread of the parent may have been using it.
        """
        self._lock = threading.Lock()
        if self._client is not None and not self._unused:
            if from_threads:
                self._client = None
            else:
                self._client.close()
                self._unused = True

    @property
    def storage_options(self) -> dict[str, Any]:
        """What s3fs needs to reach it as we do: nothing is cached, and no more is read than asked for."""
        given = {
            "profile": self._options.get("profile"),
            "endpoint_url": self._options.get("endpoint_url"),
            "client_kwargs": _given(region_name=self._options.get("region")),
            "s3_additional_kwargs": self.encryption(),
        }
        return _given(**given) | {
            "config_kwargs": self._config(),
            "use_listings_cache": False,
            "default_cache_type": "none",
        }

    def polars_options(self) -> dict[str, Any]:
        """What polars, which knows nothing of the configuration of the AWS SDKs, needs to reach it as we do."""
        client = self.client()
        endpoint = urlsplit(client.meta.endpoint_url)
        style = (client.meta.config.s3 or {}).get("addressing_style", "auto")
        is_aws = ".amazonaws." in endpoint.netloc  # at any other endpoint `auto` is `path`
        virtual = style == "virtual" or (style == "auto" and is_aws and "." not in self._bucket)
        host = f"{self._bucket}.{endpoint.netloc}" if virtual else endpoint.netloc
        options = _given(
            aws_region=client.meta.region_name,
            aws_endpoint_url=f"{endpoint.scheme}://{host}",
            aws_virtual_hosted_style_request=str(virtual).lower(),
            aws_allow_http="true" if endpoint.scheme == "http" else None,
        )
        return {"storage_options": options, "credential_provider": Credentials(self._options.get("profile"))}

    def _config(self) -> dict[str, Any]:
        """The configuration of every client, ours and others'."""
        style = self._options.get("addressing_style")
        return _given(s3=style and {"addressing_style": style}) | {
            "max_pool_connections": MOST_CONNECTIONS,
            "connect_timeout": 10,
            "read_timeout": 10,
            "tcp_keepalive": True,
        }

    def _new_client(self) -> Any:
        with collector_off(), self._explained("reach", ""):
            import botocore.session
            from botocore.config import Config

            self._session = botocore.session.Session(profile=self._options.get("profile"))
            # What is tried again is told (:mod:`daskflow.store.retries`); the SDK's tries would be silent ones.
            tries = {"retries": {"total_max_attempts": 1}}
            client = self._session.create_client(
                "s3",
                region_name=self._options.get("region"),
                endpoint_url=self._options.get("endpoint_url"),
                config=Config(**self._config(), **tries),
            )
            client.meta.events.register_last("before-call.s3", _send_at_once)
            return client

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path

    def encryption(self) -> dict[str, str]:
        """How S3 is to encrypt what is written, as its operations want it."""
        return _given(
            ServerSideEncryption=self._options.get("sse"), SSEKMSKeyId=self._options.get("sse_kms_key_id")
        )

    def checksum(self) -> dict[str, str]:
        """What S3 has to be told before an upload in parts: the SDK sends a checksum of each, unless told otherwise.

        Without it S3 refuses the parts. ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required`` is for servers that know none.
        """
        sent = self.client().meta.config.request_checksum_calculation == "when_supported"
        return {"ChecksumAlgorithm": "CRC32"} if sent else {}

    def _put(self, path: str, data: bytes, **conditions: str) -> Any:
        return self.client().put_object(**self.address(path), Body=data, **self.encryption(), **conditions)

    def address(self, path: str) -> dict[str, str]:
        """Bucket and key, as S3's operations want them."""
        return {"Bucket": self._bucket, "Key": self._key(path)}

    @contextlib.contextmanager
    def _explained(self, verb: str, path: str) -> Iterator[None]:
        with explained(verb, self.locate(path)):
            yield


def _given(**options: Any) -> dict[str, Any]:
    """Those that say anything."""
    return {name: value for name, value in options.items() if value}


@dataclass(frozen=True)
class Credentials:
    """What the AWS SDKs find for a profile, in the words of polars, which asks whenever it needs them."""

    profile: str | None = None

    def __call__(self) -> tuple[dict[str, str | None], int | None]:
        """The keys, and until when they are good if they pass. Raises :class:`StoreError` if there are none."""
        import botocore.session
        from botocore.credentials import RefreshableCredentials
        from botocore.exceptions import NoCredentialsError

        with explained("read", "s3://"):
            found = botocore.session.Session(profile=self.profile).get_credentials()
            if found is None:
                raise NoCredentialsError
            keys = found.get_frozen_credentials()
        names = {
            "aws_access_key_id": keys.access_key,
            "aws_secret_access_key": keys.secret_key,
            "aws_session_token": keys.token,
        }
        passes = isinstance(found, RefreshableCredentials)
        return _given(**names), int(time.time()) + GOOD_SECONDS if passes else None


def _send_at_once(model: Any, params: dict[str, Any], **_: Any) -> None:
    """Send an object with its request: the SDK would wait for the server to ask for it, a second if that never does."""
    if model.name == "PutObject":
        params["headers"].pop("Expect", None)


_opened: dict[str, S3Storage] = {}
_opening = threading.Lock()


def s3_storage_at(url: str) -> S3Storage:
    """The storage of this process at a URL. Raises :class:`SettingsError`."""
    with _opening:
        if url not in _opened:
            _opened[url] = S3Storage(url)
        return _opened[url]


_threads = 1


def _before_fork() -> None:
    global _threads  # noqa: PLW0603 - for the child
    _threads = threading.active_count()


def _after_fork() -> None:
    global _opening  # noqa: PLW0603 - another thread of the parent may have held it
    _opening = threading.Lock()
    for storage in _opened.values():
        storage.after_fork(_threads > 1)


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
