"""What tables cost the tasks of a flow: what is loaded once for all of them, and that reads write nothing."""

from __future__ import annotations

READS = """
    import sys

    import pandas as pd
    from daskflow import FlowSpec, step

    class Reads(FlowSpec):
        @step
        def start(self):
            self.had_parquet = "pyarrow.parquet" in sys.modules
            self.frame = pd.DataFrame({"x": range(300)}, index=pd.date_range("2020-01-01", periods=300))
            self.frames = {"a": self.frame.copy()}
            self.days = pd.date_range("2020-01-01", periods=300, tz="UTC")
            self.next(self.end)

        @step
        def end(self):
            for frame in (self.frame, self.frames["a"]):
                self.first = frame.loc["2020-01"].x.sum(), frame.resample("ME").sum(), frame.index.month, repr(frame)
            self.days.month, repr(self.days)

    if __name__ == "__main__":
        Reads()
"""


def test_a_step_that_reads_days_of_a_frame_writes_no_frame(run_flow):
    result = run_flow(READS)

    before, after = result.record("start").artifacts, result.record("end").artifacts
    for name in ("frame", "frames", "days"):
        assert (after[name].hash, after[name].path) == (before[name].hash, before[name].path)
        assert after[name].path or after[name].record == "start/0"  # where it is, not what it is


def test_what_tables_need_is_loaded_once_if_the_flow_has_tables(run_flow):
    assert run_flow(READS).value("start", "had_parquet") is True


PLAIN = """
    import sys

    from daskflow import FlowSpec, step

    class Plain(FlowSpec):
        @step
        def start(self):
            self.loaded = [name for name in ("pandas", "pyarrow", "numpy") if name in sys.modules]
            self.next(self.end)

        @step
        def end(self):
            pass

    if __name__ == "__main__":
        Plain()
"""


def test_a_flow_without_tables_loads_nothing_for_them(run_flow):
    assert run_flow(PLAIN).value("start", "loaded") == []
