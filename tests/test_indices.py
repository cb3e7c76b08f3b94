"""A set of whole numbers that is held as ranges is a set of whole numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.indices import Indices

LIMIT = 40
RANGES = st.lists(st.tuples(st.integers(0, LIMIT), st.integers(1, 8)).map(lambda each: (each[0], sum(each))))


def numbers(ranges: list[tuple[int, int]]) -> list[int]:
    return [number for first, end in ranges for number in range(first, end)]


def filled(ranges: list[tuple[int, int]]) -> Indices:
    found = Indices()
    for first, end in ranges:
        found.add(first, end)
    return found


@given(RANGES)
def test_it_holds_what_was_added_as_few_ranges_as_possible(ranges: list[tuple[int, int]]):
    plain = set(numbers(ranges))
    found = filled(ranges)

    assert len(found) == len(plain)
    assert numbers(found.ranges()) == sorted(plain)
    assert [number in found for number in range(-1, LIMIT + 10)] == [
        number in plain for number in range(-1, LIMIT + 10)
    ]
    ends = [end for _, end in found.ranges()]
    starts = [first for first, _ in found.ranges()]
    assert all(end < first for end, first in zip(ends, starts[1:], strict=False)), "neighbours are one range"


@given(RANGES, st.integers(0, LIMIT), st.integers(1, 20))
def test_adding_tells_what_was_not_there_and_adding_again_nothing(
    ranges: list[tuple[int, int]], first: int, count: int
):
    found = filled(ranges)
    new = set(range(first, first + count)) - set(numbers(ranges))

    assert found.missing(first, first + count) == found.add(first, first + count)
    assert found.add(first, first + count) == found.missing(first, first + count) == []
    assert numbers(filled(ranges).add(first, first + count)) == sorted(new)


@given(RANGES, st.integers(0, LIMIT), st.integers(0, 20))
def test_what_is_missing_is_told_and_nothing_changes(ranges: list[tuple[int, int]], first: int, count: int):
    found = filled(ranges)
    before = found.ranges()

    missing = found.missing(first, first + count)

    assert numbers(missing) == sorted(set(range(first, first + count)) - set(numbers(ranges)))
    assert found.ranges() == before


@given(RANGES, st.randoms())
def test_the_order_of_adding_does_not_matter(ranges: list[tuple[int, int]], random):
    shuffled = list(ranges)
    random.shuffle(shuffled)

    assert filled(shuffled).ranges() == filled(ranges).ranges()


def test_a_new_one_is_empty():
    found = Indices()

    assert len(found) == 0
    assert found.ranges() == []
    assert 0 not in found
    assert found.missing(2, 5) == [(2, 5)]


@pytest.mark.parametrize("number", [0, 999_999])
def test_a_million_neighbours_are_one_range(number: int):
    found = filled([(0, 500_000), (500_000, 1_000_000)])

    assert found.ranges() == [(0, 1_000_000)]
    assert number in found
    assert len(found) == 1_000_000
