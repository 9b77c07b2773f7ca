"""What a pool costs that knows the load: nothing starts late, nothing waits for work.

The oracle serves as quickly as the pool is asked to: at each second it has as many GPUs as the
formula of ``shared.scaling`` wants for the work that is there, warm when the work comes and given
back at once. It pays a cold start for each GPU that it starts, and keeps one through a gap where
that is cheaper than another cold start. (For a given number of GPUs at each second this is the
least there can be: levels are independent, and each gap is bridged or not.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.scaling import workers_wanted
from tests.simulation.load import JOB_SECONDS, Submission
from tests.simulation.worker import Timing


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """GPU seconds of a load.

    Attributes:
        work_seconds: Of rendering alone: nobody can use less.
        gpu_seconds: With cold starts, and gaps that were bridged.
        cold_starts: How many.
        most: GPUs at once.
        whole_seconds: When it was through.
    """

    work_seconds: float
    gpu_seconds: float
    cold_starts: int
    most: int
    whole_seconds: float


def work_seconds(load: list[Submission], timing: Timing) -> float:
    """GPU seconds of rendering a load in full batches."""
    return math.fsum(_seconds(submission, timing) for submission in load)


def _seconds(submission: Submission, timing: Timing) -> float:
    return math.fsum(
        part.jobs * JOB_SECONDS[part.recipe]
        + math.ceil(part.jobs / timing.batch) * timing.call_seconds
        for part in submission.parts
    )


def oracle(
    load: list[Submission],
    timing: Timing,
    *,
    target_seconds: float,
    max_workers: int,
    step_seconds: float = 1.0,
) -> Oracle:
    """Serve a load in fluid steps.

    Args:
        load: In order of time.
        target_seconds: As the pool is asked.
    """
    coming = [(submission.at, _seconds(submission, timing)) for submission in load]
    work = math.fsum(seconds for _, seconds in coming)
    backlog = now = held = 0.0
    gpus = most = starts = 0
    off_since: dict[int, float] = {}  # level -> since when no GPU of it works
    position = 0
    while position < len(coming) or backlog > 1e-9:
        while position < len(coming) and coming[position][0] <= now:
            backlog += coming[position][1]
            position += 1
        jobs = math.ceil(backlog) if backlog > 1e-9 else 0
        wanted = workers_wanted(
            backlog, jobs, target_seconds=target_seconds, max_workers=max_workers
        )
        for level in range(gpus, wanted):
            gap = now - off_since.pop(level, -math.inf)
            if gap < timing.cold_seconds:
                held += gap
            else:
                held += timing.cold_seconds
                starts += 1
        for level in range(wanted, gpus):
            off_since[level] = now
        gpus, most = wanted, max(most, wanted)
        used = min(backlog, gpus * step_seconds)
        held += used
        backlog -= used
        now += step_seconds
    return Oracle(
        work_seconds=work, gpu_seconds=held, cold_starts=starts, most=most, whole_seconds=now
    )
