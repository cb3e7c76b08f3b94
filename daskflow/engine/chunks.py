"""How the items of a foreach share processes: the first are timed, tiny ones are grouped, long ones stay alone.

No I/O and no clock: what is decided is written down by whoever asks, before anything runs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from daskflow.task.spec import Together

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daskflow.pathspec import TaskRange
    from daskflow.task.spec import TaskSpec

TARGET_SECONDS, MOST_SECONDS = 1.5, 4.0
"""What a process that is shared should take, and at most if processes are slow to start; when less is left, less."""
MOST_OVERHEAD = 0.01
"""Which part of that its start and its commit may take."""
LEAST_SECONDS = 0.1
"""Less than this is not worth a process."""
MOST_ITEMS = 5_000
"""Of one chunk: its record is read as a whole."""
ROUNDS = 1.5
"""Into how many chunks a slot what is left is cut: the fewer, the longer some slots may be idle in the end; the more, the
more processes are started for little work."""
ALONE_AT_ONCE = 64
"""Items a slot whose places are decided at once when each has a process of its own."""
APART_SECONDS, MOST_APART = 0.2, 32
"""Tasks that each have a process are handed over several at once: as many as take so long, at most so many."""
MOST_SPOILED = 3
"""How often items of a step may end the sharing before each of them gets a process of its own."""


@dataclass
class _Step:
    """What is known of a step's items.

    Attributes
    ----------
    open
        Items of which it is not decided yet how they are cut.
    ready
        Chunks and single tasks that can run.
    left
        Items that are still to be handed out.
    seconds, timed
        What an item takes, None as long as none was timed; how often that was.
    overhead
        Seconds that a process takes beside its items.
    spoiled
        How often the sharing was ended by an item.
    """

    open: deque[TaskSpec] = field(default_factory=deque)
    ready: deque[TaskSpec] = field(default_factory=deque)
    left: int = 0
    seconds: float | None = None
    timed: int = 0
    overhead: float = 0.0
    spoiled: int = 0


class Cutter:
    """Hands out items, as many at once as fit the time that they take.

    Parameters
    ----------
    size
        Items of a chunk if they are not to be timed; 1 gives each a process of its own.
    decide
        Writes down how items of a step go on; returns what holds, which may be what another driver wrote.
    decided
        What other drivers wrote of a step, as far as it was read: also of items that are not known here yet.
    """

    def __init__(
        self,
        size: int | None,
        decide: Callable[[str, Sequence[TaskRange]], Sequence[TaskRange]],
        decided: Callable[[str], Sequence[TaskRange]] = lambda _: (),
    ) -> None:
        self._decided = decided
        self._size = size
        self._decide = decide
        self._steps: dict[str, _Step] = {}

    def add(self, spec: TaskSpec, is_open: bool) -> None:
        """Take items: all of a foreach, or a chunk of them, or a single task."""
        state = self._steps.setdefault(spec.name.step, _Step())
        (state.open if is_open else state.ready).append(spec)
        state.left += spec.count
        if is_open:
            for each in self._decided(spec.name.step):
                self._cut_off(state, each)

    def spoiled(self, step: str) -> bool:
        """An item ended the sharing; whether from now on no items of the step share a process."""
        state = self._steps.setdefault(step, _Step())
        state.spoiled += 1
        return state.spoiled == MOST_SPOILED

    def timed(self, step: str, count: int, seconds: float, overhead: float = 0.0) -> None:
        """So many items took so long, and their process so much longer; those of before count less and less."""
        state = self._steps.setdefault(step, _Step())
        each = seconds / count
        state.timed += 1
        weight = max(0.5, 1 / state.timed)
        if overhead:
            state.overhead = (overhead + (state.overhead or overhead)) / 2
        state.seconds = each if state.seconds is None else weight * each + (1 - weight) * state.seconds

    def __bool__(self) -> bool:
        return any(state.open or state.ready for state in self._steps.values())

    def next(self, slots: int) -> Together | None:
        """What to run next on a cluster of so many slots; None if nothing is ready."""
        for state in self._steps.values():
            while state.open and not state.ready:  # another driver may have decided about others
                self._plan(state, slots)
            if state.ready:
                return self._together(state, slots)
        return None

    def isolates(self, spec: TaskSpec) -> bool:
        """Whether each item of its step must have a process of its own."""
        state = self._steps.get(spec.name.step)
        spoiled = state is not None and state.spoiled >= MOST_SPOILED
        return spec.node.policy.isolated or self._size == 1 or spoiled

    def _isolated(self, state: _Step) -> bool:
        return self.isolates((state.ready or state.open)[0])

    def _items(self, state: _Step, slots: int) -> int:
        """How many items the next process should have."""
        if self._isolated(state):
            return 1
        if self._size is not None:
            return self._size
        if state.seconds is None:
            return 1
        seconds = max(state.seconds, 1e-6)
        size = min(
            max(_fair(state, slots), int(LEAST_SECONDS / seconds)),
            int(self._target(state) / seconds),
            MOST_ITEMS,
        )
        return max(1, size)

    def _target(self, state: _Step) -> float:
        return min(max(TARGET_SECONDS, state.overhead / MOST_OVERHEAD), MOST_SECONDS)

    def _plan(self, state: _Step, slots: int) -> None:
        """Cut as much as will be handed out soon."""
        size = self._items(state, slots)
        if size == 1 and (self._isolated(state) or state.seconds is not None):
            ahead = ALONE_AT_ONCE
        elif state.seconds is None or self._size is not None:
            ahead = 2 * size
        else:
            ahead = size  # no more: sizes shrink with what is left
        room = slots * ahead
        wanted: list[TaskRange] = []
        for spec in state.open:
            for first in range(0, min(room, spec.count), size):
                wanted.append(spec.tasks.part(first, min(first + size, spec.count)))
                room -= wanted[-1].count
            if room <= 0:
                break
        for decided in self._decide(wanted[0].step, wanted):
            self._cut_off(state, decided)

    def _cut_off(self, state: _Step, decided: TaskRange) -> None:
        """Move items from those that are open to those that are ready, if they are known here."""
        for place, spec in enumerate(state.open):
            shared = spec.tasks.shared_with(decided)
            if shared is None:
                continue
            state.ready.append(spec.of(shared))
            first, end = shared.first - spec.tasks.first, shared.end - spec.tasks.first
            left = [spec.part(a, b) for a, b in ((0, first), (end, spec.count)) if a < b]
            del state.open[place]
            for each in reversed(left):
                state.open.insert(place, each)
            return

    def _together(self, state: _Step, slots: int) -> Together:
        """The next chunk, and more of them as long as they fit."""
        apart = self._isolated(state)
        size = self._apart(state, slots) if apart else self._items(state, slots)
        specs = [state.ready.popleft()]
        count = specs[0].count
        while state.ready and count + state.ready[0].count <= size:
            specs.append(state.ready.popleft())
            count += specs[-1].count
        state.left -= count
        seconds = float("inf") if self._size is not None else 2 * self._target(state)
        return Together(tuple(specs), seconds, apart=apart and len(specs) == count)

    def _apart(self, state: _Step, slots: int) -> int:
        """How many tasks with processes of their own are handed over at once."""
        if state.seconds is None:
            return 1
        seconds = max(state.seconds + state.overhead, 1e-6)
        most = min(int(APART_SECONDS / seconds), MOST_APART, _fair(state, slots))
        return max(1, most)


def _fair(state: _Step, slots: int) -> int:
    """How many items a process may have so that some are left for others."""
    return int(state.left / (ROUNDS * slots))
