"""A real worker that dies or hangs of certain prompts, started again whenever it ends.

``python -m tests.poisoned_worker`` takes what ``python -m worker`` takes.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from shared.job import Job
from tests.worker_lives import live_again
from worker.engine import StockEngine

KILLER = "a killer"
"""Prompt of jobs that kill the process they are rendered in."""
SLEEPER = "a sleeper"
"""Prompt of jobs that never end."""


def poison(engine: type[StockEngine]) -> None:
    """Have batches with poison in them end their process, or never end."""
    render_batch = engine._render_batch

    def poisoned(self: StockEngine, jobs: Sequence[Job], *rest: Any) -> Any:
        prompts = {job.prompt for job in jobs}
        if KILLER in prompts:
            os.kill(os.getpid(), signal.SIGKILL)
        while SLEEPER in prompts:
            time.sleep(60)
        return render_batch(self, jobs, *rest)

    engine._render_batch = poisoned  # type: ignore[method-assign]


if __name__ == "__main__":
    poison(StockEngine)
    live_again()
