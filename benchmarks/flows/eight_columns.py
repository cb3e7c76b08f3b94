"""The frame of the benchmarks: eight columns of the usual kinds, the same on every call."""

import numpy as np
import pandas as pd
import pyarrow as pa

LETTERS = 8


def eight_columns(rows):
    """A frame of so many rows. Its strings are made as Arrow columns: as Python objects they'd be the peak."""
    random = np.random.default_rng(0)
    cities = pa.array([f"city {number}" for number in range(100)])
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "count": random.integers(0, 1000, rows),
            "price": random.integers(0, 1_000_000, rows) / 1000,
            "noise": random.standard_normal(rows),
            "city": cities.take(pa.array(random.integers(0, len(cities), rows))).to_pandas(),
            "code": random_words(random, rows).to_pandas(),
            "time": pd.date_range("2020-01-01", periods=rows, freq="s", unit="us").to_numpy(),
            "flag": random.integers(0, 2, rows).astype(bool),
        }
    )


def random_words(random, rows):
    """An Arrow column of words of random lower-case letters."""
    offsets = np.arange(0, LETTERS * (rows + 1), LETTERS, dtype=np.int32)
    letters = random.integers(ord("a"), ord("z") + 1, LETTERS * rows, dtype=np.uint8)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(letters))
