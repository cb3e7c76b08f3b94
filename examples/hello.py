"""A linear flow: three steps, one after the other, each in a process of its own.

Run it with `python examples/hello.py run`.
"""

from daskflow import FlowSpec, step


class Hello(FlowSpec):
    """Greet three planets."""

    @step
    def start(self):
        """Whatever a step sets on `self` is an artifact: it is kept, and later steps see it."""
        self.planets = ["Mercury", "Venus", "Earth"]
        self.next(self.greet)

    @step
    def greet(self):
        """Turn the names into greetings."""
        self.greetings = [f"Hello, {planet}!" for planet in self.planets]
        self.next(self.end)

    @step
    def end(self):
        """The last step; `Flow("Hello").latest_run.data` shows its artifacts."""
        print("\n".join(self.greetings))


if __name__ == "__main__":
    Hello()
