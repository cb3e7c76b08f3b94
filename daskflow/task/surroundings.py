"""What a task's process is given by its worker: devices, and how many threads its libraries may use."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daskflow.task.spec import TaskSpec

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def prepare(spec: TaskSpec) -> None:
    """Before the step: libraries that are loaded already are told, the variables are for those that come."""
    policy = spec.node.policy
    if spec.devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = spec.devices
    if policy.cpu is None:
        return
    threads = max(1, math.floor(policy.cpu))
    chosen = dict(policy.environment)
    os.environ.update({name: str(threads) for name in THREADS if name not in chosen})
    import threadpoolctl

    threadpoolctl.threadpool_limits(threads)
