"""The batch that benchmarks of the engine time, and its seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from shared.errors import RenderError
from shared.job import Job
from worker.engine import StockEngine


def guided_jobs(count: int, *, model: str, edge: int, steps: int) -> list[Job]:
    """Jobs that differ in their seed, square images of ``edge`` pixels."""
    return [
        Job(
            model=model,
            prompt="a red circle",
            seed=seed,
            height=edge,
            width=edge,
            num_inference_steps=steps,
            scheduler="DDIMScheduler",
        )
        for seed in range(count)
    ]


def seconds_of(
    engine: StockEngine, jobs: Sequence[Job], clock: Callable[[], float] = time.perf_counter
) -> float:
    """How long it renders them.

    Raises:
        RenderError: One of them could not be: the time would mean nothing.
    """
    started = clock()
    for outcome in engine.render(jobs):
        if isinstance(outcome, RenderError):
            raise outcome
    return clock() - started
