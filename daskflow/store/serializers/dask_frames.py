"""Dask DataFrames and Series: a folder of files, one a partition, each written and read by whichever worker has it.

A partition is stored as any other pandas object, so it comes back exactly or is a pickle whose record says why. What a
later step gets is lazy again, and its divisions are known if the index allows.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import xxhash

from daskflow.errors import DataMissing, StoreError
from daskflow.store.retries import retried
from daskflow.store.serializers.base import Create, Encoded, Folder, OpenFile, Refused, Serializer
from daskflow.store.serializers.parquet import ParquetSerializer, read_columns
from daskflow.store.serializers.pickles import PickleSerializer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

KINDS = ("Index", "DataFrame", "Series")
"""In this order, as an index is a series to Dask."""
META, DIVISIONS = "_meta", "_divisions"
"""The files that hold the first partition without its rows, and the divisions: other tools skip such names."""


class DaskSerializer(Serializer):
    """``dask.dataframe.DataFrame`` and ``dask.dataframe.Series``."""

    encoding = "dask"

    def takes(self, value: Any) -> bool:
        """Whether it is one of them, or an index of one."""
        return _kind_of(value) is not None

    def encode(self, value: Any, create: Create, inline_limit: int) -> Encoded | Refused:
        """Compute it, each partition where the cluster puts it, and write each where it was computed."""
        if _kind_of(value) == "Index":
            return Refused("it is an index of a Dask collection; its to_frame() would be kept in parts")
        folder: Callable[[str], Folder] | None = getattr(create, "folder", None)
        if folder is None:
            return Refused("it is within something else, and its partitions need a folder")
        return _write(value, f"dask.dataframe.{_kind_of(value)}", folder("parquet"))

    def decode(self, info: Mapping[str, Any], inline: Any, open_file: OpenFile) -> Any:
        """The collection again; nothing but one small file is read."""
        return _read(info, open_file.folder)  # type: ignore[attr-defined] # what is in a store has one

    def fingerprint(self, value: Any) -> str:
        """What it computes tells it from any other; nothing in it can be changed in place."""
        return str(value._name)


@dataclass(frozen=True)
class Part:
    """One partition as it is stored."""

    file: str
    encoding: str
    info: dict[str, Any]
    size: int = 0
    hash: str = ""
    rows: int = 0
    bounds: tuple[Any, Any] | None = None
    """The first and the last value of its index, if that is sorted."""
    meta: Part | None = None
    """What it is without its rows."""

    def described(self) -> dict[str, Any]:
        """How to load it, as JSON."""
        return {"file": self.file, "encoding": self.encoding, "info": self.info}


def _kind_of(value: Any) -> str | None:
    module = sys.modules.get("dask.dataframe")
    return next((name for name in KINDS if isinstance(value, getattr(module, name, ()))), None)


def _write(value: Any, kind: str, folder: Folder) -> Encoded:
    import dask

    write = dask.delayed(write_part, pure=False)
    partitions = value.to_delayed()
    (parts,) = dask.compute([write(part, folder, number) for number, part in enumerate(partitions)])
    identity = xxhash.xxh3_128()
    for part in parts:
        identity.update(part.hash.encode())
    schema = parts[0].info.get("schema") or [[str(name), str(dtype)] for name, dtype in _dtypes(value)]
    info = {
        "producer": kind,
        "version": dask.__version__,
        "rows": sum(part.rows for part in parts),
        "schema": schema,
        "npartitions": len(parts),
        "meta": parts[0].meta.described(),
        "unknown_categories": _unknown_categories(value._meta),
        "divisions": _stored_divisions(_divisions(value, parts), folder),
        "parts": _described(parts),
    }
    return Encoded("dask", identity.hexdigest(), sum(p.size for p in parts), kind, file="parquet", info=info)


def _unknown_categories(meta: Any) -> dict[str, Any]:
    """Which columns, by their places, have categories that the collection does not know yet, and whether its index has."""
    import pandas as pd
    from dask.dataframe.utils import has_known_categories

    def is_unknown(values: Any) -> bool:
        return isinstance(values.dtype, pd.CategoricalDtype) and not has_known_categories(values)

    columns = [meta.iloc[:, place] for place in range(meta.shape[1])] if meta.ndim > 1 else [meta]
    return {
        "columns": [place for place, column in enumerate(columns) if is_unknown(column)],
        "index": is_unknown(meta.index),
    }


def _with_unknown(meta: Any, unknown: Mapping[str, Any]) -> Any:
    """The first partition without its rows, as the collection's: it knows no more categories than that did."""
    from dask.dataframe.utils import clear_known_categories

    if not unknown["columns"] and not unknown["index"]:
        return meta
    columns = [meta.columns[place] for place in unknown["columns"]] if meta.ndim > 1 else None
    if meta.ndim == 1 and not unknown["columns"]:
        return meta.set_axis(clear_known_categories(meta.index))
    return clear_known_categories(meta, columns, index=unknown["index"])


def _dtypes(value: Any) -> list[tuple[Any, Any]]:
    return list(value.dtypes.items()) if value.ndim > 1 else [(value.name, value.dtype)]


def write_part(value: Any, folder: Folder, number: int) -> Part:
    """On a worker: write one partition, and of the first also what it is without its rows."""
    part = _store(value, folder, f"part.{number:05d}")
    index = value.index
    is_sorted = len(index) > 0 and index.nlevels == 1 and index.is_monotonic_increasing
    bounds = (index[0], index[-1]) if is_sorted else None
    meta = _store(value.iloc[:0], folder, META) if number == 0 else None
    return replace(part, bounds=bounds, meta=meta)


def _store(value: Any, folder: Folder, name: str) -> Part:
    """Dask may compute a partition twice, at the same time even: the file is created, complete, if there is none."""
    content = io.BytesIO()
    encoded = _encode(value, lambda _: content)
    file = name if name.startswith("_") else f"{name}.{encoded.file}"
    storage = folder.storage()
    path = f"{folder.path}/{file}"
    if not storage.create(path, content.getvalue()):  # the same content counts as created
        raise StoreError(f"{storage.locate(path)} was computed twice, and came out differently.")
    return Part(file, encoded.encoding, encoded.info, encoded.size, encoded.hash, len(value))


def _encode(value: Any, create: Create) -> Encoded:
    answer = ParquetSerializer().encode(value, create, 0)
    if isinstance(answer, Encoded):
        return answer
    pickled = PickleSerializer().encode(value, create, 0)
    assert isinstance(pickled, Encoded)
    pickled.info["why"] = answer.why
    return pickled


def _divisions(value: Any, parts: Sequence[Part]) -> list[Any] | None:
    """Those that are known, or those that the parts show if each ends before the next begins."""
    if value.known_divisions:
        return list(value.divisions)
    bounds = [part.bounds for part in parts if part.bounds is not None]
    if len(bounds) < len(parts) or any(not one[1] < other[0] for one, other in pairwise(bounds)):
        return None
    return [*(first for first, _ in bounds), bounds[-1][1]]


def _stored_divisions(divisions: list[Any] | None, folder: Folder) -> dict[str, Any] | None:
    """Divisions have the type of the index, so they are kept as a column of it."""
    import pandas as pd

    if divisions is None:
        return None
    return _store(pd.Series(divisions), folder, DIVISIONS).described()


def _described(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Each part: its file, and what of its info differs from that of the first."""
    first = parts[0].info
    return [
        {"file": part.file, "rows": part.rows, "size": part.size, "encoding": part.encoding}
        | {
            "info": part.info
            if part is parts[0]
            else {k: v for k, v in part.info.items() if v != first.get(k)}
        }
        for part in parts
    ]


def _read(info: Mapping[str, Any], folder: Folder) -> Any:
    import dask
    import dask.dataframe as dd

    stored = info["parts"]
    common = stored[0]["info"] if stored else {}
    alike = [part["encoding"] == stored[0]["encoding"] for part in stored]
    parts = [
        Part(part["file"], part["encoding"], common | part["info"] if same else part["info"])
        for part, same in zip(stored, alike, strict=True)
    ]
    meta = _load(Part(**info["meta"]), folder)
    if "unknown_categories" in info:
        meta = _with_unknown(meta, info["unknown_categories"])
    divisions = info["divisions"]
    known = None if divisions is None else tuple(_load(Part(**divisions), folder))
    read = read_frame if info["producer"].endswith("DataFrame") else read_series
    with dask.config.set({"dataframe.convert-string": False}):  # texts stay what they were
        return dd.from_map(read, parts, folder=folder, meta=meta, divisions=known, enforce_metadata=False)


def read_frame(part: Part, folder: Folder, columns: Sequence[Any] | None = None) -> Any:
    """On a worker: a partition, or some of its columns; of a Parquet file only those are read."""
    if columns is None:
        return _load(part, folder)
    if part.encoding == "parquet":
        found = _found(part, folder, lambda open_file: read_columns(open_file, part.info, columns))
        if found is not None:
            return found
    return _load(part, folder)[list(columns)]


def read_series(part: Part, folder: Folder) -> Any:
    """On a worker: a partition."""
    return _load(part, folder)


def _load(part: Part, folder: Folder) -> Any:
    serializer = ParquetSerializer() if part.encoding == "parquet" else PickleSerializer()
    return _found(part, folder, lambda open_file: serializer.decode(part.info, None, open_file))


def _found(part: Part, folder: Folder, read: Callable[[OpenFile], Any]) -> Any:
    path = f"{folder.path}/{part.file}"
    storage = folder.storage()
    try:
        return retried(lambda: read(lambda: storage.open(path)))
    except FileNotFoundError:
        raise DataMissing(f"{storage.locate(path)}, a partition of it, is missing.") from None
