"""GPUs of a worker are lent to one task at a time."""

from __future__ import annotations

import pytest

from daskflow.errors import ClusterError
from daskflow.task.devices import Devices


def test_a_device_that_came_back_is_lent_again():
    devices = Devices(["0", "1"])

    with devices.lent(1) as first, devices.lent(1) as second:
        assert {first, second} == {"0", "1"}
    with devices.lent(2) as both:
        assert set(both.split(",")) == {"0", "1"}


def test_a_task_that_needs_more_than_there_are_fails_rather_than_waits_for_ever():
    with pytest.raises(ClusterError, match="needs 2 GPUs.* has 1"), Devices(["0"]).lent(2):
        pass


def test_a_task_that_needs_none_is_not_told_of_any():
    with Devices([]).lent(None) as lent:
        assert lent is None
