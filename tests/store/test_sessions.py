"""Who drives a run: one driver at a time, and another only when that one is known to be gone."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from children import at_once

from daskflow.errors import RunHeld
from daskflow.store import sessions
from daskflow.store.sessions import how_it_ended, last_session, open_session, status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from daskflow.store.runs import RunStore

ADA = {"user": "ada"}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats that are quick, and observers with little patience."""
    monkeypatch.setattr(sessions, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(sessions, "STILL_SECONDS", 1.0)


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended and was waited for."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def living() -> Iterator[int]:
    """The number of a process of this machine that runs."""
    process = subprocess.Popen(["sleep", "300"])
    yield process.pid
    process.kill()
    process.wait()


def record(run: RunStore, session: int = 0) -> dict[str, Any]:
    found = run.read(run.layout.driver(session))
    assert found is not None
    return found


def rewrite(run: RunStore, session: int = 0, **changed: Any) -> None:
    """Let a session's record say something else of who drives."""
    path = run.storage.locate(run.layout.driver(session))
    with open(path) as file:
        content = json.load(file)
    with open(path, "w") as file:
        json.dump(content | changed, file)


def elsewhere(run: RunStore, session: int = 0) -> None:
    """Let a session be one of another machine."""
    rewrite(run, session, host="far-away", boot="another boot", pid=1)


def ended(run: RunStore, session: int = 0) -> None:
    run.storage.create(run.layout.driver_end(session), b'{"format": 1, "status": "failed", "reason": ""}')


# One driver at a time


def test_the_first_driver_opens_session_0_and_says_who_it_is(run: RunStore):
    session = open_session(run, ADA | {"snapshot": 3})

    assert session.number == last_session(run) == 0
    said = record(run)
    assert (said["user"], said["snapshot"], said["pid"]) == ("ada", 3, os.getpid())
    assert said["host"]
    assert said["started"]


def test_while_it_lives_no_other_can(run: RunStore):
    open_session(run, ADA)

    with pytest.raises(RunHeld, match=rf"Run F/1: ada on \S+ \(pid {os.getpid()}\) drives it since \d{{4}}-"):
        open_session(run, {"user": "grace"})
    assert last_session(run) == 0


def test_when_it_has_ended_the_next_can_and_keeps_counting(run: RunStore):
    open_session(run, ADA).end({"status": "failed", "reason": "why"})

    session = open_session(run, ADA)

    assert session.number == 1
    found = how_it_ended(run, 0)
    assert found is not None
    assert (found["status"], found["reason"]) == ("failed", "why")


def test_when_its_process_is_dead_the_next_need_not_wait(run: RunStore, dead: int):
    open_session(run, ADA)
    rewrite(run, pid=dead)
    waited: list[str] = []

    assert open_session(run, ADA, waited.append).number == 1
    assert waited == []


def test_a_number_that_another_process_has_by_now_is_no_sign_of_life(run: RunStore, living: int):
    open_session(run, ADA)
    rewrite(run, pid=living)

    assert open_session(run, ADA).number == 1


def test_a_driver_that_has_ended_and_was_not_waited_for_is_dead(run: RunStore):
    process = subprocess.Popen(["sleep", "300"])
    open_session(run, ADA)
    rewrite(run, pid=process.pid, **{"born": sessions._process(process.pid)["born"]})
    with pytest.raises(RunHeld):
        open_session(run, ADA)

    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert open_session(run, ADA).number == 1
    process.wait()


def tried_at_once(run: RunStore, drivers: int) -> list[str]:
    """What becomes of as many processes that try to drive; each lives until all have tried."""
    all_have_tried = multiprocessing.get_context("fork").Barrier(drivers)

    def attempt() -> str:
        try:
            return str(open_session(run, ADA).number)
        except RunHeld:
            return "held"
        finally:
            all_have_tried.wait(30)

    return sorted(at_once([attempt] * drivers))


def test_of_many_that_try_at_once_one_drives(run: RunStore):
    for session in range(3):  # the winner of each round is dead by the next
        assert tried_at_once(run, 6) == [str(session)] + ["held"] * 5


@pytest.mark.usefixtures("quick")
def test_of_many_that_wait_for_a_driver_of_another_machine_one_drives(run: RunStore):
    open_session(run, ADA)
    elsewhere(run)

    assert tried_at_once(run, 4) == ["1", "held", "held", "held"]


# Drivers of other machines


@pytest.mark.usefixtures("quick")
def test_a_driver_of_another_machine_whose_beat_stands_still_is_gone(run: RunStore):
    open_session(run, ADA)
    elsewhere(run)
    waited: list[str] = []

    assert open_session(run, ADA, waited.append).number == 1
    assert waited == [
        "Its last driver, on far-away, did not say that it ended: waiting up to 1 s for a sign of life."
    ]


@pytest.mark.usefixtures("quick")
def test_a_driver_of_another_machine_that_beats_drives_however_wrong_its_clock_is(run: RunStore):
    session = open_session(run, ADA)
    elsewhere(run)
    session.start_beating()

    with pytest.raises(RunHeld, match=r"ada on far-away \(pid 1\) drives it since"):
        open_session(run, ADA)
    session.end({"status": "failed"})


@pytest.mark.usefixtures("quick")
def test_who_waits_sees_a_driver_of_another_machine_end(run: RunStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sessions, "STILL_SECONDS", 3600.0)
    open_session(run, ADA)
    elsewhere(run)

    assert open_session(run, ADA, lambda _: ended(run)).number == 1


@pytest.mark.parametrize(
    "content", ['{"format": 1}', '{"format": 1, "pid": "x", "boot": 3, "namespace": []}']
)
@pytest.mark.usefixtures("quick")
def test_a_record_that_does_not_say_who_drives_is_one_of_another_machine(run: RunStore, content: str):
    run.storage.create(run.layout.driver(0), content.encode())

    assert open_session(run, ADA).number == 1


# A driver that was replaced


@pytest.mark.usefixtures("quick")
def test_a_driver_hears_that_it_was_replaced_and_by_whom_and_beats_no_more(run: RunStore):
    session = open_session(run, ADA)
    heard: list[str] = []
    told = threading.Event()
    session.when_replaced(lambda by: (heard.append(by), told.set())[1])
    session.start_beating()
    ended(run)
    open_session(run, {"user": "grace"})

    assert told.wait(30)
    assert heard[0].startswith("Run F/1: grace on ")
    assert f"(pid {os.getpid()}) has taken over since " in heard[0]
    beat = run.read(run.layout.driver_beat(0))
    time.sleep(0.3)
    assert run.read(run.layout.driver_beat(0)) == beat


@pytest.mark.usefixtures("quick")
def test_who_asks_late_hears_it_too(run: RunStore):
    session = open_session(run, ADA)
    ended(run)
    open_session(run, {"user": "grace"})
    session._beat()
    heard: list[str] = []

    session.when_replaced(heard.append)

    assert len(heard) == 1


def test_a_driver_that_was_asleep_looks_before_it_starts_anything(
    run: RunStore, monkeypatch: pytest.MonkeyPatch
):
    session = open_session(run, ADA)
    session.still_ours()
    ended(run)
    open_session(run, {"user": "grace"})
    session.still_ours()  # it has looked just now
    now = sessions._clock()
    monkeypatch.setattr(sessions, "_clock", lambda: now + 3600)

    with pytest.raises(RunHeld, match="Run F/1: grace on .* has taken over since"):
        session.still_ours()


def test_a_driver_that_was_asleep_and_is_still_the_last_goes_on(
    run: RunStore, monkeypatch: pytest.MonkeyPatch
):
    session = open_session(run, ADA)
    now = sessions._clock()
    monkeypatch.setattr(sessions, "_clock", lambda: now + 3600)

    session.still_ours()


@pytest.mark.usefixtures("quick")
def test_the_beat_goes_on_until_the_end_and_survives_a_store_that_fails(
    run: RunStore, monkeypatch: pytest.MonkeyPatch
):
    from daskflow.errors import StoreError

    replace, failures = run.storage.replace, [StoreError("full"), StoreError("full")]
    beaten = threading.Semaphore(0)

    def sometimes(path: str, data: bytes) -> None:
        if failures:
            raise failures.pop()
        replace(path, data)
        beaten.release()

    monkeypatch.setattr(run.storage, "replace", sometimes)
    session = open_session(run, ADA)

    session.start_beating()

    assert beaten.acquire(timeout=30)
    assert beaten.acquire(timeout=30)
    assert failures == []
    session.end({"status": "successful"})


# What readers see


def test_a_run_without_a_driver_is_lost(run: RunStore):
    assert status(run) == "lost"


def test_a_run_whose_driver_lives_is_running(run: RunStore):
    open_session(run, ADA)

    assert status(run) == "running"


def test_a_run_whose_driver_is_dead_is_lost(run: RunStore, dead: int):
    open_session(run, ADA)
    rewrite(run, pid=dead)

    assert status(run) == "lost"


@pytest.mark.parametrize("how", ["successful", "failed", "interrupted"])
def test_a_run_whose_driver_has_ended_is_what_it_said(run: RunStore, how: str):
    open_session(run, ADA).end({"status": how, "reason": ""})

    assert status(run) == how


def test_only_the_last_session_counts(run: RunStore, dead: int):
    open_session(run, ADA).end({"status": "failed", "reason": ""})
    open_session(run, ADA)
    assert status(run) == "running"

    rewrite(run, 1, pid=dead)

    assert status(run) == "lost"


def test_sessions_are_counted_as_numbers(run: RunStore):
    for _ in range(11):
        open_session(run, ADA).end({"status": "failed", "reason": ""})

    assert last_session(run) == 10
    assert open_session(run, ADA).number == 11


def test_of_a_driver_on_another_machine_the_age_of_its_beat_decides(run: RunStore):
    open_session(run, ADA)
    elsewhere(run)
    assert status(run) == "running"

    rewrite(run, started="2020-01-01T00:00:00.000000Z")
    assert status(run) == "lost"

    beat = {"format": 1, "beats": 1, "at": sessions.timestamp()}
    run.storage.replace(run.layout.driver_beat(0), json.dumps(beat).encode())
    assert status(run) == "running"


def test_a_session_is_created_only_once(run: RunStore, tmp_path: Path):
    open_session(run, ADA)

    assert run.storage.create(run.layout.driver(0), b"{}") is False
    assert record(run)["user"] == "ada"
