"""What the tests of wide foreaches ask of a run."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

from daskflow import Task
from daskflow.store.layout import chunk_of


def client(result, name, number=1):
    return Task(f"{result.flow}/{number}/{name}", store=result.store.url)


def pids(result, step="work"):
    """Of each item the process that its record names, by index."""
    return [result.record(step, task).process["pid"] for task in result.tasks(step)]


def counts(lines):
    """How many neighbours are the same, one after the other."""
    return [len(list(same)) for _, same in groupby(lines)]


def began(place):
    """How often each item began."""
    path = place.folder / "began"
    return Counter(path.read_text().split()) if path.exists() else Counter()


def commits(place, flow, number=1, step="work"):
    """In how many commits of a run each task of a step is, as the files say."""
    found = Counter()
    folder = f"{flow}/{number}/{step}"
    for file in place.store.names(folder):
        if tasks := chunk_of(step, file):
            done = place.store.json(f"{folder}/{file}")["done"]
            found.update(name.task_id for name in tasks.part(0, done).names())
        elif place.store.exists(f"{folder}/{file}/task.json"):
            found[file] += 1
    return found


def chunks(result, step="work", number=1):
    """The sizes of what was committed together, in order."""
    names = result.store.names(f"{result.flow}/{number}/{step}")
    found = [tasks for name in names if (tasks := chunk_of(step, name))]
    return [tasks.count for tasks in sorted(found)]
