"""Trivial tasks in Prefect, in its threads; results are kept in files, states in its database.

python peer_prefect.py ITEMS
"""

import sys

from prefect import flow, task


@task(persist_result=True)
def square(number):
    return number**2


@flow
def wide(items):
    return sum(square.map(range(items)).result())


if __name__ == "__main__":
    items = int(sys.argv[1])
    total = wide(items)
    if total != sum(number**2 for number in range(items)):
        sys.exit(f"the squares of {items} numbers can't add up to {total}")
