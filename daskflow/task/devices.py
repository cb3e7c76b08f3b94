"""GPUs of this machine, lent to one task at a time."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from functools import cache
from typing import TYPE_CHECKING

from daskflow.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def present() -> list[str]:
    """The devices that this process may use: those of ``CUDA_VISIBLE_DEVICES``, else all of NVIDIA's."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    found = [re.fullmatch(r"nvidia(\d+)", name) for name in os.listdir("/dev")]
    return sorted((match[1] for match in found if match), key=int)


class Devices:
    """Devices of which each is used by one task at a time."""

    def __init__(self, names: Sequence[str]) -> None:
        self._all = len(names)
        self._free = list(names)
        self._returned = threading.Condition()

    @contextlib.contextmanager
    def lent(self, count: int | None) -> Iterator[str | None]:
        """Devices that no other task has meanwhile, as ``CUDA_VISIBLE_DEVICES`` lists them; None if none were asked for.

        Waits until as many are free: Dask's resources see to it that this is at once.
        Raises :class:`ClusterError` if there are not as many.
        """
        if not count:
            yield None
            return
        if count > self._all:
            raise ClusterError(
                f"The task needs {count} GPUs; the worker that it was sent to has {self._all}. Give workers as many "
                "units of the resource GPU as they have devices."
            )
        with self._returned:
            self._returned.wait_for(lambda: len(self._free) >= count)
            taken, self._free = self._free[:count], self._free[count:]
        try:
            yield ",".join(taken)
        finally:
            with self._returned:
                self._free += taken
                self._returned.notify_all()


@cache
def devices() -> Devices:
    """Those of this process."""
    return Devices(present())
