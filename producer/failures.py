"""The jobs of a sweep that failed; those that were given up come with a command for each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from producer.show import run_arguments, shell_line
from shared.errors import UnknownSweep

if TYPE_CHECKING:
    from producer.results import SweepResults
    from shared.layout import Layout
    from shared.queue import JobQueue


@dataclass(frozen=True, kw_only=True)
class JobFailure:
    """A job that failed at least once.

    Attributes:
        index: The user's.
        attempts: Tries charged to it.
        reason: What the last one died of.
        worker: Who tried.
        at: When, seconds since 1970, UTC.
        dead: No further tries until it is revived by `Client.retry`.
    """

    index: int
    attempts: int
    reason: str
    worker: str
    at: float
    dead: bool


@dataclass(frozen=True, kw_only=True)
class DeadJob:
    """A job that nobody tries any more until it is revived.

    Attributes:
        index: The user's.
        title: A line that tells it from its siblings.
        reason: What it died of.
        attempts: Tries charged to it; 0 for one that was refused before it came to the GPU.
        worker: Who had it last.
        at: When, seconds since 1970, UTC.
        arguments: The ``seedbed run`` that renders it alone, as an argument vector.
        command: The same as a line for a shell.
    """

    index: int
    title: str
    reason: str
    attempts: int
    worker: str
    at: float
    arguments: tuple[str, ...]
    command: str


def failed_jobs(queue: JobQueue, sweep_id: str, layout: Layout, *, limit: int) -> list[JobFailure]:
    """Some of them, dead or still being tried."""
    return [
        JobFailure(
            index=layout.index_of(failure.position),
            attempts=failure.attempts,
            reason=failure.reason,
            worker=failure.worker,
            at=failure.at,
            dead=failure.dead,
        )
        for failure in queue.failures(sweep_id, limit)
    ]


def dead_jobs(queue: JobQueue, results: SweepResults) -> list[DeadJob]:
    """All of them, by index."""
    found: dict[int, DeadJob] = {}
    for failure in queue.each_failure(results.manifest.sweep_id):
        if not failure.dead or not 0 <= failure.position < results.total:
            continue
        index = results.layout.index_of(failure.position)
        job = results.layout.job(index)
        pin = results.pins.get(results.layout.block_of(failure.position).model)
        arguments = run_arguments(asdict(job), weights="" if pin is None else pin.weights)
        found[index] = DeadJob(
            index=index,
            title=results.title_of(index),
            reason=failure.reason,
            attempts=failure.attempts,
            worker=failure.worker,
            at=failure.at,
            arguments=arguments,
            command=shell_line(arguments),
        )
    return [found[index] for index in sorted(found)]


def dead_indices(queue: JobQueue, results: SweepResults, *, limit: int) -> frozenset[int]:
    """Jobs that were given up, of the first ``limit`` that failed; none where it is forgotten."""
    try:
        failures = queue.failures(results.manifest.sweep_id, limit)
    except UnknownSweep:
        return frozenset()
    return frozenset(
        results.layout.index_of(failure.position) for failure in failures if failure.dead
    )
