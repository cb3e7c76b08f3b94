"""Three trivial steps."""

from daskflow import FlowSpec, step


class Hello(FlowSpec):
    @step
    def start(self):
        self.number = 1
        self.next(self.middle)

    @step
    def middle(self):
        self.number += 1
        self.next(self.end)

    @step
    def end(self):
        print(self.number)


if __name__ == "__main__":
    Hello()
