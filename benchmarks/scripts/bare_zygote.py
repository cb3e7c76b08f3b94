"""What forking alone costs: a process for each of many no-ops, from as many threads as there are slots.

No scheduler, no driver, no commit: what is told is thrown away. Prints seconds without the start of the fork server,
`step=` for a step that does nothing, `nothing=` for no step at all.

    python bare_zygote.py ITEMS SLOTS
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from noop import Noop

from daskflow.flow.graph import Graph
from daskflow.pathspec import TaskName, TaskNames
from daskflow.store.flows import new_run
from daskflow.store.layout import PARAMETERS
from daskflow.store.records import TaskRecord, timestamp
from daskflow.store.storage import storage_at
from daskflow.task import code as task_code
from daskflow.task.launcher import Launcher
from daskflow.task.spec import RunContext, TaskSpec, Together


def ignore(*_):
    pass


def timed(launcher, works, slots):
    """Seconds until all of them ran; ends the program if one fails."""
    began = time.perf_counter()
    with ThreadPoolExecutor(slots) as pool:
        ended = list(pool.map(lambda work: launcher.run(work, ignore, ignore, ignore), works))
    took = time.perf_counter() - began
    failed = [each for each in ended if each.exit_code != 0]
    if failed:
        sys.exit(f"{len(failed)} of {len(ended)} processes failed, such as {failed[0]}")
    return took


def main():
    items, slots = map(int, sys.argv[1:])
    here = Path(__file__).parent
    code = task_code.Code(str(here), "noop.py", None, {"noop.py": (here / "noop.py").read_bytes()})
    storage = storage_at(str(here / "store"))
    store = new_run(storage, "Noop", lambda run: {"flow": "Noop", "run": run, "code": code.describe()})
    now = timestamp()
    store.commit(TaskRecord("Noop", store.run, PARAMETERS.step, PARAMETERS.task_id, 0, "0.x", "ok", now, now))
    run = RunContext("Noop", store.run, storage.url, "token", os.getcwd(), 10_000_000, "auto")

    launcher = Launcher(run)
    launcher.start_by_fork(Noop, code)  # as the driver does it, before there is any thread
    try:
        if launcher.ready()["mode"] != "fork":
            sys.exit(f"the flow can't be forked: {launcher.ready()['why']}")
        first = TaskSpec(
            run,
            TaskName("start", "0"),
            Graph.of(Noop)["start"],
            TaskNames.single(PARAMETERS),
            execution="0.x",
        )
        steps = [replace(first, name=TaskName("start", str(number))) for number in range(items)]
        nothing = Together((replace(first, count=0),), seconds=1)
        print(f"step={timed(launcher, steps, slots)}")
        print(f"nothing={timed(launcher, [nothing] * items, slots)}")
    finally:
        launcher.close()


if __name__ == "__main__":
    main()
