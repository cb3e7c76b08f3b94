"""The median of a small GET, in seconds. Arguments: bucket, how often."""

import statistics
import sys
import time

import botocore.session

bucket, times = sys.argv[1], int(sys.argv[2])
client = botocore.session.get_session().create_client("s3")
client.put_object(Bucket=bucket, Key="small", Body=b"x" * 1000)
took = []
for _ in range(times):
    began = time.perf_counter()
    client.get_object(Bucket=bucket, Key="small")["Body"].read()
    took.append(time.perf_counter() - began)
print(f"seconds={statistics.median(took)}")
