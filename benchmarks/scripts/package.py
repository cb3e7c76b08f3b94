"""What a package of a folder takes: to make and store it, to find it unchanged, for several processes to lay it out, to find it laid out.

python package.py FOLDER WORKERS STORE
"""

import os
import sys
import time
from pathlib import Path

from daskflow.store import packages
from daskflow.store.layout import Layout
from daskflow.store.runs import RunStore
from daskflow.store.storage import storage_at
from daskflow.task.code import Code
from daskflow.task.package import Selection, pack
from daskflow.task.unpacked import unpack


def pack_and_save(folder: str, store: RunStore) -> packages.Package:
    """What the driver does."""
    found = pack(Code(folder, "flow.py", None, {}), Selection())
    packages.save(found, store.storage, store.layout)
    return found


def lay_out(store: RunStore, package: packages.Package, workers: int) -> None:
    """What the processes of several workers do at once."""
    told = package.describe()
    pids = []
    for _ in range(workers):
        pid = os.fork()
        if not pid:
            unpack(store, told)
            os._exit(0)
        pids.append(pid)
    if any(os.waitpid(pid, 0)[1] for pid in pids):
        sys.exit("a process did not lay the files out")


if __name__ == "__main__":
    folder, workers, root = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    store = RunStore(storage_at(str(root)), "F", Layout("F", "1").run)
    for when in ("new", "same"):
        began = time.perf_counter()
        package = pack_and_save(folder, store)
        packed = time.perf_counter()
        lay_out(store, package, workers)
        print(f"{when}_packed={packed - began}")
        print(f"{when}_laid_out={time.perf_counter() - packed}")
