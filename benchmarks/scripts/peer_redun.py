"""Trivial tasks in redun, in its processes; results are kept in its database.

redun run peer_redun.py main --items ITEMS
"""

from redun import task

redun_namespace = "benchmark"


@task(executor="process")
def square(number):
    return number**2


@task()
def total(squares):
    if sum(squares) != sum(number**2 for number in range(len(squares))):
        raise ValueError(f"the squares of {len(squares)} numbers can't add up to {sum(squares)}")
    return sum(squares)


@task()
def main(items: int):
    return total([square(number) for number in range(items)])
