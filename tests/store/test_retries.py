"""How a store that refuses is asked again: for what, how often, how long, and that one can see it."""

from __future__ import annotations

import errno
import os
import random
import sys
from typing import Any

import pytest

from daskflow.errors import StoreError
from daskflow.store import retries
from daskflow.store.retries import TRANSIENT, retried


def refusal(code: int) -> StoreError:
    error = StoreError(f"Can't create task.json: {os.strerror(code)}.")
    error.__cause__ = OSError(code, os.strerror(code))
    return error


class Refusing:
    """Work that fails so often and then succeeds."""

    def __init__(self, times: int, error: Exception) -> None:
        self.tries = 0
        self._times = times
        self._error = error

    def __call__(self) -> str:
        self.tries += 1
        if self.tries <= self._times:
            raise self._error
        return "done"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, with the constants as they are, on a clock that only they move."""
    made: list[float] = []
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(retries, "LONGEST_PAUSE_SECONDS", 5.0)
    monkeypatch.setattr(retries.time, "sleep", made.append)
    monkeypatch.setattr(retries.time, "monotonic", lambda: sum(made))
    return made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(retries, "tell", lines.append)
    return lines


@pytest.mark.parametrize("code", sorted(TRANSIENT), ids=errno.errorcode.get)
def test_what_may_pass_is_tried_again(pauses: list[float], code: int):
    work = Refusing(3, refusal(code))

    assert retried(work) == "done"
    assert len(pauses) == 3


@pytest.mark.parametrize(
    "error",
    [
        *map(
            refusal, (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)
        ),
        StoreError("task.json is damaged: it ends too early."),
        FileNotFoundError(errno.ENOENT, "No such file"),
        OSError(errno.EIO, "of the user's own"),
    ],
    ids=str,
)
def test_what_does_not_pass_is_told_at_once(pauses: list[float], told: list[str], error: Exception):
    work = Refusing(1, error)

    with pytest.raises(type(error)) as caught:
        retried(work)

    assert caught.value is error
    assert (work.tries, pauses, told) == (1, [], [])


def test_pauses_double_up_to_the_longest_and_no_two_are_alike(pauses: list[float]):
    retried(Refusing(9, refusal(errno.EIO)))

    full = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, full, strict=True))
    assert len(set(pauses)) == len(pauses)


def test_after_a_bounded_time_the_last_error_of_the_store_counts(pauses: list[float]):
    error = refusal(errno.ETIMEDOUT)
    work = Refusing(10**6, error)

    with pytest.raises(StoreError) as caught:
        retried(work)

    assert caught.value is error
    assert work.tries == len(pauses) + 1
    patience, longest = retries.PATIENCE_SECONDS, retries.LONGEST_PAUSE_SECONDS
    assert patience - longest < sum(pauses) <= patience


def test_in_a_process_that_is_to_end_nothing_is_tried_for_longer_than_it_has(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(retries, "_deadline", retries._deadline)
    retries.hurry(3.0)

    with pytest.raises(StoreError):
        retried(Refusing(10**6, refusal(errno.ENOSPC)))

    assert 0 < sum(pauses) <= 3.0
    assert retried(lambda: "done") == "done"


def test_each_refusal_is_told_with_the_words_of_the_store_and_the_pause(pauses: list[float], told: list[str]):
    retried(Refusing(2, refusal(errno.ENOSPC)))

    assert told == [
        f"Can't create task.json: No space left on device. It is tried again in {pause:.2g} s."
        for pause in pauses
    ]


def test_it_is_told_on_standard_error_unless_the_process_says_where(
    pauses: list[float], capfd: pytest.CaptureFixture[str]
):
    retried(Refusing(1, refusal(errno.EIO)))

    told = capfd.readouterr()
    assert told.err.startswith("[daskflow] Can't create task.json: Input/output error. It is tried again in ")
    assert told.out == ""


@pytest.mark.parametrize("stderr", ["none", "closed", "full"])
def test_that_no_one_can_be_told_hinders_nothing(
    pauses: list[float], monkeypatch: pytest.MonkeyPatch, stderr: str
):
    with open("/dev/full", "w") as full, open(os.devnull, "w") as closed:
        closed.close()
        place: Any = {"none": None, "closed": closed, "full": full}[stderr]
        monkeypatch.setattr(sys, "stderr", place)
        monkeypatch.setattr(sys, "stdout", None)

        assert retried(Refusing(1, refusal(errno.EIO))) == "done"

        monkeypatch.undo()
        if stderr == "full":
            with pytest.raises(OSError, match="No space left"):
                full.close()


def test_random_numbers_of_a_step_are_not_touched(pauses: list[float]):
    before = random.getstate()

    retried(Refusing(5, refusal(errno.EIO)))

    assert random.getstate() == before
