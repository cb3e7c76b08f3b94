"""What a serializer is: one way to hold values of some types, exactly.

To add one, subclass :class:`Serializer`, give it an ``encoding`` of its own, and put an instance in front
of the pickle serializer in ``daskflow.store.serializers.SERIALIZERS``. The conformance helper
``tests/store/serializers/conformance.py`` checks the promises made here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import xxhash

if TYPE_CHECKING:
    from daskflow.store.storage import Storage

INLINE_LIMIT = 16_384
"""Bytes up to which a value lives in the record itself."""

Create = Callable[[str], BinaryIO]
"""Makes the file for a value: suffix in, writable binary file out. The caller owns (closes) the file.

What an artifact is given has a method ``folder`` too: suffix in, a :class:`Folder` for the files of the value out.
"""
OpenFile = Callable[[], BinaryIO]
"""Opens the file of a value for reading. Whoever calls it closes the file. For a value of many files ``folder`` is theirs."""


@dataclass(frozen=True)
class Folder:
    """A folder of a store, for a value of many files; it may be sent to other machines.

    Attributes
    ----------
    url, path
        Of the store, and the folder's path in it.
    """

    url: str
    path: str

    def storage(self) -> Storage:
        """The store, as this process opens it."""
        from daskflow.store.storage import storage_at

        return storage_at(self.url)


@dataclass(frozen=True)
class Encoded:
    """A value as it is stored.

    Attributes
    ----------
    encoding
        The serializer that holds it: ``json``, ``typed-json``, ``parquet``, ``pickle`` or that of a third party.
    hash
        Identity: 32 hexadecimal digits (XXH3-128) over the content, not over what a writer makes of it.
    size
        Bytes as stored: of the file, or of the inline form.
    type
        Name of the value's type, see :func:`type_name`.
    inline
        JSON value for the record, None if a file was written (or the value is None).
    file
        Suffix of the file that was written, None if the value is inline.
    info
        JSON-able: what loading needs and what readers may like.
    """

    encoding: str
    hash: str
    size: int
    type: str
    inline: Any | None = None
    file: str | None = None
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """A serializer's answer to a value that it would not give back exactly.

    Attributes
    ----------
    why
        The reason, kept in the record beside the encoding that takes the value instead; may be empty.
    instead
        Of a lazy value, which can't be kept as it is, what it stands for: that is to be stored.
    """

    why: str = ""
    instead: Any = None


class Serializer:
    """Base of all serializers; each method may be called in any process, in any order.

    A subclass may have a method ``fingerprint(value)`` as well (see :func:`daskflow.store.serializers.fingerprint`), which
    else is the hash of the value's pickle.
    """

    encoding: str
    """Name under which values are found again; never reuse one for another format."""

    def takes(self, value: Any) -> bool:
        """Whether values of this type are this serializer's business; cheap, imports nothing."""
        raise NotImplementedError

    def encode(self, value: Any, create: Create, inline_limit: int) -> Encoded | Refused:
        """Store ``value``.

        Parameters
        ----------
        value
            Not to be changed.
        create
            To be called at most once, and not at all if the answer is :class:`Refused`.
        inline_limit
            Bytes up to which a value may live in the record.
        """
        raise NotImplementedError

    def decode(self, info: Mapping[str, Any], inline: Any, open_file: OpenFile) -> Any:
        """The value again: same type, same content, mutable if its type is."""
        raise NotImplementedError


class Hash(Protocol):
    """The part of a hashlib-like object used here."""

    def update(self, data: Any, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """The digest so far."""


class Spool:
    """Where bytes go: into memory while they are few, then into one file; hashed as they pass.

    Parameters
    ----------
    create
        Makes the file, called once if more than ``keep`` bytes come.
    suffix
        Of the file.
    keep
        Bytes to hold in memory; 0 for a file in any case.

    Attributes
    ----------
    error
        What the file raised, if it did: libraries that write to it may hide that behind an error of their own.
    """

    def __init__(self, create: Create, suffix: str, keep: int) -> None:
        self.size = 0
        self.hash: Hash = xxhash.xxh3_128()
        self.error: Exception | None = None
        self._create = create
        self._suffix = suffix
        self._keep = keep
        self._held: list[bytes] = []
        self._file: BinaryIO | None = None

    def write(self, data: Any) -> int:
        """Append bytes that are part of the value's identity."""
        self.hash.update(data)
        return self.write_aside(data)

    def write_aside(self, data: Any) -> int:
        """Append bytes that are not part of the value's identity."""
        length = memoryview(data).nbytes
        self.size += length
        if self._file is None and self.size > self._keep:
            self.spill()
        if self._file is not None:
            self._to_file(data)
        else:
            self._held.append(bytes(data))
        return length

    def spill(self) -> None:
        """Go on in the file, whatever the size."""
        if self._file is None:
            self._to_file(b"".join(self._held))
            self._held.clear()

    def _to_file(self, data: Any) -> None:
        try:
            if self._file is None:
                self._file = self._create(self._suffix)
            self._file.write(data)
        except Exception as error:
            self.error = error
            raise

    def inline(self) -> bytes | None:
        """What came, if no file was needed."""
        return b"".join(self._held) if self._file is None else None


def type_name(value: Any) -> str:
    """The name people know a value's type by, such as ``int``, ``pandas.DataFrame`` or ``mymodule.Model``.

    A class that its top-level package also offers is named by that package; builtins have no prefix.
    """
    kind = type(value)
    module = kind.__module__
    if module == "builtins":
        return kind.__qualname__
    package = module.partition(".")[0]
    if vars(sys.modules.get(package, object)).get(kind.__name__) is kind:
        module = package
    return f"{module}.{kind.__qualname__}"
