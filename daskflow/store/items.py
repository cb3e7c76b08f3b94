"""The items of a foreach: evaluated once, stored so that each task loads only its own.

Few and small items that JSON holds exactly stand in the split's record. Others go into a pack: the encoded items one
after the other, then the offset of each as an unsigned 64-bit integer, one more for the end, and their number.
"""

from __future__ import annotations

import io
import json
import struct
from array import array
from typing import TYPE_CHECKING, Any, BinaryIO

from daskflow.errors import DataMissing
from daskflow.store.serializers import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.store.storage import Storage

INLINE_BYTES = 4096
_LENGTH = struct.Struct("<I")
_COUNT = struct.Struct("<Q")


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
    """
    inline = _inline(items)
    if inline is not None:
        return {"size": len(items), "items": inline}
    file = create("pack")
    offsets = array("Q", [0])
    for item in items:
        offsets.append(offsets[-1] + _write_item(item, file))
    file.write(offsets.tobytes())
    file.write(_COUNT.pack(len(items)))
    return {"size": len(items)}


def load_item(stored: dict[str, Any], index: int, storage: Storage) -> Any:
    """The item at ``index`` of what :func:`save_items` returned, with ``path`` added if a file was made.

    Raises :class:`DataMissing` if the pack is gone or truncated.
    """
    if "items" in stored:
        return stored["items"][index]
    place = storage.locate(stored["path"])
    try:
        with storage.open(stored["path"]) as file:
            size = stored["size"]
            file.seek(-_COUNT.size - 8 * (size + 1 - index), io.SEEK_END)
            start, end = struct.unpack("<QQ", file.read(16))
            file.seek(start)
            return _read_item(file.read(end - start))
    except FileNotFoundError:
        raise DataMissing(f"The items of the foreach, {place}, are missing.") from None
    except (OSError, struct.error) as error:
        raise DataMissing(f"The items of the foreach, {place}, are damaged: {error}.") from error


def _inline(items: list[Any]) -> list[Any] | None:
    """The items themselves if each is a JSON scalar of an exact type and all are small; else None."""
    if len(items) > INLINE_BYTES or not all(type(i) in (int, str, bool, type(None)) for i in items):
        return None
    try:
        text = json.dumps(items).encode()
        json.dumps(items, ensure_ascii=False).encode()  # a lone surrogate can't be stored as text
    except (UnicodeEncodeError, ValueError):  # ValueError: an int of more digits than Python prints
        return None
    return items if len(text) <= INLINE_BYTES else None


def _write_item(item: Any, file: BinaryIO) -> int:
    body = io.BytesIO()
    encoded = encode(item, lambda _suffix: body, inline_limit=0)
    header = json.dumps(
        {"encoding": encoded.encoding, "info": encoded.info, "inline": encoded.inline}
    ).encode()
    file.write(_LENGTH.pack(len(header)))
    file.write(header)
    file.write(body.getbuffer())
    return _LENGTH.size + len(header) + body.getbuffer().nbytes


def _read_item(data: bytes) -> Any:
    (length,) = _LENGTH.unpack_from(data)
    header = json.loads(data[_LENGTH.size : _LENGTH.size + length])
    body = memoryview(data)[_LENGTH.size + length :]
    return decode(header["encoding"], header["info"], header["inline"], lambda: io.BytesIO(body))
