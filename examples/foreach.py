"""One task for each item of a list, on all cores, and a join that collects the results in order.

Run it with `python examples/foreach.py run`.
"""

from daskflow import FlowSpec, step


class Foreach(FlowSpec):
    @step
    def start(self):
        self.texts = ["to be or not to be", "the rain in spain stays mainly", "a rose is a rose is a rose"]
        self.next(self.count, foreach="texts")

    @step
    def count(self):
        self.text = self.input  # this task's item; self.index is its place in the list
        self.words = len(set(self.text.split()))
        print(f"text {self.index} has {self.words} different words")
        self.next(self.join)

    @step
    def join(self, inputs):
        self.counts = {each.text: each.words for each in inputs}
        self.next(self.end)

    @step
    def end(self):
        richest = max(self.counts, key=self.counts.get)
        print(f"the richest text: {richest!r}, {self.counts[richest]} different words")


if __name__ == "__main__":
    Foreach()
