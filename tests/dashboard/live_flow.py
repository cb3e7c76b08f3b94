"""A flow that goes on when it is told to, by files in its working directory."""

import os
import time

from daskflow import FlowSpec, Parameter, retry, step


def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.02)


class Live(FlowSpec):
    items = Parameter("items", default=4)
    fails = Parameter("fails", default=-1)

    @step
    def start(self):
        self.names = [f"item {number}" for number in range(self.items)]
        self.next(self.work, foreach="names")

    @retry(times=1, minutes_between_retries=0)
    @step
    def work(self):
        number = int(self.input.split()[1])
        print("works on", self.input)
        if number == self.fails:
            raise ValueError(f"not <b>{self.input}</b>")
        if number >= self.items // 2:
            wait_for("go")
        else:
            time.sleep(0.02)
        self.next(self.join)

    @step
    def join(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    Live()
