"""Running one task: its process, its inputs, the user's code, its commit. Joins ``flow`` and ``store``."""
