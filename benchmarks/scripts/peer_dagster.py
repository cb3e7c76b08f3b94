"""Trivial ops in Dagster, a forked process each; results are kept in files, events in its database.

ITEMS=1000 dagster job execute -f peer_dagster.py -j wide
"""

import os

from dagster import DynamicOut, DynamicOutput, job, multiprocess_executor, op

ITEMS = int(os.environ["ITEMS"])


@op(out=DynamicOut())
def numbers():
    for number in range(ITEMS):
        yield DynamicOutput(number, mapping_key=str(number))


@op
def square(number):
    return number**2


@op
def total(squares):
    if sum(squares) != sum(number**2 for number in range(ITEMS)):
        raise ValueError(f"the squares of {ITEMS} numbers can't add up to {sum(squares)}")


@job(executor_def=multiprocess_executor.configured({"max_concurrent": 2, "start_method": {"forkserver": {}}}))
def wide():
    total(numbers().map(square).collect())
