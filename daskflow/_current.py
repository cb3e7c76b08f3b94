"""``current``: what a step may know about the task it runs in."""

from __future__ import annotations

from typing import Any

_ALWAYS: dict[str, Any] = {"is_running_flow": False, "pathspec": None}


class Current:
    """Facts about the running task, the same for all its threads.

    Inside a task: ``flow_name, run_id, step_name, task_id, pathspec, retry_count, origin_run_id, namespace,
    username, parameter_names, tags, graph, tempdir, task, run, is_running_flow``. In the driver only what is known
    before a task runs. A missing fact raises ``AttributeError``; ``current.get(name, default)`` and
    ``name in current`` ask safely. All are read-only.
    """

    __slots__ = ("_facts",)

    def __init__(self) -> None:
        object.__setattr__(self, "_facts", dict(_ALWAYS))

    def __getattr__(self, name: str) -> Any:
        facts = object.__getattribute__(self, "_facts")
        if name not in facts:
            place = "while a task runs" if not facts["is_running_flow"] else "in this task"
            raise AttributeError(f"current has no '{name}' {place}; it has {', '.join(sorted(facts))}.")
        value = facts[name]
        return value() if isinstance(value, _Late) else value

    def __setattr__(self, name: str, _value: Any) -> None:
        raise AttributeError(f"current.{name} can't be set: current is read-only.")

    def __contains__(self, name: str) -> bool:
        return name in self._facts

    def get(self, name: str, default: Any = None) -> Any:
        """A fact, or ``default`` if it is not known here."""
        return getattr(self, name) if name in self else default

    def __repr__(self) -> str:
        return f"current({self._facts.get('pathspec') or 'no task'})"


class _Late:
    """A fact that is worked out when asked for."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __call__(self) -> Any:
        return self.make()


current = Current()


def tell(facts: dict[str, Any], late: dict[str, Any] | None = None) -> None:
    """Set what ``current`` knows; ``late`` facts are functions that are called when asked for."""
    known = dict(_ALWAYS) | facts | {name: _Late(make) for name, make in (late or {}).items()}
    object.__setattr__(current, "_facts", known)
