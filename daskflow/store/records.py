"""What is committed: the record of a task, and the references to its artifacts."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daskflow.errors import DamagedRecord, StoreError
from daskflow.pathspec import TaskName, TaskNames, TaskRange

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FORMAT = 1
"""Version of everything in the store. Readers refuse a newer one."""

COPY_LIMIT = 256
"""An inline value longer than this is not copied into the records of later tasks but referred to."""


def timestamp() -> str:
    """Now, as stored everywhere: ISO 8601 in UTC with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def timestamp_of(seconds: float) -> str:
    """A time in seconds of the epoch as :func:`timestamp` has it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment(text: str) -> datetime:
    """The inverse of :func:`timestamp`."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


@dataclass(frozen=True)
class ArtifactRef:
    """Where a value is and what is known of it without loading it.

    Exactly one of three places holds it: the record itself (``inline``), a file (``path``, relative to the
    store), or the record of the task that set it (``record``, such as ``start/0``).

    Attributes
    ----------
    hash
        Identity of the content; equal for equal content.
    encoding
        ``json``, ``typed-json``, ``parquet`` or ``pickle``.
    size
        Bytes as stored.
    type
        Name of the value's type, such as ``pandas.DataFrame``.
    info
        What loading needs and readers like: schema and rows of a table, or why a table was pickled.
    """

    hash: str
    encoding: str
    size: int
    type: str
    inline: Any = None
    path: str | None = None
    record: str | None = None
    info: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As stored; places that are not used are left out."""
        found: dict[str, Any] = {
            "hash": self.hash,
            "encoding": self.encoding,
            "size": self.size,
            "type": self.type,
        }
        if self.path is not None:
            found["path"] = self.path
        elif self.record is not None:
            found["record"] = self.record
        else:
            found["value"] = self.inline
        if self.info:
            found["info"] = self.info
        return found

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> ArtifactRef:
        """The inverse of :meth:`to_json`. Raises ``ValueError`` if a field is missing or of the wrong type."""
        if sum(place in data for place in ("value", "path", "record")) != 1:
            raise ValueError("not one of 'value', 'path' and 'record' says where it is")
        return cls(
            hash=_field(data, "hash", str),
            encoding=_field(data, "encoding", str),
            size=_field(data, "size", int),
            type=_field(data, "type", str),
            inline=data.get("value"),
            path=_field(data, "path", str, None),
            record=_field(data, "record", str, None),
            info=_field(data, "info", dict, {}),
        )

    def inherited(self, origin: TaskName) -> ArtifactRef:
        """The same reference as it stands in a later task's record; ``origin`` is the task whose record has it."""
        if self.path is None and self.record is None and self.size > COPY_LIMIT:
            return replace(self, inline=None, record=str(origin))
        return self


@dataclass(frozen=True)
class Log:
    """One stream of one attempt.

    Attributes
    ----------
    size
        Bytes of the lines that the step wrote, as UTF-8, also of those that were left out.
    text
        The stored lines if they are few, each ``<timestamp> <line>``.
    path
        The file that holds them otherwise, relative to the store.
    """

    size: int = 0
    text: str | None = None
    path: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As stored."""
        return {key: value for key, value in vars(self).items() if value is not None}

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> Log:
        """The inverse of :meth:`to_json`. Raises ``ValueError`` if a field is of the wrong type."""
        return cls(
            _field(data, "size", int), _field(data, "text", str, None), _field(data, "path", str, None)
        )


@dataclass(frozen=True)
class Frame:
    """One split around a task.

    Attributes
    ----------
    kind
        ``split`` for branches, ``foreach`` for items.
    split
        The task that split.
    index, size
        Which branch or item this is, of how many.
    var
        The artifact that a foreach went over; None for branches.
    """

    kind: str
    split: TaskName
    index: int
    size: int
    var: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As stored in a record."""
        data: dict[str, Any] = {
            "kind": self.kind,
            "split": str(self.split),
            "index": self.index,
            "size": self.size,
        }
        return data | {"var": self.var} if self.var else data

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> Frame:
        """The inverse of :meth:`to_json`."""
        return cls(data["kind"], TaskName.of(data["split"]), data["index"], data["size"], data.get("var"))


def shifted(parents: TaskNames, stack: Sequence[Frame], by: int) -> tuple[TaskNames, tuple[Frame, ...]]:
    """Parents and splits of the task that is ``by`` items on in the innermost foreach around a task with these."""
    place = sum(frame.kind == "foreach" for frame in stack) - 1
    found = []
    depth = 0
    for frame in stack:
        if depth > place:
            found.append(replace(frame, split=TaskRange.of(str(frame.split)).shifted(place, by).name()))
        elif frame.kind == "foreach" and depth == place:
            found.append(replace(frame, index=frame.index + by))
        else:
            found.append(frame)
        depth += frame.kind == "foreach"
    begins = is_first_step(parents, stack)
    return parents if begins else parents.shifted(place, by), tuple(found)


def is_first_step(parents: TaskNames, stack: Sequence[Frame]) -> bool:
    """Whether tasks with these parents are the first of the foreach around them: they start from its split."""
    return bool(stack) and stack[-1].kind == "foreach" and len(parents) == 1 and parents[0] == stack[-1].split


@dataclass(frozen=True)
class TaskRecord:
    """How one attempt of a task went; as ``task.json`` it is the commit, as ``attempt.json`` a failure.

    Attributes
    ----------
    execution
        Name of the execution that wrote it; of two executions of a task one wins.
    status
        ``ok`` or ``failed``.
    parents
        The tasks whose artifacts it started from; neighbours as ``step/first..last``.
    stack
        The splits it is inside of, outermost first: each :class:`Frame` as JSON.
    iteration
        k in the k-th iteration of a recursion; None outside one.
    transition
        What follows (``Transition.to_json``); None if it failed before.
    foreach
        For a foreach split: ``size`` and the reference of the stored items.
    error
        ``type, exception, stacktrace`` of a failure.
    process
        ``pid, host, exit_code, signal, max_rss`` (bytes), ``cpu_user, cpu_system`` (seconds),
        ``launcher`` (``fork`` or ``fresh``); ``stopped`` if it was ended because the run was.
    """

    flow: str
    run: str
    step: str
    task: str
    attempt: int
    execution: str
    status: str
    started: str
    finished: str
    parents: list[str] = field(default_factory=list)
    stack: list[dict[str, Any]] = field(default_factory=list)
    iteration: int | None = None
    transition: dict[str, Any] | None = None
    foreach: dict[str, Any] | None = None
    artifacts: dict[str, ArtifactRef] = field(default_factory=dict)
    error: dict[str, str] | None = None
    process: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, Log] = field(default_factory=dict)

    @property
    def name(self) -> TaskName:
        """The task it is about."""
        return TaskName(self.step, self.task)

    @property
    def ok(self) -> bool:
        """Whether the attempt succeeded."""
        return self.status == "ok"

    @property
    def seconds(self) -> float:
        """How long the attempt took."""
        return (moment(self.finished) - moment(self.started)).total_seconds()

    def in_short(self) -> TaskRecord:
        """How it went, without what came out of it."""
        return replace(self, artifacts={}, logs={}, parents=[], foreach=None)

    def to_json(self) -> dict[str, Any]:
        """As stored, but for the encoding into text."""
        data = {key: getattr(self, key) for key in _PLAIN_FIELDS}
        data["artifacts"] = {name: ref.to_json() for name, ref in self.artifacts.items()}
        data["logs"] = {name: log.to_json() for name, log in self.logs.items()}
        return {"format": FORMAT} | {key: value for key, value in data.items() if value not in (None, {}, [])}

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> TaskRecord:
        """The inverse of :meth:`to_json`; fields that it does not know are left out.

        Raises ``ValueError`` with the field's name if one is missing or of the wrong type.
        """
        known = {key: _field(data, key, kind) for key, kind in _REQUIRED.items()}
        known |= {key: _field(data, key, kind) for key, kind in _OPTIONAL.items() if key in data}
        if known["status"] not in ("ok", "failed"):
            raise ValueError(f"'status' is {known['status']!r}, neither 'ok' nor 'failed'")
        for key in ("started", "finished"):
            _check_time(key, known[key])
        _check_parts(known)
        return cls(
            **known,
            artifacts=_each(data, "artifacts", ArtifactRef.of_json),
            logs=_each(data, "logs", Log.of_json),
        )


_REQUIRED: dict[str, type] = dict.fromkeys(
    ("flow", "run", "step", "task", "execution", "status", "started", "finished"), str
) | {"attempt": int}
_OPTIONAL: dict[str, type] = {
    "parents": list,
    "stack": list,
    "iteration": int,
    "transition": dict,
    "foreach": dict,
    "error": dict,
    "process": dict,
}
_PLAIN_FIELDS = tuple(f for f in TaskRecord.__dataclass_fields__ if f not in ("artifacts", "logs"))
_KINDS = {str: "text", int: "a whole number", list: "a list", dict: "an object"}
_NO_DEFAULT = object()


def _field(data: dict[str, Any], key: str, kind: type, default: Any = _NO_DEFAULT) -> Any:
    """The value of a field, which must be exactly of that type: JSON has no subclasses."""
    if key not in data:
        if default is _NO_DEFAULT:
            raise ValueError(f"'{key}' is missing")
        return default
    value = data[key]
    if type(value) is not kind:
        raise ValueError(f"'{key}' is {_short(value)}, not {_KINDS[kind]}")
    return value


def _each(data: dict[str, Any], key: str, made_of: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """The entries of an object of objects."""
    entries = _field(data, key, dict, {})
    found = {}
    for name in entries:
        try:
            found[name] = made_of(_field(entries, name, dict))
        except ValueError as error:
            raise ValueError(f"in '{key}', '{name}': {error}") from None
    return found


def _check_time(key: str, text: str) -> None:
    try:
        moment(text)
    except ValueError:
        raise ValueError(f"'{key}' is {_short(text)}, not a time") from None


def _check_parts(known: dict[str, Any]) -> None:
    """What the lists and objects of a task's record must hold."""
    for parent in known.get("parents", ()):
        _field({"parents": parent}, "parents", str)
    for frame in known.get("stack", ()):
        _field({"stack": frame}, "stack", dict)
        for key, kind in (("kind", str), ("split", str), ("index", int), ("size", int)):
            _field(frame, key, kind)
    for key in ("type", "exception", "stacktrace") if "error" in known else ():
        _field(known["error"], key, str)
    for target in _field(known["transition"], "targets", list) if "transition" in known else ():
        _field({"targets": target}, "targets", str)
    if "foreach" in known:
        size = _field(known["foreach"], "size", int)
        items = _field(known["foreach"], "items", list, None)
        path = _field(known["foreach"], "path", str, None)
        if size < 1 or (path is None) == (items is None) or (items is not None and len(items) != size):
            raise ValueError(f"'foreach' is {_short(known['foreach'])}, which holds no {size} items")


def check_run(data: dict[str, Any]) -> None:
    """See that what stands in ``run.json`` is of the right type. Raises ``ValueError`` with the field's name."""
    for key in ("flow", "run", "created", "start_step", "end_step"):
        _field(data, key, str, "")
    if "created" in data:
        _check_time("created", data["created"])
    _field(data, "versions", dict, {})
    for key, kind in (("hash", str), ("root", str), ("main", str), ("files", dict)):
        _field(_field(data, "code", dict, {}), key, kind, None)
    if "origin" in data:
        _field(_field(data, "origin", dict), "run", str)
        _field(data["origin"], "tasks", dict)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def encode(data: dict[str, Any]) -> bytes:
    """A record as the text that is stored: one line a key, so that a person can read it.

    It is JSON in UTF-8 whatever the texts hold: what UTF-8 can't express (half a surrogate pair, as Python makes of a
    file's name in another encoding) is escaped.
    """
    body = ",\n".join(f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in data.items())
    return f"{{\n{body}\n}}\n".encode("utf-8", "backslashreplace")


def decode(raw: bytes, where: str) -> dict[str, Any]:
    """The inverse of :func:`encode`.

    Raises :class:`DamagedRecord` naming ``where`` if it is, :class:`StoreError` if its format is newer than this reader.
    """
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise DamagedRecord(f"{where} is damaged: {error}.") from error
    if type(data) is not dict or type(data.get("format")) is not int or data["format"] < 1:
        raise DamagedRecord(f"{where} is damaged: it is not a record.")
    if data["format"] > FORMAT:
        raise StoreError(
            f"{where} has format {data['format']}; this version of daskflow reads up to {FORMAT}. "
            "Nothing was changed; install a newer daskflow."
        )
    return data
