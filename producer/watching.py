"""Follows one sweep to its end, through a Redis that restarts meanwhile."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from shared.errors import QueueUnavailable, WaitTimeout

if TYPE_CHECKING:
    from shared.queue import JobQueue, SweepStatus

ENDED = ("done", "cancelled")
"""States in which nothing more happens by itself."""
WATCH_SECONDS = 0.5
"""How often the queue is asked."""
OUTAGE_SECONDS = 30.0
"""How long a watch bears a Redis that does not answer, such as one that restarts."""


def watch(
    queue: JobQueue,
    sweep_id: str,
    *,
    interval_seconds: float = WATCH_SECONDS,
    timeout_seconds: float = math.inf,
) -> Iterator[SweepStatus]:
    """Its status again and again, until it is done or cancelled.

    Raises:
        QueueUnavailable: Redis has not answered for OUTAGE_SECONDS.
        WaitTimeout: It has not ended after ``timeout_seconds``; the work goes on.
    """
    answered_at = started_at = time.monotonic()
    while True:
        try:
            status = queue.status(sweep_id)
        except QueueUnavailable:
            if time.monotonic() - answered_at > OUTAGE_SECONDS:
                raise
        else:
            answered_at = time.monotonic()
            yield status
            if status.state in ENDED:
                return
            if time.monotonic() - started_at >= timeout_seconds:
                raise WaitTimeout(
                    f"sweep {sweep_id} is {status.state} with {status.done:,} of "
                    f"{status.total:,} images after {timeout_seconds:g} s; it goes on"
                )
        time.sleep(interval_seconds)
