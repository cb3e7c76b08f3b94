"""Everything else: cloudpickle, with large buffers beside the stream.

Layout of a file: the pickle stream at offset 0, then, if the value uses classes or functions of the flow
file, their definitions (``main_module``), then the large buffers, each at a multiple of 64 bytes.
``info["parts"]`` says where. A file with neither is an ordinary pickle, as ``pickle.load`` reads it.
"""

from __future__ import annotations

import base64
import io
import pickle
import re
import sys
import types
import uuid
from typing import TYPE_CHECKING, Any, BinaryIO

import cloudpickle
import xxhash

from daskflow.errors import DataException, DataMissing, StoreError, UnpicklableArtifactException
from daskflow.store.serializers.base import (
    Create,
    Encoded,
    Hash,
    OpenFile,
    Serializer,
    Spool,
    type_name,
)
from daskflow.store.serializers.main_module import Definitions, dump_definitions, main_identity, name_in_main

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROTOCOL = 5
LARGE = 1024 * 1024
"""Bytes from which a buffer goes beside the stream: no second copy of it exists at any time."""
ALIGNMENT = 64
_READ = 16 * 1024 * 1024

FLOW_IN_VALUE = "Flows can't be serialized. Maybe you tried to assign *self* or one of the *inputs*"
FUTURE_IN_VALUE = "It holds results that live only in the workers of this step's Dask, and end with them: compute() them first."


class PickleSerializer(Serializer):
    """Any value that cloudpickle holds; the last in the registry."""

    encoding = "pickle"

    def takes(self, value: Any) -> bool:
        """Everything."""
        return True

    def encode(self, value: Any, create: Create, inline_limit: int) -> Encoded:
        """Store ``value``, inline (base64) if its pickle is small.

        Raises
        ------
        UnpicklableArtifactException
            If it can't be pickled. A file that ``create`` made by then holds part of a pickle.
        """
        spool = Spool(
            create, self.encoding, inline_limit * 3 // 4
        )  # base64 makes four characters of three bytes
        buffers: list[pickle.PickleBuffer] = []
        pickler = FlowPickler(spool, _set_aside(buffers))
        _dump(pickler, value, spool)
        kind = type_name(value)
        why = f"values of type {kind} have no other form"
        info: dict[str, Any] = {"parts": _write_parts(spool, pickler.of_main, buffers), "why": why}
        if pickler.of_main:
            info["main"] = main_identity()
        digest = spool.hash.hexdigest()
        data = spool.inline()
        if data is None:
            return Encoded(self.encoding, digest, spool.size, kind, file=self.encoding, info=info)
        text = base64.b64encode(data).decode()
        return Encoded(self.encoding, digest, len(text), kind, inline=text, info=info)

    def decode(self, info: Mapping[str, Any], inline: Any, open_file: OpenFile) -> Any:
        """The value.

        Raises
        ------
        DataException
            If a module, class or definition that it needs is not to be had here.
        DataMissing
            If the file is damaged.
        """
        with open_file() if inline is None else io.BytesIO(base64.b64decode(inline)) as file:
            parts = info["parts"]
            buffers = [_read(file, *place) for place in parts.get("buffers", [])]
            definitions = _read(file, *parts["definitions"]) if "definitions" in parts else b""
            file.seek(0)
            loader = _Loader(file, buffers, Definitions(info.get("main"), bytes(definitions)))
            try:
                return loader.load()
            except (EOFError, pickle.UnpicklingError) as error:
                raise DataMissing(f"The file of a pickled value is damaged: {error}") from error
            except (ImportError, AttributeError) as error:
                raise DataException(
                    f"The value can't be loaded here: {error}. It needs the module that defines its type, "
                    "in the version it was stored with."
                ) from error


def text_in(raw: bytes) -> tuple[str, int] | None:
    """Of a pickled text, of which this is the beginning of the file: its beginning, and how many bytes of UTF-8 it has.

    None if it is no text. Nothing is unpickled: a text is a few marks, its length, and its bytes.
    """
    found = _TEXT.match(raw)
    if found is None:
        return None
    size = int.from_bytes(found[1] or found[2] or found[3], "little")
    return raw[found.end() : found.end() + size].decode("utf-8", "replace"), size


_TEXT = re.compile(rb"\x80\x05(?:\x95.{8})?(?:\x8c(.)|X(.{4})|\x8d(.{8}))", re.DOTALL)
"""Protocol 5, a frame or none, and SHORT_BINUNICODE, BINUNICODE or BINUNICODE8 (see :mod:`pickletools`)."""


def pickle_fingerprint(value: Any) -> str:
    """Hash of the value's pickle, nothing of which is kept; a new text each time if it can't be pickled."""
    hashing = _HashOnly()

    def add_buffer(buffer: pickle.PickleBuffer) -> bool:
        try:
            hashing.write(buffer.raw())
        except BufferError:  # not contiguous: pickle copies it into the stream
            return True
        return False

    try:
        _FingerprintPickler(hashing, add_buffer).dump(value)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - "can't tell" counts as changed, and then storing it says why
        return f"unknown-{uuid.uuid4().hex}"
    return hashing.hash.hexdigest()


class FlowPickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Cloudpickle that names what ``__main__`` has, and refuses flows.

    Attributes
    ----------
    of_main
        Classes and functions of ``__main__`` that the stream names.
    """

    def __init__(self, file: Any, buffer_callback: Callable[[pickle.PickleBuffer], bool]) -> None:
        super().__init__(file, protocol=PROTOCOL, buffer_callback=buffer_callback)
        self.of_main: dict[str, Any] = {}

    def reducer_override(self, thing: Any) -> Any:
        """Called by pickle for all but the builtin types."""
        if getattr(type(thing), "__daskflow_flow__", False):
            raise UnpicklableArtifactException(FLOW_IN_VALUE)
        if (type(thing).__module__, type(thing).__name__) == ("distributed.client", "Future"):
            raise UnpicklableArtifactException(FUTURE_IN_VALUE)
        if isinstance(thing, (type, types.FunctionType)):
            name = name_in_main(thing)
            if name is not None:
                self.of_main[name] = thing
                return NotImplemented  # pickle's own way: module and name
        if _has_gaps(thing):  # NumPy would copy it twice, and into the stream
            return thing.copy(order="C").__reduce_ex__(PROTOCOL)
        return super().reducer_override(thing)


class _FingerprintPickler(FlowPickler):
    """Takes what pandas has in it by content: its own pickles hold what was kept of earlier reads."""

    def reducer_override(self, thing: Any) -> Any:
        """As the base class, but for pandas."""
        if _is_of_pandas(thing):
            from daskflow.store.serializers.table_fingerprint import pandas_fingerprint

            return str, (pandas_fingerprint(thing),)
        return super().reducer_override(thing)


def _is_of_pandas(thing: Any) -> bool:
    """Whether it is a frame, a series, an index or an array of times of a class of pandas' own."""
    if type(thing).__module__.partition(".")[0] != "pandas":
        return False
    pd = sys.modules["pandas"]
    times = (pd.arrays.DatetimeArray, pd.arrays.TimedeltaArray, pd.arrays.PeriodArray)
    return isinstance(thing, (pd.DataFrame, pd.Series, pd.Index, *times))


def _has_gaps(thing: Any) -> bool:
    """Whether it is an array that is not one piece of memory."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(thing) is numpy.ndarray and not thing.flags.forc


class _Loader(pickle.Unpickler):
    def __init__(self, file: BinaryIO, buffers: list[Any], definitions: Definitions) -> None:
        super().__init__(file, buffers=buffers)
        self._definitions = definitions

    def find_class(self, module: str, name: str, /) -> Any:
        if module == "__main__":
            return self._definitions.find(name)
        return super().find_class(module, name)


class _HashOnly:
    def __init__(self) -> None:
        self.hash: Hash = xxhash.xxh3_128()

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return memoryview(data).nbytes


def _set_aside(buffers: list[pickle.PickleBuffer]) -> Callable[[pickle.PickleBuffer], bool]:
    def callback(buffer: pickle.PickleBuffer) -> bool:
        try:
            large = buffer.raw().nbytes >= LARGE
        except BufferError:  # not contiguous: pickle copies it into the stream
            return True
        if large:
            buffers.append(buffer)
        return not large

    return callback


def _dump(pickler: FlowPickler, value: Any, spool: Spool) -> None:
    try:
        pickler.dump(value)
    except (MemoryError, StoreError, UnpicklableArtifactException):
        raise
    except Exception as error:
        if spool.error is not None:
            raise spool.error from None
        if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
            reason = "it is nested too deeply (a long linked list, say); store it in a flatter form"
        else:
            reason = f"{type(error).__name__}: {error}"
        raise UnpicklableArtifactException(
            f"A value of type {type_name(value)} can't be pickled: {reason}"
        ) from error


def _write_parts(spool: Spool, of_main: dict[str, Any], buffers: list[pickle.PickleBuffer]) -> dict[str, Any]:
    """Write what follows the stream; returns where each part is."""
    parts: dict[str, Any] = {"pickle": spool.size}
    if of_main:
        offset = spool.size
        # Aside: definitions carry random ids, and say nothing about the value.
        spool.write_aside(dump_definitions(of_main))
        parts["definitions"] = [offset, spool.size - offset]
    if buffers:
        spool.spill()
        parts["buffers"] = []
    for buffer in buffers:
        spool.write_aside(bytes(-spool.size % ALIGNMENT))
        with buffer.raw() as raw:
            parts["buffers"].append([spool.size, raw.nbytes])
            spool.write(raw)
    return parts


def _read(file: BinaryIO, offset: int, length: int) -> Any:
    """One part of a file in a new writable buffer."""
    if length >= LARGE:
        import numpy as np

        buffer: Any = np.empty(length, dtype=np.uint8)  # unlike a bytearray not zeroed first
    else:
        buffer = bytearray(length)
    view = memoryview(buffer)
    file.seek(offset)
    at = 0
    while at < length:
        count = _read_some(file, view[at : at + _READ])
        if not count:
            raise DataMissing(f"The file of a pickled value ends {length - at:,} bytes too early.")
        at += count
    return buffer


def _read_some(file: BinaryIO, target: memoryview) -> int:
    readinto = getattr(file, "readinto", None)
    if readinto is not None:
        return int(readinto(target))
    data = file.read(len(target))
    target[: len(data)] = data
    return len(data)
