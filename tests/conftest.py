"""Settings that hold for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# Machines are noisy: no test asserts how long something takes.
settings.register_profile("daskflow", deadline=None)
settings.load_profile("daskflow")

# Whose flows run here, and whose runs the client shows.
os.environ["DASKFLOW_USER"] = "ada"
