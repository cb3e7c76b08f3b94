"""Values from the command line: each has a type and a default, and no step can change it.

Run it with `python examples/parameters.py run --size 3 --weights '{"a": 2}' --notes README.md`;
`python examples/parameters.py run --help` lists them all.
"""

from daskflow import FlowSpec, IncludeFile, JSONType, Parameter, step


class Parameters(FlowSpec):
    size = Parameter("size", default=2, help="How many letters to take.")
    scale = Parameter("scale", default=1.5, help="What each weight is multiplied by.")
    loud = Parameter("loud", default=False, help="Shout the answer: True or False.")
    letters = Parameter("letters", default="a,b,c", separator=",", help="The letters, with commas.")
    weights = Parameter("weights", default={"a": 1, "b": 3}, type=JSONType, help="Weights as JSON.")
    notes = IncludeFile("notes", default=None, help="A text file whose content is kept with the run.")

    @step
    def start(self):
        """A parameter's artifact has the name of its variable."""
        chosen = self.letters[: self.size]
        self.scores = {letter: self.scale * self.weights.get(letter, 0) for letter in chosen}
        self.next(self.end)

    @step
    def end(self):
        answer = ", ".join(f"{letter} scores {score:g}" for letter, score in self.scores.items())
        print(answer.upper() if self.loud else answer)
        print(f"notes of {len(self.notes.splitlines())} lines" if self.notes else "no notes")


if __name__ == "__main__":
    Parameters()
