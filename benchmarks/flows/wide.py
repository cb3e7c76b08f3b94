"""A foreach over as many items as one likes, each with one small artifact."""

from daskflow import FlowSpec, Parameter, step


class Wide(FlowSpec):
    items = Parameter("items", default=100_000)

    @step
    def start(self):
        self.numbers = range(self.items)
        self.next(self.work, foreach="numbers")

    @step
    def work(self):
        self.x = self.input
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(i.x for i in inputs)
        self.next(self.end)

    @step
    def end(self):
        if self.total != self.items * (self.items - 1) // 2:
            raise ValueError(f"{self.items} numbers from 0 can't add up to {self.total}")


if __name__ == "__main__":
    Wide()
