"""Sees what the tests start that listens where other machines could reach it.

A process of its own looks a few times a second, and whenever it is asked: so it sees what listens for a moment only, and the process of
the tests has no thread for it, with which it could not be forked.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import select
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LOOK_SECONDS = 0.2
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, DONE, LISTEN = 4, 20, 0x301, 3, 10
HEADER = struct.Struct("=IHHII")
ASKS = struct.Struct("=BBBxI48s")
TELLS = struct.Struct("!4xH2x16s44x4s")
"""As ``linux/inet_diag.h`` has it: what is asked, and of what is told port, address and number."""
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
MARK = "TESTED_BY"
"""The variable by which a process is known that has lost its parent."""


class Watcher:
    """A process that looks at all sockets of this machine."""

    def __init__(self) -> None:
        words = [sys.executable, "-I", "-S", __file__, str(os.getpid())]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def seen(self) -> list[str]:
        """What has listened where others could reach it since this was asked the last time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"?")
        self._process.stdin.flush()
        found: list[str] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        """End it."""
        self._process.communicate()


@contextlib.contextmanager
def watcher() -> Iterator[Watcher]:
    """Look at what this process starts from now on."""
    os.environ[MARK] = str(os.getpid())
    found = Watcher()
    try:
        yield found
    finally:
        found.close()


def watch(tests: str) -> None:
    """Look until nobody can ask any more; ``tests`` is the process whose sockets count, and those of what it started."""
    known: set[str] = set()
    seen: list[str] = []
    while True:
        asks = select.select([sys.stdin], [], [], LOOK_SECONDS)[0]
        there = open_to_others()
        new = there.keys() - known
        known = set(there)
        if new:
            seen += [f"{there[number]}, by {whose}" for number, whose in holders(tests, new)]
        if asks:
            if not os.read(sys.stdin.fileno(), 1):
                return
            print(json.dumps(seen), flush=True)
            seen.clear()


def open_to_others() -> dict[str, str]:
    """Address and port of each socket that listens where others can reach it, by its number.

    They are asked for by netlink: to read ``/proc/net/tcp`` takes 10 ms, since Linux goes through all connections there.
    """
    found = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as link:
        for family in (socket.AF_INET, socket.AF_INET6):
            asked = HEADER.pack(HEADER.size + ASKS.size, SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, 0, 0)
            link.send(asked + ASKS.pack(family, socket.IPPROTO_TCP, 0, 1 << LISTEN, b""))
            for port, address, number in _answers(link, family):
                if not address.is_loopback:
                    found[str(number)] = f"{address} port {port}"
    return found


def _answers(link: socket.socket, family: int) -> Iterator[tuple[int, Address, int]]:
    """Port, address and number of each socket that Linux tells of."""
    while True:
        data = link.recv(1 << 16)
        while data:
            length, kind, *_ = HEADER.unpack_from(data)
            if kind == DONE:
                return
            if kind != SOCK_DIAG_BY_FAMILY:
                raise OSError("Linux does not tell who listens")
            port, written, number = TELLS.unpack_from(data, HEADER.size)
            address = ipaddress.ip_address(written[: 4 if family == socket.AF_INET else 16])
            yield (
                port,
                getattr(address, "ipv4_mapped", None) or address,
                int.from_bytes(number, sys.byteorder),
            )
            data = data[(length + 3) & ~3 :]


def holders(tests: str, sockets: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each of the sockets that the tests or what they started have, and which process of these that is."""
    wanted = {f"socket:[{each}]": each for each in sockets}
    for process in _ours(tests):
        with contextlib.suppress(OSError):  # it has ended, or is not ours
            for descriptor in os.scandir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    if (number := wanted.pop(os.readlink(descriptor.path), None)) is not None:
                        command = Path("/proc", process, "cmdline").read_bytes().decode(errors="replace")
                        yield number, f"process {process}: {' '.join(command.split(chr(0)))[:500].strip()}"


def _ours(tests: str) -> list[str]:
    parents: dict[str, str] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            parents[name] = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()[1]

    def is_ours(process: str) -> bool:
        above = process
        while above in parents:
            if above == tests:
                return True
            above = parents[above]
        with contextlib.suppress(OSError):
            return f"{MARK}={tests}".encode() in Path("/proc", process, "environ").read_bytes().split(b"\0")
        return False

    return [each for each in parents if is_ours(each)]


if __name__ == "__main__":
    watch(sys.argv[1])
