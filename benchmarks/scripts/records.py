"""When the tasks of a step ran: prints a JSON list of [started, finished], seconds of the epoch.

python records.py STORE FLOW/RUN/STEP
"""

import json
import sys

from daskflow import Run, namespace

store, pathspec = sys.argv[1:]
namespace(None)
run, _, step = pathspec.rpartition("/")
tasks = Run(run, store=store)[step]
print(json.dumps([[task.created_at.timestamp(), task.finished_at.timestamp()] for task in tasks]))
