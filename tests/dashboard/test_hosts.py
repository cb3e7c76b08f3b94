"""Which names of a host are its own."""

from __future__ import annotations

import pytest

from daskflow.dashboard.hosts import is_address, is_loopback, name_of


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:8787", "localhost"), ("LocalHost", "localhost"), ("[::1]:8787", "[::1]"), ("[::1]", "[::1]"),
        ("box.example:80", "box.example"), ("localhost:evil.example", "localhost:evil.example"), ("", ""), (":80", ":80"),
    ],
)  # fmt: skip
def test_a_name_is_the_host_without_its_port(host: str, name: str):
    assert name_of(host) == name


@pytest.mark.parametrize(
    ("name", "address", "loopback"),
    [
        ("localhost", False, True), ("127.0.0.1", True, True), ("127.1.2.3", True, True), ("[::1]", True, True), ("::1", True, True),
        ("10.0.0.1", True, False), ("0.0.0.0", True, False), ("127.0.0.1.evil.example", False, False), ("", False, False),
        ("localhost.evil.example", False, False), ("2130706433", False, False),
    ],
)  # fmt: skip
def test_addresses_and_names_of_every_machine_for_itself_are_told_from_others(
    name: str, address: bool, loopback: bool
):
    assert (is_address(name), is_loopback(name)) == (address, loopback)
