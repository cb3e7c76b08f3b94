"""Seconds that a run takes to become a frame, in a new process after the imports. Arguments: store, pathspec, rows expected."""

import sys
import time

import pandas  # noqa: F401 - its import is not what is measured

from daskflow import Run, namespace

store, pathspec, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])
namespace(None)
began = time.perf_counter()
found = Run(pathspec, store=store).to_pandas()
print(f"seconds={time.perf_counter() - began}")
assert len(found) == rows, len(found)
