"""A large frame is set in one step, changed in the next and read in the third."""

from eight_columns import eight_columns

from daskflow import FlowSpec, Parameter, step


class FrameChanged(FlowSpec):
    rows = Parameter("rows", default=5_000_000)

    @step
    def start(self):
        self.frame = eight_columns(self.rows)
        self.total = self.frame["price"].sum().item()
        print(f"frame_bytes={self.frame.memory_usage(deep=True).sum()}")
        self.next(self.change)

    @step
    def change(self):
        self.frame["price"] = self.frame["price"] * 2
        self.next(self.end)

    @step
    def end(self):
        total = self.frame["price"].sum().item()
        if len(self.frame) != self.rows or total != 2 * self.total:  # doubling is exact
            raise ValueError(
                f"{self.rows} rows with a total of {2 * self.total} became {len(self.frame)}, {total}"
            )


if __name__ == "__main__":
    FrameChanged()
