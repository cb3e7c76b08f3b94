"""Settings that hold for all tests."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# Machines are noisy: no test asserts how long something takes.
settings.register_profile("daskflow", deadline=None)
settings.load_profile("daskflow")

# Whose flows run here, and whose runs the client shows.
os.environ["DASKFLOW_USER"] = "ada"

# A run below nohup ignores a hang-up, as it should; those that the tests start must not.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
