"""Files that Arrow's threads read, and let go of when they like."""

import subprocess
import sys

import pytest

HOLDS = """
import io, threading, time
from daskflow.store.serializers.arrow_files import arrow_file

held = [arrow_file(io.BytesIO(b"abc"))]
if {bytes_too}:
    held.append(held[0].read_buffer(3))
    held.pop(0)


def let_go():
    ends.wait()
    time.sleep(0.1)
    print("let go", flush=True)
    held.clear()


ends = threading.Event()
threading.Thread(target=let_go, daemon=True).start()
ends.set()
"""


@pytest.mark.parametrize("bytes_too", [False, True])
def test_the_end_of_the_interpreter_waits_for_threads_that_hold_files_of_python(bytes_too: bool):
    done = subprocess.run(
        [sys.executable, "-c", HOLDS.format(bytes_too=bytes_too)], capture_output=True, text=True, timeout=60
    )

    assert (done.stdout, done.stderr, done.returncode) == ("let go\n", "", 0)
