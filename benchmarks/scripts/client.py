"""What a new process pays that looks at a run; prints `list=SECONDS` or `first=SECONDS`, the import not counted.

python client.py list STORE FLOW/RUN/STEP
python client.py first STORE FLOW/RUN/STEP/TASK
"""

import sys
import time

from daskflow import Run, Task, namespace

what, store, pathspec = sys.argv[1:]
namespace(None)
began = time.perf_counter()
if what == "list":
    run, _, step = pathspec.rpartition("/")
    found = len(list(Run(run, store=store)[step]))
else:
    found = Task(pathspec, store=store).data.x
print(f"{what}={time.perf_counter() - began}")
print(f"found={found}")
