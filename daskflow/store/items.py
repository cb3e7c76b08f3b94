"""The items of a foreach: evaluated once, stored so that each task loads only its own.

Few and small items that JSON holds exactly stand in the split's record. Others go into a pack: the items one after the
other, then the offset of each as an unsigned 64-bit integer, one more for the end, their number, and a mark that says
that the file is whole.

An item in a pack is its JSON text if JSON holds it exactly and it is not large. Any other starts with a zero byte; the
length of a header follows, the header (how a person is shown the item, then how it is encoded, as JSON), and what its
serializer made of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import struct
from array import array
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, BinaryIO

from daskflow.errors import DataException, DataMissing, StoreError, UnpicklableArtifactException
from daskflow.store.retries import retried
from daskflow.store.serializers import Encoded, decode, encode
from daskflow.store.serializers.json_value import MAX_INT_BITS, canonical, is_exact
from daskflow.store.serializers.typed_json import TypedJsonSerializer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from daskflow.store.storage import Storage

INLINE_BYTES = 4096
JSON_LIMIT = 16_384
_AT_ONCE = 10_000
_MOST_AHEAD = 1_000
_BYTES_AHEAD = 1 << 16
_MOST_AT_ONCE = 1 << 22
_LONGEST_ESCAPE = 12
LONGEST_SHOWN = 200
"""Characters that the header of an item has of it for a person to read."""
_SHOWN = '{"shown": '
_LONGEST_SHOWN_BYTES = 64 + _LONGEST_ESCAPE * LONGEST_SHOWN
_HEADER = struct.Struct("<cI")
_OTHER = b"\0"
_FOOTER = struct.Struct("<Q8s")
_WHOLE = b"dfitems\n"


def save_items(items: list[Any], create: Callable[[str], BinaryIO]) -> dict[str, Any]:
    """Store the items of a foreach.

    Parameters
    ----------
    items
        All items, in order.
    create
        Opens a file with the given suffix for writing; called only when the items do not fit into the record.

    Returns
    -------
    What goes into the record: ``size``, and ``items`` if they are inline.

    Raises
    ------
    UnpicklableArtifactException
        If an item can't be stored; its index is named.
    """
    if _fit_inline(items):
        return {"size": len(items), "items": items}
    file = create("pack")
    offsets = array("Q", [0])
    for first in range(0, len(items), _AT_ONCE):
        _write(items[first : first + _AT_ONCE], file, offsets)
    file.write(offsets.tobytes())
    file.write(_FOOTER.pack(len(items), _WHOLE))
    return {"size": len(items)}


class Items:
    """Reads items of foreaches. Who has read one and goes on with the next gets many small ones at once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._read: tuple[str, int, list[bytes]] = ("", 0, [])

    def load(self, stored: dict[str, Any], index: int) -> Any:
        """The item at ``index`` of what :func:`save_items` returned, with ``path`` added if a file was made.

        Raises ``IndexError`` if there is no such item, :class:`DataMissing` if the pack is gone or damaged,
        :class:`DataException` if what the item needs to be loaded is not to be had here.
        """
        size = stored["size"]
        if not 0 <= index < size:
            raise IndexError(f"The foreach has {size} items; there is none at {index}.")
        if "items" in stored:
            return decode("json", {}, stored["items"][index], _no_file)
        place = self._storage.locate(stored["path"])
        try:
            return retried(lambda: _decoded(self._bytes(stored["path"], index, size)))
        except FileNotFoundError:
            raise DataMissing(f"The items of the foreach, {place}, are missing.") from None
        except (DataException, StoreError, MemoryError):
            raise
        except DataMissing as error:
            raise DataMissing(f"The items of the foreach, {place}, are damaged: {error.message}") from error
        except Exception as error:  # a damaged pickle may raise anything
            raise DataMissing(
                f"Item {index} of the foreach, in {place}, can't be read: {error!r}."
            ) from error

    def texts(self, stored: dict[str, Any], first: int, count: int, longest: int) -> list[str]:
        """Items for a person to read, each cut to so many characters; of what is neither text nor a plain value only its type.

        Nothing is unpickled, and no more is read than is shown. Raises as :meth:`load`, but never for what an item holds.
        """
        if "items" in stored:
            items = stored["items"][first : first + count]
            return [
                _shown(json.dumps(item, ensure_ascii=False).encode("utf-8", "replace"), longest)
                for item in items
            ]
        place = self._storage.locate(stored["path"])
        try:
            with self._storage.open(stored["path"]) as file:
                offsets, table = _offsets(file, first, count, stored["size"])
                _check(offsets, first, table)
                return [
                    _shown(raw, longest) for raw in _beginnings(file, offsets, _LONGEST_ESCAPE * longest + 2)
                ]
        except FileNotFoundError:
            raise DataMissing(f"The items of the foreach, {place}, are missing.") from None
        except (DataMissing, ValueError, struct.error) as error:
            raise DataMissing(f"The items of the foreach, {place}, are damaged: {error}") from error

    def _bytes(self, path: str, index: int, size: int) -> bytes:
        known, first, read = self._read
        if path != known or not first <= index < first + len(read):
            goes_on = path == known and index == first + len(read)
            with self._storage.open(path) as file:
                first, read = (
                    index,
                    _read(file, index, min(_MOST_AHEAD, size - index) if goes_on else 1, size),
                )
            self._read = path, first, read
        return read[index - first]


def _fit_inline(items: list[Any]) -> bool:
    if len(items) > INLINE_BYTES // 2:  # a digit and a comma are the least
        return False
    room = INLINE_BYTES
    for item in items:
        text = _json_text(item)
        room -= 1 + len(text) if text is not None else INLINE_BYTES + 1
        if room < 0:
            return False
    return True


def _write(items: Iterable[Any], file: BinaryIO, offsets: array[int]) -> None:
    written: list[bytes] = []
    end = offsets[-1]
    for item in items:
        text = _json_text(item)
        if text is None:
            file.write(b"".join(written))
            written.clear()
            end += _write_other(item, file, len(offsets) - 1)
        else:
            written.append(text)
            end += len(text)
        offsets.append(end)
    file.write(b"".join(written))


def _json_text(item: Any) -> bytes | None:
    """The item as JSON if that gives it back exactly; None if not."""
    kind = type(item)
    if kind is int:
        return b"%d" % item if item.bit_length() <= MAX_INT_BITS else None
    if kind is str:
        if len(item) > JSON_LIMIT:
            return None
        if item.isascii():
            return _escaped(item).encode()
        try:
            return json.dumps(item, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # half a surrogate pair
            return None
    if kind is float:
        return repr(item).encode() if math.isfinite(item) else None
    if item is None or kind is bool:
        return _CONSTANTS[item]
    if kind in (list, dict) and is_exact(item, JSON_LIMIT):
        return canonical(item)
    return None


_CONSTANTS = {None: b"null", True: b"true", False: b"false"}
_escaped = json.encoder.encode_basestring_ascii


def _write_other(item: Any, file: BinaryIO, index: int) -> int:
    body = io.BytesIO()
    try:
        encoded = encode(item, lambda _suffix: body, inline_limit=0)
    except UnpicklableArtifactException as error:
        raise UnpicklableArtifactException(f"item {index}: {error.message}") from error
    header = {
        "shown": _preview(
            item, encoded.type
        ),  # the first: a long header need not be read to its end to show it
        "encoding": encoded.encoding,
        "info": encoded.info,
        "inline": encoded.inline,
    }
    raw = json.dumps(header).encode()
    with body.getbuffer() as content:
        file.write(_HEADER.pack(_OTHER, len(raw)))
        file.write(raw)
        file.write(content)
        return _HEADER.size + len(raw) + content.nbytes


def _preview(item: Any, kind: str) -> str:
    """What a person is shown of an item: the beginning of a text or of plain values, else its type."""
    if type(item) is str:
        return _cut(item, LONGEST_SHOWN)
    typed = TypedJsonSerializer()
    if typed.takes(item):
        if isinstance(typed.encode(item, _no_file_to_write, JSON_LIMIT), Encoded):
            is_number_or_time = type(item) not in (list, dict, tuple, set, frozenset, bytes)
            return _cut(str(item) if is_number_or_time else repr(item), LONGEST_SHOWN)
        if type(item) in (list, dict):
            with contextlib.suppress(TypeError, ValueError):  # something in it is neither plain nor text
                text = "".join(islice(_lazily.iterencode(item), LONGEST_SHOWN + 1))
                return _cut(text, LONGEST_SHOWN)
    return f"({kind})"


_lazily = json.JSONEncoder(ensure_ascii=False)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _read(file: BinaryIO, index: int, most: int, size: int) -> list[bytes]:
    """The bytes of an item, and of up to ``most - 1`` after it as long as they are few."""
    offsets, table = _offsets(file, index, most, size)
    while len(offsets) > 2 and offsets[-1] - offsets[0] > _BYTES_AHEAD:
        del offsets[max(2, len(offsets) // 2) :]
    _check(offsets, index, table)
    file.seek(offsets[0])
    read = memoryview(file.read(offsets[-1] - offsets[0]))
    return [bytes(read[start - offsets[0] : end - offsets[0]]) for start, end in pairwise(offsets)]


def _offsets(file: BinaryIO, index: int, count: int, size: int) -> tuple[array[int], int]:
    """Where items begin and where the last of them ends; and where all of them end."""
    table = file.seek(0, io.SEEK_END) - _FOOTER.size - 8 * (size + 1)
    if table < 0:
        raise DataMissing("the file is too short.")
    file.seek(-_FOOTER.size, io.SEEK_END)
    if _FOOTER.unpack(file.read(_FOOTER.size)) != (size, _WHOLE):
        raise DataMissing("its end is not that of a whole file.")
    file.seek(table + 8 * index)
    return array("Q", file.read(8 * (min(count, size - index) + 1))), table


def _check(offsets: array[int], index: int, table: int) -> None:
    """Raise :class:`DataMissing` if items can't be where they are said to be."""
    for place, (start, end) in enumerate(pairwise(offsets)):
        if not start < end <= table:
            raise DataMissing(f"item {index + place} is said to be at {start:,} to {end:,}.")


def _beginnings(file: BinaryIO, offsets: array[int], most: int) -> Iterator[bytes]:
    """The first bytes of items, of a header what is to be shown; those that lie near each other are read at once."""
    whole = b""
    if offsets[-1] - offsets[0] <= _MOST_AT_ONCE:
        file.seek(offsets[0])
        whole = file.read(offsets[-1] - offsets[0])
    for start, end in pairwise(offsets):
        of_header = min(end - start, _LONGEST_SHOWN_BYTES)
        if whole:
            begin = start - offsets[0]
            yield whole[begin : begin + max(min(end - start, most), of_header)]
            continue
        file.seek(start)
        raw = file.read(min(end - start, most))
        if raw[:1] == _OTHER and len(raw) < of_header:
            raw += file.read(of_header - len(raw))
        yield raw


def _shown(raw: bytes, longest: int) -> str:
    """An item, or its beginning, as text."""
    if raw[:1] == _OTHER:
        return _cut(_shown_of_other(raw), longest)
    try:
        value = json.loads(raw)
    except ValueError:  # it is cut
        text = _beginning(raw.decode("utf-8", "ignore"))
    else:
        text = value if isinstance(value, str) else raw.decode()
    return _cut(text, longest)


def _shown_of_other(raw: bytes) -> str:
    """What the header of an item, or the beginning of it, says that is to be shown; in older stores how it is kept."""
    _, length = _HEADER.unpack_from(raw)
    header = raw[_HEADER.size : _HEADER.size + length].decode("utf-8", "ignore")
    try:
        if header.startswith(_SHOWN):
            return str(json.JSONDecoder().raw_decode(header, len(_SHOWN))[0])
        return f"({json.loads(header)['encoding']})"
    except (ValueError, KeyError):  # it is longer than what was read
        return "(not JSON)"


def _beginning(text: str) -> str:
    """What can be read of a JSON text that is cut."""
    for less in range(_LONGEST_ESCAPE if text.startswith('"') else 0):
        with contextlib.suppress(ValueError):  # it is cut within an escape
            return str(json.loads(text[: len(text) - less] + '"'))
    return text


def _decoded(data: bytes) -> Any:
    if data[:1] != _OTHER:
        return json.loads(data)
    _, length = _HEADER.unpack_from(data)
    body = memoryview(data)[_HEADER.size + length :]
    header = json.loads(data[_HEADER.size : _HEADER.size + length])
    return decode(header["encoding"], header["info"], header["inline"], lambda: io.BytesIO(body))


def _no_file_to_write(_suffix: str) -> BinaryIO:
    raise AssertionError("what is small needs no file")


def _no_file() -> BinaryIO:
    raise AssertionError("an inline item has no file")
