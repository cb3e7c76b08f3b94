"""Sets of whole numbers that come mostly as neighbours."""

from __future__ import annotations

from bisect import bisect_left, bisect_right


class Indices:
    """A set of whole numbers, held as the ranges it consists of."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __contains__(self, index: int) -> bool:
        place = bisect_right(self._starts, index) - 1
        return place >= 0 and index < self._ends[place]

    def __len__(self) -> int:
        return sum(self._ends) - sum(self._starts)

    def ranges(self) -> list[tuple[int, int]]:
        """All of them, as ranges ``(first, end)``."""
        return list(zip(self._starts, self._ends, strict=True))

    def add(self, first: int, end: int) -> list[tuple[int, int]]:
        """Add ``first`` to ``end - 1``; those of them that were not there, as ranges ``(first, end)``."""
        new = self.missing(first, end)
        low = bisect_left(self._ends, first)  # the first range that touches the new one
        high = bisect_right(self._starts, end)
        if low < high:
            first, end = min(first, self._starts[low]), max(end, self._ends[high - 1])
        self._starts[low:high], self._ends[low:high] = [first], [end]
        return new

    def missing(self, first: int, end: int) -> list[tuple[int, int]]:
        """Those of ``first`` to ``end - 1`` that are not there, as ranges ``(first, end)``."""
        found = []
        place = bisect_right(self._ends, first)
        while place < len(self._starts) and self._starts[place] < end:
            if first < self._starts[place]:
                found.append((first, self._starts[place]))
            first = self._ends[place]
            place += 1
        if first < end:
            found.append((first, end))
        return found
