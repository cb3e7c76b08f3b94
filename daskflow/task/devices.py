"""GPUs of this machine, lent to one task at a time."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_free: list[str] | None = None
_returned = threading.Condition()


def present() -> list[str]:
    """The devices that this process may use: those of ``CUDA_VISIBLE_DEVICES``, else all of NVIDIA's."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    found = [re.fullmatch(r"nvidia(\d+)", name) for name in os.listdir("/dev")]
    return sorted((match[1] for match in found if match), key=int)


@contextlib.contextmanager
def lent(count: int | None) -> Iterator[str | None]:
    """Devices that no other task has meanwhile, as ``CUDA_VISIBLE_DEVICES`` lists them; None if none were asked for.

    Waits until as many are there: Dask's resources see to it that this is at once.
    """
    global _free  # noqa: PLW0603 - what is free in this process is a fact about this process
    if not count:
        yield None
        return
    with _returned:
        if _free is None:
            _free = present()
        _returned.wait_for(lambda: len(_free or ()) >= count)
        taken, _free = _free[:count], _free[count:]
    try:
        yield ",".join(taken)
    finally:
        with _returned:
            _free += taken
            _returned.notify_all()
