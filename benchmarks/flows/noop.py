"""A flow whose first step does nothing."""

from daskflow import FlowSpec, step


class Noop(FlowSpec):
    @step
    def start(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    Noop()
