"""Two branches that run at the same time, and the join that brings them together.

Run it with `python examples/branch.py run`.
"""

from daskflow import FlowSpec, step


class Branch(FlowSpec):
    @step
    def start(self):
        self.numbers = [3, 1, 4, 1, 5, 9, 2, 6]
        self.next(self.add, self.order)  # two steps: both follow, side by side

    @step
    def add(self):
        self.total = sum(self.numbers)
        self.next(self.join)

    @step
    def order(self):
        self.ordered = sorted(self.numbers)
        self.next(self.join)

    @step
    def join(self, inputs):
        # Nothing flows into a join by itself, since branches may disagree. This takes all they agree on.
        self.merge_artifacts(inputs)
        self.median = (self.ordered[3] + self.ordered[4]) / 2
        self.next(self.end)

    @step
    def end(self):
        print(f"{self.numbers}: total {self.total}, median {self.median}")


if __name__ == "__main__":
    Branch()
