"""A large frame passes through a step that reads one column of it, or does not look at it."""

from eight_columns import eight_columns

from daskflow import FlowSpec, Parameter, step


class FrameRead(FlowSpec):
    rows = Parameter("rows", default=5_000_000)
    look = Parameter("look", default=True)

    @step
    def start(self):
        self.frame = eight_columns(self.rows)
        print(f"frame_bytes={self.frame.memory_usage(deep=True).sum()}")
        self.next(self.read)

    @step
    def read(self):
        self.total = self.frame["count"].sum().item() if self.look else 0
        self.next(self.end)

    @step
    def end(self):
        print(self.total)


if __name__ == "__main__":
    FrameRead()
