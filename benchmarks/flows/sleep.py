"""A foreach over items that only sleep: equally long, or of random length."""

import random
import time

from daskflow import FlowSpec, Parameter, step


class Sleep(FlowSpec):
    items = Parameter("items", default=1000)
    shortest = Parameter("shortest", default=0.02)
    longest = Parameter("longest", default=0.02)
    seed = Parameter("seed", default=0)

    @step
    def start(self):
        numbers = random.Random(self.seed)
        self.lengths = [numbers.uniform(self.shortest, self.longest) for _ in range(self.items)]
        self.next(self.work, foreach="lengths")

    @step
    def work(self):
        time.sleep(self.input)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    Sleep()
