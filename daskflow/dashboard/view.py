"""What a browser looks at: all of it stands in the page's address."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode

from daskflow.dashboard.task_rows import COLUMNS

LONGEST = 500
"""Characters of a part of an address that are taken notice of."""
PAGE = 50
"""Rows that are shown at a time."""


@dataclass(frozen=True)
class View:
    """What is selected.

    Attributes
    ----------
    flow, run, step, task
        Of which; empty for none.
    sort, down, words, offset
        How the step's tasks are listed, see :meth:`RunModel.tasks`.
    table, column
        Which table of the task is shown, and from which column.
    find, status, begin
        Which runs are listed: with these words, of this status, from which one.
    all
        1 to list runs where else the latest one would be shown.
    """

    flow: str = ""
    run: str = ""
    step: str = ""
    task: str = ""
    sort: str = ""
    down: int = 0
    words: str = ""
    offset: int = 0
    table: str = ""
    column: int = 0
    find: str = ""
    status: str = ""
    begin: int = 0
    all: int = 0

    @classmethod
    def of(cls, query: str) -> View:
        """From the query of an address; what it does not know or can't be is left out."""
        given = dict(parse_qsl(query.lstrip("?")))
        known: dict[str, Any] = {}
        for each in fields(cls):
            text = given.get(each.name, "")[:LONGEST]
            if each.type == "int":
                known[each.name] = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
            else:
                known[each.name] = text
        if known["sort"] not in COLUMNS:
            known["sort"] = ""
        return cls(**known)

    @property
    def query(self) -> str:
        """The inverse of :meth:`of`."""
        return urlencode({name: value for name, value in vars(self).items() if value}, errors="replace")

    def but(self, **changes: Any) -> str:
        """The address of a view that differs."""
        return f"?{replace(self, **changes).query}"

    def of_run(self, flow: str, run: str) -> str:
        """The address of a run."""
        return f"?{View(flow=flow, run=run).query}"

    def list(self) -> str:
        """The address of the list of runs, as it was."""
        return f"?{View(find=self.find, status=self.status, begin=self.begin, all=1).query}"

    def sorted_by(self, column: str) -> str:
        """The address of the step's tasks in the order of a column; of that of the others, if they are in that order."""
        if self.sort != column:
            return self.but(sort=column, down=0, offset=0)
        if not self.down:
            return self.but(down=1, offset=0)
        return self.but(sort="", down=0, offset=0)
