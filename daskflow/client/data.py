"""A task's artifacts as attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from daskflow.client.base import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daskflow.client.artifacts import DataArtifact
    from daskflow.client.tasks import Task


class Fact(NamedTuple):
    """Something that follows from a task's record, with the face of an artifact."""

    pathspec: str
    data: Any

    @property
    def id(self) -> str:
        """Its name."""
        return self.pathspec.rpartition("/")[2]


class Data:
    """The values of a task's artifacts as attributes, each loaded when it is touched."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        task: Task = self.__dict__["_task"]
        if name not in task._refs:
            raise AttributeError(f"{task!r} has no artifact '{name}'; it has: {listed(task._child_names())}.")
        value = task._store.load(name, task._refs[name])
        self.__dict__[name] = value
        return value

    def __contains__(self, name: object) -> bool:
        return not str(name).startswith("_") and name in self._task._refs

    def __dir__(self) -> list[str]:
        return self._task._child_names()

    def __repr__(self) -> str:
        return f"<Data of {self._task!r}: {listed(self._task._child_names())}>"


class Artifacts:
    """A task's public artifacts as attributes; iteration gives them by name."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __getattr__(self, name: str) -> DataArtifact:
        task: Task = self.__dict__["_task"]
        if name not in task._refs:
            raise AttributeError(f"{task!r} has no artifact '{name}'; it has: {listed(task._child_names())}.")
        found: DataArtifact = task[name]
        return found

    def __iter__(self) -> Iterator[DataArtifact]:
        return iter(self._task)

    def __len__(self) -> int:
        return len(self._task._child_names())

    def __contains__(self, name: object) -> bool:
        return name in self._task._child_names()

    def __dir__(self) -> list[str]:
        return self._task._child_names()

    def __repr__(self) -> str:
        return f"<Artifacts of {self._task!r}: {listed(self._task._child_names())}>"
