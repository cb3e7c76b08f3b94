"""Who drives a run: numbered sessions, each a lease and a fencing number.

A driver opens a session by creating ``drivers/<k>.json``, which only one can. From then on it beats, by writing
``drivers/<k>.beat.json`` anew, and at the end it says in ``drivers/<k>.end.json`` how it ended. Another may open session
k+1 once the last one has ended, or its driver is known to be dead, or its beat has stood still for a while on the clock
of the one who watches: no two machines need agree on the time.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskflow.errors import DamagedRecord, RunHeld, StoreError
from daskflow.store import records
from daskflow.store.records import moment, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from daskflow.store.runs import RunStore

BEAT_SECONDS = 2.0
STILL_SECONDS = 20.0
"""How long a beat must stand still before another driver takes over."""
LOST_SECONDS = 60.0
"""How old a beat must be, by the clocks of two machines, for readers to call the run lost."""


class Session:
    """The part of a run's life that one driver drives.

    Attributes
    ----------
    number
        0 for the first driver of a run.
    """

    def __init__(self, store: RunStore, number: int) -> None:
        self._store = store
        self.number = number
        self._over = threading.Event()
        self._replaced_by = ""
        self._tell: Callable[[str], None] = lambda _: None
        self._checked = _clock()

    def start_beating(self) -> None:
        """Beat on a thread until the session ends."""
        threading.Thread(target=self._beat, name="daskflow-beat", daemon=True).start()

    def when_replaced(self, tell: Callable[[str], None]) -> None:
        """Let ``tell`` hear who it was, if another driver takes over, or has. It is called from any thread."""
        self._tell = tell
        if self._replaced_by:
            tell(self._replaced_by)

    def _beat(self) -> None:
        beats = 0
        while not self._over.wait(BEAT_SECONDS):
            beats += 1
            with contextlib.suppress(StoreError):  # a full disk must not end a run that may not need it
                if self._is_replaced():
                    self._replaced_by = held(self._store, self.number + 1, "has taken over").message
                    self._tell(self._replaced_by)
                    return
                beat = {"format": records.FORMAT, "beats": beats, "at": timestamp()}
                self._store.storage.replace(self._store.layout.driver_beat(self.number), records.encode(beat))

    def still_ours(self) -> None:
        """To be called before anything is started.

        It looks into the store if there was no look for a while, as when the machine was asleep.
        Raises :class:`RunHeld` if another driver has taken the run over.
        """
        if _clock() - self._checked > 2 * BEAT_SECONDS and self._is_replaced():
            raise held(self._store, self.number + 1, "has taken over")

    def _is_replaced(self) -> bool:
        self._checked = _clock()
        return self._store.storage.exists(self._store.layout.driver(self.number + 1))

    def end(self, how: dict[str, str]) -> None:
        """Say how it ended: ``status`` and ``reason``. Raises :class:`StoreError`."""
        self._over.set()
        content = records.encode({"format": records.FORMAT, "ended": timestamp()} | how)
        self._store.storage.create(self._store.layout.driver_end(self.number), content)


def last_session(store: RunStore) -> int | None:
    """The number of the last session, None if there is none."""
    names = (name.partition(".")[0] for name in store.storage.names(store.layout.drivers))
    return max((int(name) for name in names if name.isdecimal()), default=None)


def snapshot_of(store: RunStore, session: int | None) -> int:
    """The session whose code that session runs."""
    record = store.read(store.layout.driver(session)) if session else None
    return int((record or {}).get("snapshot", 0))


def how_it_ended(store: RunStore, session: int) -> dict[str, Any] | None:
    """What the session's driver said at its end, None if it has not."""
    return store.read(store.layout.driver_end(session))


def open_session(
    store: RunStore, known: dict[str, Any], waiting: Callable[[str], None] = lambda _: None
) -> Session:
    """Become the driver of a run.

    Parameters
    ----------
    store
        The run.
    known
        What the session's record is to say beside who drives.
    waiting
        Told whom we wait for, if it takes a while to know that the last driver lives no more.

    Raises :class:`RunHeld` if another driver drives it.
    """
    last = last_session(store)
    if last is not None and how_it_ended(store, last) is None and _lives(store, last, waiting):
        raise held(store, last, "drives it")
    number = 0 if last is None else last + 1
    ours = {"format": records.FORMAT, "token": secrets.token_hex(8), "started": timestamp()} | known | _who()
    content = records.encode(ours)  # its token tells it from any other, if a try to create it had no answer
    if not store.storage.create(store.layout.driver(number), content):
        raise held(store, number, "drives it")
    return Session(store, number)


def status(store: RunStore) -> str:
    """``running``, ``lost``, or what the last driver said at its end: ``successful``, ``failed``, ``interrupted``."""
    last = last_session(store)
    if last is None:
        return "lost"
    ended = how_it_ended(store, last)
    if ended is not None:
        return str(ended["status"])
    alive = _alive_here(store.read(store.layout.driver(last)) or {})
    if alive is None:
        at = last_sign(store, last)
        alive = at is not None and (datetime.now(UTC) - moment(at)).total_seconds() < LOST_SECONDS
    return "running" if alive else "lost"


def last_sign(store: RunStore, session: int | None) -> str | None:
    """When a session's driver beat last, or when it began; None if that is not known, or there is no session."""
    if session is None:
        return None
    beat = None
    with contextlib.suppress(DamagedRecord):  # it is written often and in no hurry: a machine may stop within
        beat = store.read(store.layout.driver_beat(session))
    known = beat or store.read(store.layout.driver(session)) or {}
    return known.get("at") or known.get("started")


def held(store: RunStore, session: int, what: str) -> RunHeld:
    """The error that names who drives a run and since when."""
    who = store.read(store.layout.driver(session)) or {}
    since = who.get("started", "")
    since = f" since {moment(since).astimezone():%Y-%m-%d %H:%M:%S}" if since else ""
    return RunHeld(
        f"Run {store.flow}/{store.run}: {who.get('user', 'someone')} on {who.get('host', 'some machine')} "
        f"(pid {who.get('pid', '?')}) {what}{since}."
    )


def _lives(store: RunStore, session: int, waiting: Callable[[str], None]) -> bool:
    """Whether a session's driver is alive; on another machine this takes watching its beat."""
    who = store.read(store.layout.driver(session)) or {}
    alive = _alive_here(who)
    if alive is not None:
        return alive
    waiting(
        f"Its last driver, on {who.get('host', 'some machine')}, did not say that it ended: "
        f"waiting up to {STILL_SECONDS:g} s for a sign of life."
    )
    beat, end = _raw_beat(store, session), time.monotonic() + STILL_SECONDS
    while time.monotonic() < end:
        time.sleep(BEAT_SECONDS / 4)
        if _raw_beat(store, session) != beat:
            return True
        if how_it_ended(store, session) is not None:
            return False
    return False


def _raw_beat(store: RunStore, session: int) -> bytes:
    try:
        return store.storage.read(store.layout.driver_beat(session))
    except FileNotFoundError:
        return b""


def _who() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()} | _process(os.getpid())


def _alive_here(who: dict[str, Any]) -> bool | None:
    """Whether the driver's process still runs; None if it was on another machine."""
    try:
        here = _process(os.getpid())
        if not here or any(who.get(key) != here[key] for key in ("boot", "namespace")):
            return None
        return bool(_process(int(who["pid"])).get("born") == who.get("born"))
    except (KeyError, ValueError, TypeError):  # written by hand, or by a system that has no /proc
        return None


def _process(pid: int) -> dict[str, Any]:
    """What tells a process from every other one of this machine: boot, namespace of numbers, time of its start."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return {
            "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "namespace": os.readlink("/proc/self/ns/pid"),
            "born": int(stat[19]) if stat[0] not in "ZX" else None,
        }
    except OSError:
        return {}


def _clock() -> float:
    """Seconds that pass also while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
