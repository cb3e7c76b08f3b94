"""How much of the internet blocks of addresses are, alone or together."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDEST = {"0.0.0.0/0": 8, "::/0": 16}
"""No more addresses than a block with so many bits has: more are no network of somebody's, but a part of the world."""
PRIVATE = tuple(
    map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"))
)
"""Nobody comes from the internet with such an address."""


def parts_of_the_world(blocks: Iterable[str]) -> dict[str, list[str]]:
    """Those of the blocks, the widest first, that together are a part of the world, by what is all of it: ``0.0.0.0/0`` or ``::/0``.

    ``0.0.0.0/1`` and ``128.0.0.0/1`` are as much of it as ``0.0.0.0/0``, and so may be many small blocks.
    """
    networks = [each for each in map(ipaddress.ip_network, set(blocks)) if not _is_private(each)]
    found = {}
    for everybody, bits in WIDEST.items():
        world = ipaddress.ip_network(everybody)
        parts = sorted(each for each in networks if each.version == world.version)
        joined = ipaddress.collapse_addresses(parts)  # type: ignore[type-var] # all are of one version
        if sum(each.num_addresses for each in joined) > world.num_addresses >> bits:
            found[everybody] = [str(each) for each in sorted(parts, key=lambda each: each.prefixlen)]
    return found


def _is_private(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    return any(network.version == each.version and network.subnet_of(each) for each in PRIVATE)  # type: ignore[arg-type]
