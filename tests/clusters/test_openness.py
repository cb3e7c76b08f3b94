"""Which blocks of addresses are a part of the world."""

from __future__ import annotations

import pytest

from daskflow.clusters.openness import parts_of_the_world


@pytest.mark.parametrize(
    "blocks",
    [
        ["203.0.113.7/32"],
        ["16.0.0.0/8"],
        ["16.0.0.0/9", "16.0.0.0/8", "16.128.0.0/9"],
        ["10.0.0.0/8", "16.0.0.0/8", "192.168.0.0/16", "172.16.0.0/12"],
        ["2001::/16", "16.0.0.0/8"],
        ["fc00::/7"],
        [],
    ],
)
def test_networks_of_somebodys_are_none(blocks: list[str]):
    assert parts_of_the_world(blocks) == {}


@pytest.mark.parametrize(
    "blocks",
    [
        ["0.0.0.0/0"],
        ["16.0.0.0/7"],
        ["0.0.0.0/1", "128.0.0.0/1"],
        ["16.0.0.0/8", "203.0.113.7/32"],
        [f"{number}.0.0.0/9" for number in range(20, 40, 2)],
    ],
)
def test_more_addresses_than_a_network_has_are_one_however_they_are_cut(blocks: list[str]):
    assert parts_of_the_world(blocks) == {"0.0.0.0/0": blocks}


def test_of_each_kind_of_address_it_is_told_for_itself():
    found = parts_of_the_world(["2400::/12", "203.0.113.7/32", "::/0"])

    assert found == {"::/0": ["::/0", "2400::/12"]}
    assert set(parts_of_the_world(["0.0.0.0/0", "2400::/12"])) == {"0.0.0.0/0", "::/0"}
