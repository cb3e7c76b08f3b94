"""A flow that has everything a page shows: values, tables, a switch, rounds, retries, and an item that fails."""

from __future__ import annotations

import datetime
import os
import sys
import time

import numpy
import pandas

from daskflow import FlowSpec, Parameter, retry, step


class Trouble(FlowSpec):
    gate = Parameter("gate", default="", help="A file for which the items wait.")
    worst = Parameter("worst", default=11)
    greeting = Parameter("greeting", default="<script>document.title='hacked'</script>")

    @step
    def start(self):
        self.numbers = list(range(12))
        self.heights = pandas.DataFrame(
            {"kind": ["oak", "birch", "<b>pine</b>"] * 10, "height": numpy.arange(30.0)}
        )
        self.wide = pandas.DataFrame(
            numpy.zeros((25, 2000)), columns=[f"<i>column {i}</i>" for i in range(2000)]
        )
        self.day = datetime.date(2026, 1, 2)
        self.thing = object
        print("\x1b[31mred\x1b[0m and <script>document.title='hacked'</script>")
        self.rounds = 0
        self.next(self.again)

    @step
    def again(self):
        self.rounds += 1
        self.more = self.rounds < 4
        self.next({True: self.again, False: self.choose}, condition="more")

    @step
    def choose(self):
        self.way = "short"
        self.next({"long": self.long_way, "short": self.short_way}, condition="way")

    @step
    def long_way(self):
        self.next(self.meet)

    @step
    def short_way(self):
        self.next(self.meet)

    @step
    def meet(self):
        self.next(self.left, self.right)

    @step
    def left(self):
        self.next(self.fit, foreach="numbers")

    @retry(times=1, minutes_between_retries=0)
    @step
    def fit(self):
        print("fitting", self.input)
        print("careful <i>now</i>", file=sys.stderr)
        while self.gate and not os.path.exists(self.gate):
            time.sleep(0.01)
        if self.input == self.worst:
            raise ValueError(f"item {self.input} is <b>too bad</b>")
        self.score = self.input**2
        self.next(self.gather)

    @step
    def gather(self, inputs):
        self.scores = [each.score for each in inputs]
        self.next(self.both)

    @step
    def right(self):
        self.next(self.both)

    @step
    def both(self, inputs):
        self.next(self.end)

    @step
    def end(self):
        print("done")


if __name__ == "__main__":
    Trouble()
