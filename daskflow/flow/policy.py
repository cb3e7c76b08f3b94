"""How the tasks of a step are to be run, as its decorators ask for it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from daskflow.errors import MAX_ATTEMPTS

LONGEST_DELAY = 365 * 86_400.0
"""Seconds before another attempt; whoever says more means never."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What engine and worker need to know of a step's decorators.

    Attributes
    ----------
    retries
        How many more attempts a task has after the first.
    retry_minutes, backoff, jitter
        The time before the second attempt; by how much it grows with each further one; whether it varies by up to a
        quarter, so that what failed together does not come back together.
    fallbacks
        How many attempts follow when all of these have failed, which do not run the step.
    timeout
        Seconds that the step may take in one attempt.
    environment
        Variables that the task's interpreter is started with.
    cpu, memory, gpu
        Cores, megabytes and devices that a task needs; None if nobody asked.
    isolated
        Each item of a foreach has a process of its own, however small it is.
    """

    retries: int = 0
    retry_minutes: float = 0.0
    backoff: float = 1.0
    jitter: bool = False
    fallbacks: int = 0
    timeout: float | None = None
    environment: tuple[tuple[str, str], ...] = ()
    cpu: float | None = None
    memory: float | None = None
    gpu: int | None = None
    isolated: bool = False

    @property
    def attempts(self) -> int:
        """How many attempts a task has, with those that do not run the step."""
        return min(1 + self.retries + self.fallbacks, MAX_ATTEMPTS)

    def delay(self, failed: int) -> float:
        """Seconds to wait before the next attempt, when ``failed`` of them have failed."""
        if failed > self.retries:
            return 0.0
        seconds = min(60.0 * self.retry_minutes * self.backoff ** (failed - 1), LONGEST_DELAY)
        return seconds * random.uniform(0.75, 1.25) if self.jitter else seconds
