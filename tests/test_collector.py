"""Nothing is collected while much is loaded, and afterwards all is as it was."""

from __future__ import annotations

import gc

import pytest

from daskflow._collector import collector_off


def test_it_is_off_in_the_block_and_on_again_behind_it():
    with pytest.raises(KeyError), collector_off():
        assert not gc.isenabled()
        raise KeyError

    assert gc.isenabled()


def test_who_had_it_off_finds_it_off():
    gc.disable()
    try:
        with collector_off():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
