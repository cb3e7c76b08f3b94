"""Fresh random state for every task, although tasks are forks of one process."""

from __future__ import annotations

import gc
import os
import random
import sys
from typing import Any

_generators: list[Any] = []


def note_generators() -> None:
    """Find the random generators that exist once the flow is loaded, wherever they are kept."""
    kinds: set[type] = {random.Random}
    if "numpy.random" in sys.modules:
        import numpy as np

        kinds |= {np.random.Generator, np.random.RandomState}
    own = random.random.__self__  # type: ignore[attr-defined] # the module's, whose methods its functions are
    _generators[:] = [value for value in gc.get_objects() if type(value) in kinds and value is not own]


def freshen() -> None:
    """Give every generator that was noted entropy of its own, whatever seed it got when the flow was loaded."""
    random.seed(
        int.from_bytes(os.urandom(32), "big")
    )  # without a seed it takes 2,500 bytes, and twice the time
    for value in _generators:
        if hasattr(value, "bit_generator"):  # made anew, so that what it spawns differs as well
            value.__init__(type(value.bit_generator)())
        else:
            value.seed()
