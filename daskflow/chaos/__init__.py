"""Runs of a user's flow in which things are killed at random moments, to see that every run can be finished."""
