"""Which library a thread belongs to that was started outside of Python.

Every thread begins in a function of whoever started it, and on its stack is the address to return to. So while a thread
waits in the kernel, the libraries that the addresses on its stack lie in tell whose it is (Linux, 64 bit).
"""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass

_DEEPEST = 1 << 16
_ADDRESS = (1 << 48) - 1  # the bits above may hold a signature of the address
_BUSY_SECONDS = 0.3


@dataclass(frozen=True)
class NativeThread:
    """A thread of this process.

    Attributes
    ----------
    name
        The kernel's name for it; the program's own if nobody gave it one.
    libraries
        File names of the code that it is in, innermost or outermost in no order; empty if that can't be read.
    """

    name: str
    libraries: frozenset[str]


def others() -> list[NativeThread]:
    """All threads of this process but the one that asks; it must be the main thread.

    One that is busy is waited for, for up to 0.3 seconds: pools spin for a while before they sleep.
    """
    threads = [int(text) for text in os.listdir("/proc/self/task") if int(text) != os.getpid()]
    if not threads:
        return []
    mappings = _mappings()
    until = time.monotonic() + _BUSY_SECONDS
    found = (_look_at(thread, mappings, until) for thread in threads)
    return [thread for thread in found if thread is not None]


@dataclass(frozen=True)
class _Mapping:
    start: int
    end: int
    executable: bool
    file: str


def _mappings() -> list[_Mapping]:
    found = []
    with open("/proc/self/maps") as file:
        for line in file:
            place, flags, *rest = line.split(maxsplit=5)
            start, end = (int(part, 16) for part in place.split("-"))
            name = os.path.basename(rest[3].strip()) if len(rest) == 4 else ""
            found.append(_Mapping(start, end, "x" in flags, name))
    return found


def _look_at(thread: int, mappings: list[_Mapping], until: float) -> NativeThread | None:
    try:
        with open(f"/proc/self/task/{thread}/comm") as file:
            name = file.read().strip()
        while (state := _read(f"/proc/self/task/{thread}/syscall")) == [
            "running"
        ] and time.monotonic() < until:
            time.sleep(0.002)
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return None
    except OSError:  # a kernel or a sandbox that does not say
        return NativeThread(name, frozenset())
    if len(state) < 3:
        return NativeThread(name, frozenset())
    stack, instruction = (int(text, 16) for text in state[-2:])
    return NativeThread(name, _code_on(stack, mappings) | _code_at(instruction, mappings))


def _read(path: str) -> list[str]:
    with open(path) as file:
        return file.read().split()


def _code_on(stack: int, mappings: list[_Mapping]) -> frozenset[str]:
    top = next((mapping.end for mapping in mappings if mapping.start <= stack < mapping.end), stack)
    start = max(stack, top - _DEEPEST)  # who started it stands at the top
    try:
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            memory.seek(start)
            data = memory.read(top - start)
    except OSError:
        return frozenset()
    words = {word & _ADDRESS for (word,) in struct.iter_unpack("=Q", data[: len(data) // 8 * 8])}
    return frozenset[str]().union(*(_code_at(word, mappings) for word in words))


def _code_at(address: int, mappings: list[_Mapping]) -> frozenset[str]:
    return frozenset(m.file for m in mappings if m.executable and m.start <= address < m.end)
