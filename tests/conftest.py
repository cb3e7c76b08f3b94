"""Settings that hold for all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile(
    "daskflow", deadline=None
)  # machines are noisy; no test asserts how long something takes
settings.load_profile("daskflow")
