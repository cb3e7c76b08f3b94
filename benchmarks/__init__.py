"""How fast daskflow is, beside its peer: `python -m benchmarks` lists and runs them.

Each file measures one kind of work and returns its lines of the table; `flows/` has the flows they run.
"""
