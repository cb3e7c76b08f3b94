"""What is committed: the record of a task, and the references to its artifacts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from daskflow.errors import StoreError
from daskflow.pathspec import TaskName

FORMAT = 1
"""Version of everything in the store. Readers refuse a newer one."""

COPY_LIMIT = 256
"""An inline value longer than this is not copied into the records of later tasks but referred to."""


def timestamp() -> str:
    """Now, as stored everywhere: ISO 8601 in UTC with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


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
        ``json``, ``parquet`` or ``pickle``.
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
        """The inverse of :meth:`to_json`."""
        return cls(
            hash=data["hash"],
            encoding=data["encoding"],
            size=data["size"],
            type=data["type"],
            inline=data.get("value"),
            path=data.get("path"),
            record=data.get("record"),
            info=data.get("info", {}),
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
        Bytes the step wrote.
    text
        The stored lines if they are few, each ``<timestamp> <line>``.
    path
        The file that holds them otherwise, relative to the store.
    """

    size: int = 0
    text: str | None = None
    path: str | None = None


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
        The tasks whose artifacts it started from.
    stack
        The splits it is inside of, outermost first: ``kind, split, step, index, size, var, value``.
    iteration
        k in the k-th iteration of a recursion.
    transition
        What follows (``Transition.to_json``); None if it failed before.
    foreach
        For a foreach split: ``size`` and the reference of the stored items.
    error
        ``type, exception, stacktrace`` of a failure.
    process
        ``pid, host, worker, exit_code, signal, max_rss`` (bytes), ``cpu_user, cpu_system`` (seconds),
        ``launcher`` (``fork`` or ``fresh``).
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
    iteration: int = 0
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

    def to_json(self) -> dict[str, Any]:
        """As stored, but for the encoding into text."""
        data = {key: getattr(self, key) for key in _PLAIN_FIELDS}
        data["artifacts"] = {name: ref.to_json() for name, ref in self.artifacts.items()}
        data["logs"] = {
            name: {k: v for k, v in asdict(log).items() if v is not None} for name, log in self.logs.items()
        }
        return {"format": FORMAT} | {key: value for key, value in data.items() if value not in (None, {}, [])}

    @classmethod
    def of_json(cls, data: dict[str, Any]) -> TaskRecord:
        """The inverse of :meth:`to_json`."""
        known = {key: data[key] for key in _PLAIN_FIELDS if key in data}
        artifacts = {name: ArtifactRef.of_json(ref) for name, ref in data.get("artifacts", {}).items()}
        logs = {name: Log(**log) for name, log in data.get("logs", {}).items()}
        return cls(**known, artifacts=artifacts, logs=logs)


_PLAIN_FIELDS = tuple(f for f in TaskRecord.__dataclass_fields__ if f not in ("artifacts", "logs"))


def encode(data: dict[str, Any]) -> bytes:
    """A record as the text that is stored: one line a key, so that a person can read it."""
    body = ",\n".join(f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in data.items())
    return f"{{\n{body}\n}}\n".encode("utf-8", "surrogatepass")


def decode(raw: bytes, where: str) -> dict[str, Any]:
    """The inverse of :func:`encode`.

    Raises :class:`StoreError` naming ``where`` if the text is damaged or its format is newer than this reader.
    """
    try:
        data = json.loads(raw)
    except ValueError as error:
        raise StoreError(f"{where} is damaged: {error}.") from error
    if not isinstance(data, dict) or not isinstance(data.get("format"), int):
        raise StoreError(f"{where} is damaged: it is not a record.")
    if data["format"] > FORMAT:
        raise StoreError(
            f"{where} has format {data['format']}; this version of daskflow reads up to {FORMAT}. "
            "Nothing was changed; install a newer daskflow."
        )
    return data
