"""Stores that fail for a moment: see ``daskflow/store/faults.py`` for how, here for when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daskflow.store.faults import Faulty
from daskflow.store.retries import Retrying
from daskflow.store.storage import LocalStorage

if TYPE_CHECKING:
    from pathlib import Path

    from daskflow.store.faults import Fault

only_local = pytest.mark.parametrize("storage", ["local"], indirect=True)
"""For a test of what a directory does, call by call."""


class Once:
    """A plan by which the n-th operation goes wrong, all others well.

    Attributes
    ----------
    seen
        The operations so far.
    """

    def __init__(self, number: int, fault: Fault) -> None:
        self.seen: list[str] = []
        self._number = number
        self._fault = fault

    @property
    def struck(self) -> bool:
        return len(self.seen) > self._number

    def __call__(self, verb: str, path: str) -> Fault | None:
        self.seen.append(f"{verb} {path}")
        return self._fault if len(self.seen) - 1 == self._number else None


class When:
    """A plan by which the first operation of a kind on some path goes wrong, all others well."""

    def __init__(self, verb: str, part: str, fault: Fault) -> None:
        self._what = (verb, part, fault)
        self.struck = False

    def __call__(self, verb: str, path: str) -> Fault | None:
        wanted, part, fault = self._what
        if self.struck or verb != wanted or part not in path:
            return None
        self.struck = True
        return fault


def failing(folder: Path, plan: Once | When) -> Retrying:
    """A store in a folder that fails as planned and is asked again."""
    return Retrying(Faulty(LocalStorage(str(folder)), plan))
