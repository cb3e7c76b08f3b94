"""Many requests to a store, several of which are on their way at once where each takes a round trip."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from daskflow.store.storage import Storage

AT_ONCE = 16
"""Requests that are on their way at once."""

A = TypeVar("A")
T = TypeVar("T")


def at_once(storage: Storage, ask: Callable[[A], T], items: Sequence[A]) -> Iterator[T]:
    """What ``ask`` returns for each, in order: of a remote storage asked in threads, else when it is wanted."""
    if not storage.remote or len(items) < 2:
        yield from map(ask, items)
        return
    with ThreadPoolExecutor(AT_ONCE, "daskflow-store") as pool:
        yield from pool.map(ask, items)
