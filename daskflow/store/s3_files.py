"""An object of a bucket as a file: read in ranges, written in parts, several at a time if it is large."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from daskflow.errors import Unavailable
from daskflow.store.retries import retried
from daskflow.store.s3_errors import code_of, explained, replaced

if TYPE_CHECKING:
    from concurrent.futures import Future

    from daskflow.store.s3 import S3Storage

PART_BYTES = 16 << 20
"""An object that is larger is written in parts of this size, several at a time; so it is read."""
AT_ONCE = 4
"""Parts of one object that are on their way at once."""
TAIL_BYTES = 64 << 10
"""What is read of an object when it is opened: its end, where Parquet files say what is where."""
LEAST_AHEAD = 256 << 10
"""Who reads an object from the start to the end in small pieces gets at least so much at once, and twice as much each time."""


class Reader(io.RawIOBase):
    """An object as a file: what is asked for is fetched and little more.

    The first request fetches the end and tells the size. Later ones ask for the same version of the object by its ETag.

    Attributes
    ----------
    version
        Which one is read, if the bucket keeps versions.
    overwritten
        There is a later one.
    """

    def __init__(self, storage: S3Storage, path: str, version: str | None = None) -> None:
        self.version: str | None = version
        self.overwritten = False
        self._storage = storage
        self._path = path
        self._address = storage.address(path) | ({"VersionId": version} if version else {})
        self._at = 0
        self._size = 0
        self._etag = ""
        self._held, self._held_from = b"", 0
        self._ahead = LEAST_AHEAD

    def begin(self) -> None:
        """Raises ``FileNotFoundError`` if there is no such object."""
        with explained("open", self._storage.locate(self._path)):
            try:
                found = self._get(f"bytes=-{TAIL_BYTES}")
            except Exception as error:
                if code_of(error) not in ("InvalidRange", "416"):
                    raise
                return  # it is empty
            self._held = found["Body"].read()
            self._etag = found["ETag"]
            self.version = found.get("VersionId")
            total = found.get("ContentRange", "").rpartition("/")[2]
            self._size = int(total) if total.isdecimal() else len(self._held)
            self._held_from = self._size - len(self._held)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._bytes(min(len(view), max(0, self._size - self._at)))
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def readall(self) -> bytes:
        data = bytes(self._bytes(max(0, self._size - self._at)))
        self._at += len(data)
        return data

    def _bytes(self, count: int) -> bytes | memoryview:
        """So many from where we are, which are there."""
        start, end = self._at, self._at + count
        if not count:
            return b""
        held_end = self._held_from + len(self._held)
        if not self._held_from <= start <= end <= held_end:
            goes_on = self._held_from <= start <= held_end
            self._ahead = min(2 * self._ahead, PART_BYTES) if goes_on else LEAST_AHEAD
            wanted = max(count, self._ahead) if goes_on or not start else count
            data = self._fetch(start, min(start + wanted, self._size))
            if len(data) == count:
                return data
            self._held, self._held_from = data, start
        return memoryview(self._held)[start - self._held_from : end - self._held_from]

    def _fetch(self, start: int, end: int) -> bytes:
        if end - start <= PART_BYTES:
            return self._range(start, end)
        starts = range(start, end, PART_BYTES)
        with ThreadPoolExecutor(AT_ONCE, "daskflow-s3") as pool:
            return b"".join(pool.map(lambda at: self._range(at, min(at + PART_BYTES, end)), starts))

    def _range(self, start: int, end: int) -> bytes:
        with explained("read", self._storage.locate(self._path)):
            found = self._get(f"bytes={start}-{end - 1}", IfMatch=self._etag)
            if found["ETag"] != self._etag:  # the server does not know the condition
                raise replaced(self._storage.locate(self._path))
            data = bytes(found["Body"].read())
        if len(data) != end - start:
            raise Unavailable(f"{self._storage.locate(self._path)}: {len(data)} of {end - start} bytes came.")
        return data

    def _get(self, span: str, **conditions: str) -> Any:
        return self._storage.client().get_object(**self._address, Range=span, **conditions)


class Upload(io.RawIOBase):
    """Takes the content of an object as it comes: one ``PUT`` if it is small, else parts, several on their way at once.

    ``version`` is what the bucket calls it, if it keeps versions, once it is complete.
    """

    def __init__(self, storage: S3Storage, path: str) -> None:
        self.version: str | None = None
        self._storage = storage
        self._path = path
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._size = 0
        self._id = ""
        self._parts: list[Future[dict[str, Any]]] = []
        self._pool: ThreadPoolExecutor | None = None
        self._room = threading.BoundedSemaphore(AT_ONCE)

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        self._size += len(view)
        taken = 0
        while taken < len(view):
            piece = bytes(view[taken : taken + PART_BYTES - self._held_bytes])
            self._held.append(piece)
            self._held_bytes += len(piece)
            taken += len(piece)
            if self._held_bytes == PART_BYTES:
                self._send()
        return taken

    def complete(self) -> None:
        """Let the object be there."""
        with explained("write", self._storage.locate(self._path)):
            address = self._storage.address(self._path)
            if not self._id:
                done = self._storage.client().put_object(
                    **address, Body=b"".join(self._held), **self._storage.encryption()
                )
                self.version = done.get("VersionId")
                return
            if self._held:
                self._send()
            parts = [part.result() for part in self._parts]
            done = self._storage.client().complete_multipart_upload(
                **address, UploadId=self._id, MultipartUpload={"Parts": parts}
            )
            self.version = done.get("VersionId")
        self._end()

    def abort(self) -> None:
        """Let there be nothing, as far as that can be reached."""
        for part in self._parts:
            part.cancel()
        self._end()
        if self._id:
            with contextlib.suppress(Exception):  # the store may be the very thing that failed
                self._storage.client().abort_multipart_upload(
                    **self._storage.address(self._path), UploadId=self._id
                )

    def _send(self) -> None:
        with explained("write", self._storage.locate(self._path)):
            if not self._id:
                begun = self._storage.client().create_multipart_upload(
                    **self._storage.address(self._path),
                    **self._storage.encryption(),
                    **self._storage.checksum(),
                )
                self._id = begun["UploadId"]
                self._pool = ThreadPoolExecutor(AT_ONCE, "daskflow-s3")
            for part in self._parts:
                if part.done():
                    part.result()  # what failed is told now rather than gigabytes later
        assert self._pool is not None
        data = b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        self._room.acquire()
        self._parts.append(self._pool.submit(self._send_part, len(self._parts) + 1, data))

    def _send_part(self, number: int, data: bytes) -> dict[str, Any]:
        def send() -> Any:
            with explained("write", self._storage.locate(self._path)):
                return self._storage.client().upload_part(
                    **self._storage.address(self._path), UploadId=self._id, PartNumber=number, Body=data
                )

        try:
            sent = retried(send)
        finally:
            self._room.release()
        checksums = {
            name: value
            for name, value in sent.items()
            if name.startswith("Checksum") and name != "ChecksumType"
        }
        return {"PartNumber": number, "ETag": sent["ETag"]} | checksums

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
