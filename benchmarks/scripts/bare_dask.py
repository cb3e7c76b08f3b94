"""What Dask alone does with trivial items: `client.map` and `gather` on its default cluster. Nothing is kept.

python bare_dask.py ITEMS
"""

import sys

from distributed import Client, LocalCluster


def square(number):
    return number**2


if __name__ == "__main__":
    items = int(sys.argv[1])
    # Its own defaults, but for the dashboard's address: that would listen beyond this machine.
    with LocalCluster(dashboard_address="127.0.0.1:0") as cluster, Client(cluster) as client:
        total = sum(client.gather(client.map(square, range(items))))
    if total != sum(number**2 for number in range(items)):
        sys.exit(f"the squares of {items} numbers can't add up to {total}")
