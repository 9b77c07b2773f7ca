"""A batch size found by timing a few: the smallest that is nearly as quick as the quickest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count
from time import perf_counter

from shared.errors import OutOfMemory, RenderError
from shared.job import Job
from worker.engine import Rendered, StockEngine

NEARLY = 0.03
"""A batch this much slower per image than the best is as good, and a doubling must gain as much."""

MOST_ROWS = 64
"""Bounds the probe; beyond it, gains are small on any device."""

PROBE_STEPS = 4
"""Denoising steps of a probe: enough for their share in an image's time to show."""

REPEATS = 2
"""Runs of each size, of which the quicker counts."""


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What was timed, and the choice.

    Attributes:
        batch_size: Rows to render together.
        seconds_per_image: By batch size, for an image of ``steps`` steps.
        steps: Denoising steps of each timed image.
        out_of_memory: Fewest rows that did not fit; None if all did.
    """

    batch_size: int
    seconds_per_image: dict[int, float]
    steps: int
    out_of_memory: int | None


def measure_batch_size(
    engine: StockEngine, job: Job, *, most_rows: int = MOST_ROWS, budget_seconds: float = 10.0
) -> ProbeResult:
    """Time batches of 1, 2, 4, 8 ... copies of a job until more rows gain nothing.

    Stops where a doubling gains less than 3%, where memory ends, at ``most_rows``, and before a
    batch that would exceed the budget.

    Args:
        engine: What will render.
        job: A typical one: its size, scheduler and guidance are timed, with a few steps.
        most_rows: Largest batch to try.
        budget_seconds: Wall time for the whole probe, at least one batch aside.

    Raises:
        RenderError: Not even one such job renders.
    """
    steps = min(job.num_inference_steps, PROBE_STEPS)
    probe = replace(job, num_inference_steps=steps)
    started = perf_counter()
    _time(engine, probe, 1)  # kernels are picked and caches filled
    timed: dict[int, float] = {}
    for rows in (2**power for power in count()):
        if rows > most_rows:
            break
        left = budget_seconds - (perf_counter() - started)
        if timed and rows * timed[rows // 2] > left:
            break
        try:
            timed[rows] = min(_time(engine, probe, rows) for _ in range(REPEATS)) / rows
        except OutOfMemory:
            if rows == 1:
                raise
            break
        if rows > 1 and timed[rows] > timed[rows // 2] * (1 - NEARLY):
            break
    return ProbeResult(
        batch_size=smallest_good(timed),
        seconds_per_image=timed,
        steps=steps,
        out_of_memory=engine.cap(probe).bad,
    )


def smallest_good(seconds_per_image: Mapping[int, float]) -> int:
    """The fewest rows whose images/s are within 3% of the best."""
    best = min(seconds_per_image.values())
    return min(rows for rows, seconds in seconds_per_image.items() if best / seconds >= 1 - NEARLY)


def _time(engine: StockEngine, job: Job, rows: int) -> float:
    """Seconds of one batch.

    Raises:
        RenderError: A job failed; OutOfMemory if the batch had to be split.
    """
    jobs = [replace(job, seed=seed) for seed in range(rows)]
    started = perf_counter()
    outcomes = engine.render(jobs)
    seconds = perf_counter() - started
    for outcome in outcomes:
        if isinstance(outcome, RenderError):
            raise outcome
        if isinstance(outcome, Rendered) and outcome.rows < rows:
            raise OutOfMemory(f"{rows} rows do not fit")
    return seconds
