"""A flow that leaves one of everything a store may hold."""

import datetime
import os
from decimal import Decimal

from daskflow import FlowSpec, Parameter, retry, step


class Model:
    def __init__(self, weight):
        self.weight = weight

    def __eq__(self, other):
        return self.weight == other.weight


class Golden(FlowSpec):
    alpha = Parameter("alpha", default=0.1)

    @step
    def start(self):
        import numpy as np

        print("it starts")
        self.number, self.text, self.nothing, self.nested = 7, "größe", None, {"a": [1, 2.5, True]}
        self.score = np.float64(0.25)
        self.typed = {"when": datetime.date(2024, 2, 29), "pair": (1, {2}), "price": Decimal("1.10")}
        self.model = Model(3)
        self.large = list(range(20_000))
        self.next(self.tables)

    @step
    def tables(self):
        import numpy as np
        import pandas as pd
        import polars as pl
        import pyarrow as pa

        index = pd.date_range("1890-01-01", periods=4, tz="Europe/Berlin", name="when")
        self.pandas = pd.DataFrame(
            {
                "int": [1, 2, 3, 4],
                "float": [0.5, np.nan, np.inf, -0.0],
                "text": ["a", "b", None, "d"],
                "kind": pd.Categorical(["x", "y", "x", "x"], ["y", "x"], ordered=True),
                "whole": pd.array([1, None, 3, 4], dtype="Int64"),
                "price": [Decimal("1.10"), Decimal("2.20"), None, Decimal("4.40")],
            },
            index=index,
        )
        self.series = pd.Series([1, 2], name="two")
        self.odd = pd.DataFrame({"mixed": [1, "a", (2,), None]})
        self.polars = pl.DataFrame({"a": [1, 2], "list": [[1], [2, 3]]})
        self.arrow = pa.table({"a": pa.array([1, None], pa.int16()), "s": [{"x": 1}, {"x": 2}]})
        self.next(self.lazy)

    @step
    def lazy(self):
        import dask.dataframe as dd
        import pandas as pd

        self.dask = dd.from_pandas(pd.DataFrame({"x": range(10)}, index=range(0, 20, 2)), npartitions=3)
        self.words = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
        self.next(self.work, foreach="words")

    @retry(times=1, minutes_between_retries=0)
    @step
    def work(self):
        import pandas as pd

        if self.input == "e" and not os.path.exists("mended"):
            raise ValueError(f"{self.input} is not mended")
        print(f"works on {self.input}")
        self.letter, self.place = self.input.upper(), self.index
        self.rows = pd.DataFrame({"letter": [self.letter] * 2, "place": [self.index, -self.index]})
        self.next(self.join)

    @step
    def join(self, inputs):
        self.letters = "".join(each.letter for each in inputs)
        self.merge_artifacts(inputs, exclude=["letter", "place", "rows"])
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    Golden()
