"""How the items of a foreach are cut: every item is handed out once, whatever is timed, decided and given back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.engine import chunks
from daskflow.engine.chunks import Cutter
from daskflow.flow.node import Node
from daskflow.flow.policy import Policy
from daskflow.pathspec import TaskName, TaskNames, TaskRange
from daskflow.store.records import Frame
from daskflow.task.spec import RunContext, TaskSpec, Together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RUN = RunContext("F", "1", "/store", "token", "/", 10**6, "auto")


def spec_of(text: str, isolated: bool = False) -> TaskSpec:
    """Items of a foreach, as they are planned: from the first on."""
    tasks = TaskRange.of(text)
    split = TaskName("split", "-".join(map(str, tasks.outer)) or "0")
    frames = [Frame("foreach", TaskName("start", "0"), index, 99) for index in tasks.outer]
    stack = (*frames, Frame("foreach", split, tasks.first, 10**6))
    node = Node(name=tasks.step, type="linear", targets=("join",), policy=Policy(isolated=isolated))
    return TaskSpec(RUN, tasks.name(), node, TaskNames.single(split), stack, count=tasks.count)


def kept(step: str, ranges: Sequence[TaskRange]) -> Sequence[TaskRange]:
    """Nobody else decides."""
    return ranges


@dataclass
class Plan:
    """The chain of what was decided of a step: whoever comes first has the next word."""

    parts: list[Sequence[TaskRange]] = field(default_factory=list)

    def reader(self) -> Reader:
        return Reader(self)


@dataclass
class Reader:
    """What one driver has read of it."""

    plan: Plan
    read: int = 0
    others: list[TaskRange] = field(default_factory=list)

    def decide(self, step: str, ranges: Sequence[TaskRange]) -> Sequence[TaskRange]:
        assert ranges
        if self.read == len(self.plan.parts):
            self.plan.parts.append(ranges)
        else:
            self.others += self.plan.parts[self.read]
        self.read += 1
        return self.plan.parts[self.read - 1]

    def decided(self, step: str) -> Sequence[TaskRange]:
        return self.others

    def cutter(self, size: int | None) -> Cutter:
        return Cutter(size, self.decide, self.decided)


def pieces(work: Together) -> Iterator[TaskRange]:
    return (spec.tasks for spec in work.specs)


def handed_out(cutter: Cutter, slots: int = 2, told: Callable[[int], float] | None = None) -> list[Together]:
    """All of it; ``told`` says how long so many items took."""
    found = []
    while cutter:
        work = cutter.next(slots)
        assert work is not None
        found.append(work)
        if told is not None:
            cutter.timed(work.specs[0].name.step, work.count, told(work.count))
    return found


def names(several: Sequence[Together]) -> list[TaskName]:
    return [name for work in several for tasks in pieces(work) for name in tasks.names()]


SIZES = st.sampled_from([None, None, 1, 2, 7, 1000])
SECONDS = st.sampled_from([0.0, 1e-9, 1e-4, 0.01, 0.3, 1.0, 50.0])
FOREACHES = ["fit/0-0..39", "fit/1-0..2", "fit/2-5..64", "use/0..30"]


@given(st.data())
def test_every_item_is_handed_out_once_whatever_is_told_meanwhile(data: st.DataObject):
    plan = Plan()
    cutter = plan.reader().cutter(data.draw(SIZES))
    waiting = data.draw(st.permutations(FOREACHES))
    expected: Counter[TaskName] = Counter()
    there: list[Together] = []
    for _ in range(data.draw(st.integers(5, 40))):
        match data.draw(st.sampled_from(["add", "next", "next", "timed", "give back", "spoiled"])):
            case "add" if waiting:
                text = waiting.pop()
                cutter.add(spec_of(text), is_open=True)
                expected.update(TaskRange.of(text).names())
            case "next":
                slots = data.draw(st.integers(1, 4))
                if cutter:
                    work = cutter.next(slots)
                    assert work is not None
                    assert len({spec.name.step for spec in work.specs}) == 1
                    there.append(work)
            case "timed" if there:
                work = there[-1]
                cutter.timed(work.specs[0].name.step, work.count, data.draw(SECONDS) * work.count)
            case "give back" if there:
                spec = data.draw(st.sampled_from(there)).specs[0]
                first = data.draw(st.integers(0, spec.count - 1))
                cutter.add(spec.part(first, spec.count), is_open=False)
                expected.update(spec.part(first, spec.count).tasks.names())
            case "spoiled":
                cutter.spoiled("fit")

    there += handed_out(cutter)

    assert Counter(names(there)) == expected
    assert cutter.next(2) is None
    decided = [each for part in plan.parts for each in part]
    for work in there:
        for tasks in pieces(work):
            assert tasks.count == 1 or any(tasks.shared_with(each) == tasks for each in decided)


@given(SIZES, SIZES, st.integers(0, 10**6))
def test_drivers_that_cut_one_foreach_cut_it_alike(one: int | None, other: int | None, seed: int):
    random = Random(seed)
    plan = Plan()
    cutters = [plan.reader().cutter(one), plan.reader().cutter(other)]
    waiting = [random.sample(FOREACHES[:3], 3) for _ in cutters]
    found: list[list[Together]] = [[], []]
    while any(waiting) or any(cutters):
        which = random.randrange(2)
        cutter = cutters[which]
        if waiting[which] and (not cutter or random.random() < 0.3):
            cutter.add(spec_of(waiting[which].pop()), is_open=True)
        elif cutter:
            # of a foreach that this one does not know yet the other may have decided
            work = cutter.next(random.randint(1, 3))
            if work is not None:
                found[which].append(work)
                cutter.timed("fit", work.count, random.choice([0.0, 1e-4, 0.01, 0.3, 50.0]) * work.count)

    cuts = [sorted(tasks for work in several for tasks in pieces(work)) for several in found]
    assert cuts[0] == cuts[1] == sorted({each for part in plan.parts for each in part})
    assert sorted(names(found[0])) == sorted(
        name for text in FOREACHES[:3] for name in TaskRange.of(text).names()
    )


def test_what_another_driver_decided_holds():
    said = [[TaskRange.of("fit/3..5"), TaskRange.of("fit/0")], [TaskRange.of("fit/8..9")]]
    asked = []

    def decide(step: str, ranges: Sequence[TaskRange]) -> Sequence[TaskRange]:
        asked.append([str(each) for each in ranges])
        return said.pop(0) if said else ranges

    cutter = Cutter(5, decide)
    cutter.add(spec_of("fit/0..9"), is_open=True)

    found = sorted(str(tasks) for work in handed_out(cutter, slots=1) for tasks in pieces(work))

    assert found == ["fit/0", "fit/1..2", "fit/3..5", "fit/6..7", "fit/8..9"]
    assert asked[0] == ["fit/0..4", "fit/5..9"]
    assert "fit/0" not in {each for ranges in asked[1:] for each in ranges}


def test_a_decision_about_items_that_are_not_known_yet_holds_up_nothing_and_holds_later():
    said = [[TaskRange.of("fit/1-0..2")]]
    others: list[TaskRange] = []

    def decide(step: str, ranges: Sequence[TaskRange]) -> Sequence[TaskRange]:
        if not said:
            return ranges
        others.extend(said[0])
        return said.pop(0)

    cutter = Cutter(4, decide, lambda step: others)
    cutter.add(spec_of("fit/0-0..3"), is_open=True)

    work = cutter.next(1)
    assert work is not None, "there is work, and a slot for it"
    cutter.add(spec_of("fit/1-0..3"), is_open=True)

    found = {str(tasks) for each in [work, *handed_out(cutter)] for tasks in pieces(each)}
    assert found == {"fit/0-0..3", "fit/1-0..2", "fit/1-3"}


# How many


def test_as_long_as_none_was_timed_items_are_alone():
    cutter = Cutter(None, kept)
    cutter.add(spec_of("fit/0..99"), is_open=True)

    assert [cutter.next(4).count for _ in range(8)] == [1] * 8


@pytest.mark.parametrize("slots", [1, 2, 16])
@pytest.mark.parametrize("seconds", [0.0002, 0.003, 0.02])
def test_what_shares_a_process_takes_about_a_second_and_less_towards_the_end(slots: int, seconds: float):
    cutter = Cutter(None, kept)
    cutter.add(spec_of("fit/0..99999"), is_open=True)
    first = cutter.next(slots)
    cutter.timed("fit", 1, seconds)

    counts = [work.count for work in handed_out(cutter, slots, lambda count: count * seconds)][1:]

    assert first.count == 1
    fair = 99_999 / (chunks.ROUNDS * slots)
    assert counts[0] == pytest.approx(min(chunks.TARGET_SECONDS / seconds, chunks.MOST_ITEMS, fair), rel=0.1)
    assert counts[-1] <= counts[0] / 4
    least = chunks.LEAST_SECONDS / seconds
    # neighbours are planned together, so within one plan sizes are the same, and its last piece may be smaller
    whole = [count for count in counts if count >= least * 0.99 - 1]
    assert whole == sorted(whole, reverse=True)
    assert len(counts) - len(whole) <= len({*counts}), "hardly any is too small to be worth a process"


def test_towards_the_end_no_slot_has_much_more_than_the_others():
    cutter = Cutter(None, kept)
    cutter.add(spec_of("fit/0..999"), is_open=True)
    busy = [0.0, 0.0]

    while cutter:
        slot = busy.index(min(busy))
        work = cutter.next(2)
        busy[slot] += work.count * 0.02
        cutter.timed("fit", work.count, work.count * 0.02)

    assert max(busy) <= 10 * 1.05


def test_long_ones_stay_alone():
    cutter = Cutter(None, kept)
    cutter.add(spec_of("fit/0..99"), is_open=True)
    cutter.timed("fit", 1, 5.0)

    assert {work.count for work in handed_out(cutter)} == {1}


def test_sizes_follow_what_is_timed():
    cutter = Cutter(None, kept)
    cutter.add(spec_of("fit/0..99999"), is_open=True)
    cutter.timed("fit", 1, 0.8)
    slow = cutter.next(2).count
    for _ in range(20):
        cutter.timed("fit", 10, 0.01)
    fast = max(cutter.next(2).count for _ in range(10))  # the first of them were cut before
    for _ in range(20):
        cutter.timed("fit", 10, 20.0)
    sizes = [work.count for work in handed_out(cutter)]

    assert slow <= 2
    assert fast > 100
    assert sizes[-1] == 1


def test_steps_are_timed_apart():
    cutter = Cutter(None, kept)
    cutter.timed("slow", 1, 5.0)
    cutter.timed("quick", 1, 0.001)
    cutter.add(spec_of("slow/0..999"), is_open=True)
    cutter.add(spec_of("quick/0..999"), is_open=True)

    counts: dict[str, set[int]] = {"slow": set(), "quick": set()}
    for work in handed_out(cutter):
        counts[work.specs[0].name.step].add(work.count)

    assert counts["slow"] == {1}
    assert 1 not in counts["quick"] or max(counts["quick"]) > 50


# A number that is given, and none at all


@pytest.mark.parametrize("seconds", [0.0, 1e-6, 50.0])
def test_a_size_that_is_given_holds_whatever_is_timed(seconds: float):
    cutter = Cutter(7, kept)
    cutter.add(spec_of("fit/0..99"), is_open=True)

    found = handed_out(cutter, 2, lambda count: count * seconds)

    assert [work.count for work in found] == [7] * 14 + [2]
    assert [str(tasks) for work in found for tasks in pieces(work)][:2] == ["fit/0..6", "fit/7..13"]
    assert {work.seconds for work in found} == {float("inf")}, "none is left to another process for its time"


def test_what_is_timed_is_left_to_other_processes_if_it_takes_much_longer():
    cutter = Cutter(None, kept)
    cutter.add(spec_of("fit/0..99"), is_open=True)

    assert cutter.next(2).seconds == 2 * chunks.TARGET_SECONDS


@pytest.mark.parametrize(("size", "isolated"), [(1, False), (None, True), (7, True)])
def test_isolated_items_have_a_process_each(size: int | None, isolated: bool):
    cutter = Cutter(size, kept)
    cutter.add(spec_of("fit/0..99", isolated), is_open=True)

    found = handed_out(cutter, 2, lambda count: 0.0001)

    assert sum(work.count for work in found) == 100
    assert all(spec.count == 1 and (work.apart or work.count == 1) for work in found for spec in work.specs)


@pytest.mark.parametrize("size", [1, None])
def test_how_isolated_items_are_cut_is_not_written_down_one_by_one(size: int | None):
    plan = Plan()
    cutter = plan.reader().cutter(size)
    cutter.add(spec_of("fit/0..9999", isolated=True), is_open=True)

    handed_out(cutter)

    assert len(plan.parts) < 100


def test_items_that_were_cut_before_are_not_cut_again():
    plan = Plan()
    cutter = plan.reader().cutter(1)
    cutter.add(spec_of("fit/0..4"), is_open=False)
    cutter.add(spec_of("fit/5"), is_open=False)

    assert [str(tasks) for work in handed_out(cutter) for tasks in pieces(work)] == ["fit/0..4", "fit/5"]
    assert plan.parts == []


def test_single_items_that_were_set_free_share_a_process_again():
    cutter = Cutter(5, kept)
    for index in (0, 2, 4, 6, 8, 10):
        cutter.add(spec_of(f"fit/{index}"), is_open=False)

    assert [[str(tasks) for tasks in pieces(work)] for work in handed_out(cutter)] == [
        ["fit/0", "fit/2", "fit/4", "fit/6", "fit/8"],
        ["fit/10"],
    ]


# Those that don't get along


def test_a_step_whose_items_end_the_sharing_again_and_again_gets_a_process_each():
    cutter = Cutter(10, kept)
    cutter.add(spec_of("fit/0..99"), is_open=True)
    cutter.add(spec_of("use/0..99"), is_open=True)
    before = cutter.next(1)

    told = [cutter.spoiled("fit") for _ in range(5)]

    assert before.count == 10
    assert told == [False] * (chunks.MOST_SPOILED - 1) + [True] + [False] * (5 - chunks.MOST_SPOILED)
    assert cutter.isolates(spec_of("fit/10"))
    assert not cutter.isolates(spec_of("use/10"))
    counts: dict[str, list[int]] = {"fit": [], "use": []}
    for work in handed_out(cutter, 1):
        counts[work.specs[0].name.step].append(work.count)
    assert set(counts["use"]) == {10}
    assert set(counts["fit"]) == {1, 10}, "what was decided is for the driver to set free"
    assert set(counts["fit"][1:]) == {1}
    assert sum(counts["fit"]) == 90
