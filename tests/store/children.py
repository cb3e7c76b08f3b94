"""Work done in forked children: many at once, as another user, or killed in the middle."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

Work = Callable[[], Any]


def _fork() -> int:
    with warnings.catch_warnings():
        # The test runner may have threads; the children touch nothing of theirs.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def at_once(works: list[Work]) -> list[Any]:
    """Each in a process of its own, all started at the same moment; what they return, in order."""
    gate, opened = os.pipe()
    children = []
    for work in works:
        answers, answer = os.pipe()
        pid = _fork()
        if pid == 0:
            status = 1
            try:
                os.close(opened)
                os.read(gate, 1)  # ends when the parent opens the gate
                with os.fdopen(answer, "wb") as file:
                    pickle.dump(work(), file)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        os.close(answer)
        children.append((pid, answers))
    os.close(gate)
    os.close(opened)
    found = []
    for pid, answers in children:
        with os.fdopen(answers, "rb") as file:
            raw = file.read()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        found.append(pickle.loads(raw))
    return found


def in_child(work: Work) -> Any:
    """What ``work`` returns in a child; an error of the child is one of the test."""
    return at_once([work])[0]


def survives(work: Work) -> bool:
    """Whether a child comes to the end of its work, or is killed before."""
    pid = _fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL), status
    return status == 0


def killed_at(number: int, names: tuple[str, ...], *more: tuple[Any, str]) -> None:
    """From here on the process dies before its n-th call of any of these functions of ``os``, or of ``more``.

    If that call is a write, half of it is done.
    """
    left = [number]

    def dying(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                if name == "write":
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for owner, name in (*((os, name) for name in names), *more):
        setattr(owner, name, dying(name, getattr(owner, name)))


def everything_below(folder: Path) -> list[str]:
    """The files in a folder and below, relative to it."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
