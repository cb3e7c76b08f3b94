"""A foreach over trivial items."""

from daskflow import FlowSpec, Parameter, step


class Foreach(FlowSpec):
    items = Parameter("items", default=1000)

    @step
    def start(self):
        self.numbers = list(range(self.items))
        self.next(self.square, foreach="numbers")

    @step
    def square(self):
        self.result = self.input**2
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(each.result for each in inputs)
        self.next(self.end)

    @step
    def end(self):
        if self.total != sum(number**2 for number in range(self.items)):
            raise ValueError(f"the squares of {self.items} numbers can't add up to {self.total}")


if __name__ == "__main__":
    Foreach()
