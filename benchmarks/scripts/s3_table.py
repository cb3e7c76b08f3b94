"""A table through the store and through pandas alone, by turns, on one S3 server; prints medians in seconds.

Arguments: the bucket's URL, rows, how often each is done.
"""

import statistics
import sys
import time

import numpy as np
import pandas as pd

from daskflow.pathspec import TaskName
from daskflow.store.artifacts import ArtifactWriter
from daskflow.store.flows import new_run
from daskflow.store.serializers.parquet import read_columns
from daskflow.store.storage import storage_at

BUCKET, ROWS, TIMES = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
COLUMN = "c3"


def table():
    """Ten columns of eight bytes, half of them with few digits."""
    random = np.random.default_rng(0)
    whole = {f"c{n}": random.integers(0, 10**6, ROWS) for n in range(5)}
    parts = {f"c{n}": random.integers(0, 10**6, ROWS) / 1000 for n in range(5, 10)}
    return pd.DataFrame(whole | parts)


def by_turns(**works):
    """The median time of each."""
    took = {name: [] for name in works}
    for _ in range(TIMES):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            took[name].append(time.perf_counter() - began)
    for name, each in took.items():
        print(f"{name}={statistics.median(each)}")


frame = table()
print(f"bytes={frame.memory_usage().sum()}")
run = new_run(storage_at(f"{BUCKET}/tables"), "F", lambda number: {"run": number, "flow": "F"})
writer = ArtifactWriter(run, TaskName("s", "0"), "0.a")
url = f"{BUCKET}/bare.parquet"
ref = writer.save("frame", frame)
frame.to_parquet(url)
assert run.load("frame", ref).equals(pd.read_parquet(url))


def one_column():
    """As a lazy frame of the store reads it."""
    return read_columns(lambda: run.open(ref), ref.info, [COLUMN])


by_turns(write=lambda: writer.save("frame", frame), bare_write=lambda: frame.to_parquet(url))
by_turns(read=lambda: run.load("frame", ref), bare_read=lambda: pd.read_parquet(url))
by_turns(column=one_column, bare_column=lambda: pd.read_parquet(url, columns=[COLUMN]))
