"""Rows of tasks as columns, and columns as a pandas frame: each of the one type that its values have."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pandas as pd

FACTS = {
    "run": int,
    "step": str,
    "task": str,
    "index": int,
    "attempt": int,
    "status": str,
    "started": datetime.datetime,
    "finished": datetime.datetime,
    "seconds": float,
    "cpu_seconds": float,
    "peak_memory": int,
    "worker": str,
    "pid": int,
}
"""The columns that every frame has, with their types."""
Row = dict[str, Any]
"""What is known of a task, by column."""
_LARGEST = 2**63
_EXACT = 2**53


def column_of(artifact: str) -> str:
    """The column of an artifact: its name, with an underscore more if that is the name of one of :data:`FACTS`."""
    return f"{artifact}_" if artifact.rstrip("_") in FACTS else artifact


class Rows:
    """Rows of tasks, column by column; None where a task has no value."""

    def __init__(self) -> None:
        self.count = 0
        self.columns: dict[str, list[Any]] = {name: [] for name in FACTS}

    def add(self, count: int, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add so many rows; columns that only they have, or only the others, are filled up."""
        for name, values in columns.items():
            self.columns.setdefault(name, [None] * self.count).extend(values)
        self.count += count
        for values in self.columns.values():
            values.extend([None] * (self.count - len(values)))

    def add_each(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows that come one by one."""
        names = dict.fromkeys(name for row in rows for name in row)
        self.add(len(rows), {name: [row.get(name) for row in rows] for name in names})

    def sort(self, key: Callable[[str], Any]) -> None:
        """Put them in the order of their tasks."""
        keys = list(map(key, self.columns["task"]))
        order = sorted(range(self.count), key=keys.__getitem__)
        if order != list(range(self.count)):
            self.columns = {name: [values[i] for i in order] for name, values in self.columns.items()}

    def frame(self) -> pd.DataFrame:
        """The rows as a frame; artifacts by name, behind the facts."""
        import pandas as pd

        others = sorted(name for name in self.columns if name not in FACTS)
        found = {name: _fact(name, self.columns[name]) for name in FACTS}
        took = found["finished"] - found["started"]
        found["seconds"] = took.dt.total_seconds()
        found |= {name: series(self.columns[name]) for name in others}
        return pd.DataFrame(found)


def _fact(name: str, values: list[Any]) -> pd.Series:
    import pandas as pd

    kind = FACTS[name]
    if kind is datetime.datetime:
        return pd.Series(pd.to_datetime(values, utc=True)).astype("datetime64[us, UTC]")
    if kind is int:
        return pd.Series(values, dtype="Int64" if None in values else "int64")
    if kind is float:
        return pd.Series(values, dtype="float64")
    return series(values) if values else pd.Series(values, dtype="str")


def series(values: list[Any]) -> pd.Series:
    """A column: of the one type that its values have, in pandas' terms; of values of several types, of objects.

    Numbers of which some are whole and some are not are floats, as long as that is exact. Times with a zone are in UTC.
    """
    import pandas as pd

    kinds = set(map(type, values))
    missing = type(None) in kinds
    kinds.discard(type(None))
    if not kinds:
        return pd.Series(values, dtype=object)
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean" if missing else "bool")
    if kinds == {int} and _all_within(_LARGEST, values):
        return pd.Series(values, dtype="Int64" if missing else "int64")
    if float in kinds and kinds <= {int, float} and _all_within(_EXACT, values):
        return pd.Series(values, dtype="float64")
    if kinds == {str}:
        return pd.Series(values)
    if all(issubclass(kind, (datetime.datetime, datetime.timedelta)) for kind in kinds):
        return _times(values)
    return pd.Series(values, dtype=object)


def _all_within(limit: int, values: Iterable[Any]) -> bool:
    """Whether the whole numbers among some values are exact in a type that holds such up to a limit."""
    return all(-limit <= value < limit for value in values if type(value) is int)


def _times(values: list[Any]) -> pd.Series:
    import pandas as pd

    kinds = {
        (_is_duration(value), getattr(value, "tzinfo", None) is None) for value in values if value is not None
    }
    try:
        if len(kinds) > 1:
            raise ValueError("neither all are durations, nor all with a zone or all without")
        ((duration, naive),) = kinds
        return pd.Series(pd.to_timedelta(values) if duration else pd.to_datetime(values, utc=not naive))
    except (ValueError, OverflowError):  # or they are beyond what pandas can hold
        return pd.Series(values, dtype=object)


def _is_duration(value: Any) -> bool:
    return isinstance(value, datetime.timedelta)
