"""Whether the kernel ended a process for want of memory."""

from __future__ import annotations

import contextlib
import re

_COUNTER = re.compile(rb"^oom_kill (\d+)$", re.MULTILINE)


def kills() -> int:
    """How many processes the kernel has ended for want of memory since it started; 0 where it does not say.

    ``oom_kill`` of ``/proc/vmstat``, which counts kills of every control group (Linux, Documentation/admin-guide/mm).
    """
    with contextlib.suppress(OSError), open("/proc/vmstat", "rb") as file:
        if found := _COUNTER.search(file.read()):
            return int(found[1])
    return 0
