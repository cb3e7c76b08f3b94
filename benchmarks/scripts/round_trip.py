"""The median of a small request, in seconds: one after the other (``hot``), and as a chain of tiny tasks makes them.

Such a chain looks for a commit and makes one, every few milliseconds. In between the processors do other things or sleep,
and so the same request takes longer than one that follows another at once. Arguments: bucket, how often.
"""

import contextlib
import secrets
import statistics
import sys
import time

import botocore.session

PAUSE = 0.01
bucket, times = sys.argv[1], int(sys.argv[2])
client = botocore.session.get_session().create_client("s3")


def look(key: str) -> None:
    """Ask for what is not there."""
    with contextlib.suppress(client.exceptions.NoSuchKey):
        client.get_object(Bucket=bucket, Key=key)


def commit(key: str) -> None:
    """Make what is not there."""
    client.put_object(Bucket=bucket, Key=key, Body=b"x" * 1500, IfNoneMatch="*")


for name, pause in (("hot", 0.0), ("seconds", PAUSE)):
    took = []
    for _ in range(times):
        key = f"round-trip/{secrets.token_hex(8)}"
        for request in (look, commit):
            time.sleep(pause)
            began = time.perf_counter()
            request(key)
            took.append(time.perf_counter() - began)
    print(f"{name}={statistics.median(took)}")
