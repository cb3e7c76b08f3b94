"""Classes and functions of the flow file, which is ``__main__`` while a flow runs.

A pickle refers to them by name, so that in later steps a value is an instance of the class in the flow file.
Beside that stream lie their definitions *by value*, for readers that do not have the flow file as their
``__main__`` (a notebook, another script).
"""

from __future__ import annotations

import io
import pickle
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any

import cloudpickle

from daskflow.errors import DataException

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_DEFINITIONS = 1024 * 1024
"""Bytes; more means that a method uses a large global, which must not be stored with every value."""

_Group = tuple[list[str], bytes | None, str]
"""Names, their definitions in one stream, or the reason why there is none."""

_classes: dict[tuple[str, str], type] = {}
_complete: set[type] = set()
_lock = threading.RLock()
_process_scope = f"process-{uuid.uuid4().hex}"


def main_code() -> str:
    """The code that runs as ``__main__``: a flow's, by its identity; any other program is this process."""
    return str(vars(sys.modules["__main__"]).get("__daskflow_code__", _process_scope))


def main_identity() -> dict[str, Any]:
    """What the running ``__main__`` is, JSON-able: its ``code``, and the names of the ``flows`` in it."""
    things = list(vars(sys.modules["__main__"]).items())
    flows = [name for name, thing in things if isinstance(thing, type) and _is_flow_of_main(thing)]
    return {"code": main_code(), "flows": sorted(flows)}


def _is_flow_of_main(cls: type) -> bool:
    return cls.__module__ == "__main__" and getattr(cls, "__daskflow_flow__", False) is True


def is_same_main(main: Mapping[str, Any]) -> bool:
    """Whether the running ``__main__`` is that of a :func:`main_identity`, or a later version of its flow.

    A resumed run executes corrected code: there a value is an instance of the corrected class.
    """
    here = main_identity()
    return here["code"] == main["code"] or not set(here["flows"]).isdisjoint(main["flows"])


def name_in_main(thing: Any) -> str | None:
    """Qualified name under which ``__main__`` has this very class or function, None if it has not."""
    if getattr(thing, "__module__", None) != "__main__":
        return None
    name = getattr(thing, "__qualname__", None)
    return name if isinstance(name, str) and find_in_main(name) is thing else None


def find_in_main(qualname: str) -> Any | None:
    """What ``__main__`` has under a qualified name, None if nothing."""
    found: Any = sys.modules["__main__"]
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def dump_definitions(things: dict[str, Any]) -> bytes:
    """The classes and functions by value.

    All go into one stream, so that what they share stays shared. If that fails each gets its own, and one
    that can't be pickled (it uses a lock, say) is kept as the reason: it matters only to a reader elsewhere.
    """
    try:
        groups: list[_Group] = [(list(things), _by_value(things), "")]
    except Exception:  # noqa: BLE001 - anything may go wrong in users' classes; tried one by one below
        groups = [_one_definition(name, thing) for name, thing in things.items()]
    return pickle.dumps(groups, protocol=5)


def _one_definition(name: str, thing: Any) -> _Group:
    try:
        return [name], _by_value({name: thing}), ""
    except Exception as error:  # noqa: BLE001 - kept as text, shown to whoever needs the definition
        return [name], None, f"{type(error).__name__}: {error}"


class Definitions:
    """Names of a flow's ``__main__``, found in the running one if it is the same, else in their definitions.

    Parameters
    ----------
    main
        :func:`main_identity` of the process that wrote the value; None if it has no definitions.
    data
        What :func:`dump_definitions` gave there.
    """

    def __init__(self, main: Mapping[str, Any] | None, data: bytes) -> None:
        self._main = main
        self._data = data
        self._loaded: dict[str, Any] = {}
        self._reasons: dict[str, str] = {}

    def find(self, qualname: str) -> Any:
        """The class or function.

        Raises
        ------
        DataException
            If it is not in this ``__main__`` and its definition could not be stored.
        """
        found = find_in_main(qualname) if self._main is None or is_same_main(self._main) else None
        if found is not None:
            return found
        if not self._loaded and not self._reasons:
            self._load()
        if qualname in self._loaded:
            return self._loaded[qualname]
        reason = self._reasons.get(qualname, "it was not stored with the value")
        raise DataException(
            f"The value needs {qualname!r} of the flow file, whose definition is not to be had here ({reason}). "
            f"Load the value in a step of the flow, or move {qualname!r} to a module that can be imported."
        )

    def _load(self) -> None:
        for names, data, reason in pickle.loads(self._data) if self._data else []:
            if data is None:
                self._reasons.update(dict.fromkeys(names, reason))
            else:
                self._loaded.update(pickle.loads(data))


class _Bounded(io.BytesIO):
    def write(self, data: Any, /) -> int:
        if self.tell() + memoryview(data).nbytes > MAX_DEFINITIONS:
            raise ValueError(f"with the globals it uses it takes more than {MAX_DEFINITIONS:,} bytes")
        return super().write(data)


class _ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles what ``__main__`` has by value, each class under its name so that it can be shared."""

    def reducer_override(self, thing: Any) -> Any:
        reduced = super().reducer_override(thing)
        if not isinstance(thing, type) or not isinstance(reduced, tuple):
            return reduced
        name = name_in_main(thing)
        if name is None:
            return reduced
        make, arguments, state, _, _, fill = reduced
        return shared_class, (main_code(), name, make, arguments), (fill, state), None, None, fill_class


def _by_value(things: dict[str, Any]) -> bytes:
    file = _Bounded()
    _ByValuePickler(file, protocol=5).dump(things)
    return file.getvalue()


# The two functions below are named in stored pickles: they must keep their names and their arguments.
def shared_class(scope: str, qualname: str, make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    """The one class of a name and a flow's code in this process, made empty at the first call."""
    with _lock:
        if (scope, qualname) not in _classes:
            _classes[scope, qualname] = make(*arguments)
        return _classes[scope, qualname]


def fill_class(cls: type, state: tuple[Callable[[type, Any], None], Any]) -> None:
    """Give a class from :func:`shared_class` its attributes, once."""
    with _lock:
        if cls not in _complete:
            fill, attributes = state
            fill(cls, attributes)
            _complete.add(cls)
