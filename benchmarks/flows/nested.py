"""A foreach within a foreach, over trivial items."""

from daskflow import FlowSpec, Parameter, step


class Nested(FlowSpec):
    width = Parameter("width", default=100)

    @step
    def start(self):
        self.rows = range(self.width)
        self.next(self.row, foreach="rows")

    @step
    def row(self):
        self.numbers = range(self.input * self.width, (self.input + 1) * self.width)
        self.next(self.work, foreach="numbers")

    @step
    def work(self):
        self.x = self.input
        self.next(self.join_row)

    @step
    def join_row(self, inputs):
        self.total = sum(i.x for i in inputs)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(i.total for i in inputs)
        self.next(self.end)

    @step
    def end(self):
        items = self.width**2
        if self.total != items * (items - 1) // 2:
            raise ValueError(f"{items} numbers from 0 can't add up to {self.total}")


if __name__ == "__main__":
    Nested()
