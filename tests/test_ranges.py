"""Names of tasks held as ranges: each is what the plain list, or set, of the names is."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.pathspec import TaskName, TaskNames, TaskRange, TaskSet, task_id

STEPS = st.sampled_from(["fit", "a_1"])
OUTER = st.lists(st.integers(0, 2), max_size=3).map(tuple)


@st.composite
def ranges(draw: st.DrawFn, longest: int = 6) -> TaskRange:
    return TaskRange(
        draw(STEPS),
        draw(OUTER),
        draw(st.integers(0, 15)),
        draw(st.integers(1, longest)),
        draw(st.integers(0, 1)),
    )


def plain(tasks: TaskRange) -> list[TaskName]:
    return [
        TaskName(tasks.step, task_id((*tasks.outer, index), tasks.iteration))
        for index in range(tasks.first, tasks.first + tasks.count)
    ]


# One range


@given(ranges())
def test_a_range_is_the_list_of_its_tasks(tasks: TaskRange):
    names = plain(tasks)

    assert list(tasks.names()) == names
    assert len(tasks) == len(names)
    assert [tasks.name(index) for index in range(len(names))] == names


@given(ranges(longest=120))
def test_a_range_is_read_from_its_text(tasks: TaskRange):
    assert TaskRange.of(str(tasks)) == tasks
    assert TaskRange.of_ids(tasks.step, tasks.ids) == tasks


@given(ranges())
def test_a_single_task_is_the_range_of_one(tasks: TaskRange):
    for index, name in enumerate(plain(tasks)):
        assert TaskRange.of(str(name)) == tasks.part(index, index + 1)


@given(ranges(), st.data())
def test_a_part_is_a_slice(tasks: TaskRange, data: st.DataObject):
    start = data.draw(st.integers(0, tasks.count - 1))
    stop = data.draw(st.integers(start + 1, tasks.count))

    assert plain(tasks.part(start, stop)) == plain(tasks)[start:stop]


@given(ranges(), ranges())
def test_what_two_ranges_share_is_the_intersection_of_their_tasks(one: TaskRange, other: TaskRange):
    shared = one.shared_with(other)
    common = [name for name in plain(one) if name in plain(other)]

    assert (plain(shared) if shared else []) == common
    assert shared == other.shared_with(one)


@given(ranges(), st.integers(0, 4), st.integers(-1, 3))
def test_a_range_is_shifted_in_one_of_its_foreaches(tasks: TaskRange, place: int, by: int):
    expected = []
    for name in plain(tasks):
        base, _, iteration = name.task_id.partition(".")
        indices = list(map(int, base.split("-")))
        if place < len(indices):
            indices[place] += by
        expected.append((tuple(indices), int(iteration or 0)))

    shifted = tasks.shifted(place, by)

    indices_of = [((*shifted.outer, index), shifted.iteration) for index in range(shifted.first, shifted.end)]
    assert indices_of == expected
    assert shifted.step == tasks.step


@pytest.mark.parametrize(
    ("text", "outer", "first", "count", "iteration"),
    [
        ("fit/0", (), 0, 1, 0),
        ("fit/4-0..99", (4,), 0, 100, 0),
        ("fit/1-2-3..3", (1, 2), 3, 1, 0),
        ("fit/7..8.2", (), 7, 2, 2),
        ("fit/7.2", (), 7, 1, 2),
    ],
)
def test_ranges_are_written_as_ids_with_two_dots(
    text: str, outer: tuple[int, ...], first: int, count: int, iteration: int
):
    assert TaskRange.of(text) == TaskRange("fit", outer, first, count, iteration)


@pytest.mark.parametrize(
    "text", ["fit", "fit/", "fit/x", "fit/3..2", "fit/1-", "fit/1..2..3", "fit/-1", "fit/1..x", "fit/1 "]
)
def test_what_is_no_range_is_refused_with_its_text(text: str):
    with pytest.raises(ValueError, match="is empty|is no task's id, nor a range of them"):
        TaskRange.of(text)


# A sequence of names


@given(st.lists(ranges(), max_size=6))
def test_names_are_the_list_of_their_tasks(several: list[TaskRange]):
    expected = [name for tasks in several for name in plain(tasks)]
    names = TaskNames(several)

    assert list(names) == expected
    assert len(names) == len(expected)
    assert [names[index] for index in range(-len(expected), len(expected))] == expected * 2
    assert list(reversed(names)) == expected[::-1]
    for index in (len(expected), -len(expected) - 1):
        with pytest.raises(IndexError):
            names[index]


@given(st.lists(ranges(), max_size=6), st.slices(12))
def test_a_slice_of_names_is_that_of_the_list(several: list[TaskRange], which: slice):
    names = TaskNames(several)

    assert names[which] == list(names)[which]


@given(st.lists(ranges(), max_size=6))
def test_names_are_read_from_their_texts_which_are_json(several: list[TaskRange]):
    names = TaskNames(several)
    again = TaskNames.of(json.loads(json.dumps(names.texts())))

    assert again == names
    assert hash(again) == hash(names)
    assert list(again) == list(names)


@given(ranges(), st.data())
def test_names_are_equal_however_they_were_put_together(tasks: TaskRange, data: st.DataObject):
    cuts = sorted(data.draw(st.sets(st.integers(1, tasks.count), max_size=4)) | {0, tasks.count})
    pieces = [tasks.part(a, b) for a, b in pairwise(cuts)]

    assert TaskNames(pieces) == TaskNames([tasks])
    assert TaskNames(pieces).texts() == [str(tasks)]
    assert TaskNames(map(TaskRange.of, map(str, plain(tasks)))) == TaskNames([tasks])


def test_names_of_other_order_are_others():
    one, two = TaskRange("fit", (), 0), TaskRange("fit", (), 1)

    assert TaskNames([one, two]) != TaskNames([two, one])
    assert TaskNames([one]) == TaskNames.single(TaskName("fit", "0"))
    assert TaskNames([one]) != [TaskName("fit", "0")]


def test_a_million_names_are_one_text():
    names = TaskNames.of(["fit/0..999999"])

    assert len(names) == 1_000_000
    assert names[-1] == TaskName("fit", "999999")
    assert names.texts() == ["fit/0..999999"]


# A set of tasks


@given(st.lists(ranges(), max_size=8), st.lists(ranges(), max_size=3))
def test_a_set_is_the_set_of_its_tasks(several: list[TaskRange], others: list[TaskRange]):
    expected = {name for tasks in several for name in plain(tasks)}
    found = TaskSet(several)

    assert len(found) == len(expected)
    held = [name for tasks in found.ranges() for name in plain(tasks)]
    assert len(held) == len(expected)
    assert set(held) == expected
    assert found.steps == {name.step for name in expected}
    for tasks in several + others:
        assert [name in found for name in plain(tasks)] == [name in expected for name in plain(tasks)]
        missing = [name for piece in found.missing(tasks) for name in plain(piece)]
        assert missing == [name for name in plain(tasks) if name not in expected]


@given(st.lists(ranges(), max_size=8))
def test_a_set_is_read_from_its_json(several: list[TaskRange]):
    found = TaskSet(several)
    again = TaskSet.of_json(json.loads(json.dumps(found.to_json())))

    assert sorted(again.ranges()) == sorted(found.ranges())


@given(st.lists(ranges(), max_size=8))
def test_a_set_is_held_as_few_ranges_as_possible(several: list[TaskRange]):
    held = sorted(TaskSet(several).ranges(), key=lambda tasks: (tasks.lane, tasks.first))

    assert all(one.lane != other.lane or one.end < other.first for one, other in pairwise(held))


def test_the_tasks_of_a_set_are_by_step_and_short():
    found = TaskSet([TaskRange("fit", (4,), 0, 100), TaskRange("fit", (4,), 100), TaskRange("start", (), 0)])

    assert found.to_json() == {"fit": ["4-0..100"], "start": ["0"]}
    assert TaskSet().to_json() == {}
    assert len(TaskSet()) == 0
