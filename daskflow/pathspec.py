"""Names of things: ``Flow/run/step/task/artifact``, and the ids of tasks."""

from __future__ import annotations

from dataclasses import dataclass

from daskflow.errors import InvalidPathspec

PARTS = ("flow", "run", "step", "task", "artifact")


def parse(pathspec: str, parts: int) -> tuple[str, ...]:
    """Split a pathspec that must have exactly ``parts`` parts.

    Raises :class:`InvalidPathspec` if it has another number of parts or an empty one.
    """
    found = tuple(pathspec.split("/"))
    if len(found) != parts or not all(found):
        shape = "/".join(PARTS[:parts])
        raise InvalidPathspec(f"'{pathspec}' is not of the form {shape}.")
    return found


@dataclass(frozen=True, order=True)
class TaskName:
    """One task within a run: its step and its id. It is the same name for every attempt."""

    step: str
    task_id: str

    def __str__(self) -> str:
        return f"{self.step}/{self.task_id}"

    @classmethod
    def of(cls, text: str) -> TaskName:
        """The inverse of ``str``."""
        step, _, task_id = text.partition("/")
        return cls(step, task_id)


def task_id(indices: tuple[int, ...], iteration: int = 0) -> str:
    """The id of a task: foreach indices, outermost first, joined by ``-``; ``.k`` in iteration k of a recursion.

    >>> task_id(()), task_id((4, 2)), task_id((), 3), task_id((1,), 2)
    ('0', '4-2', '0.3', '1.2')
    """
    base = "-".join(map(str, indices)) if indices else "0"
    return f"{base}.{iteration}" if iteration else base
