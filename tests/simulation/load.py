"""What people ask of a pool: one big sweep, many users at once, bursts, a day.

Loads are values: a seed gives the same submissions again, whatever serves them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random

JOB_SECONDS = {"fast": 0.8, "plain": 2.0, "large": 5.0}
"""Recipe to GPU seconds a job: a few steps, the usual 50 guided ones, a large image."""

COSTS = {"fast": 20.0, "plain": 100.0, "large": 290.0}
"""What producers reckon for the same, in the queue's unit; not quite in proportion."""

LANES = {"fast": "small", "plain": "small", "large": "big"}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One block of a sweep."""

    recipe: str
    jobs: int

    @property
    def lane(self) -> str:
        """Its lane follows from its recipe here."""
        return LANES[self.recipe]

    @property
    def cost(self) -> float:
        """Of one job."""
        return COSTS[self.recipe]


@dataclass(frozen=True, kw_only=True)
class Submission:
    """One sweep, entered at a virtual second."""

    id: str
    at: float
    owner: str
    parts: tuple[Part, ...]
    size_class: str = "all"

    @property
    def jobs(self) -> int:
        """Of all its parts."""
        return sum(part.jobs for part in self.parts)

    @property
    def seconds(self) -> float:
        """GPU seconds of rendering."""
        return math.fsum(part.jobs * JOB_SECONDS[part.recipe] for part in self.parts)


def total_seconds(load: list[Submission]) -> float:
    """GPU seconds of rendering of a whole load."""
    return math.fsum(submission.seconds for submission in load)


def big_sweep(jobs: int, *, at: float = 0.0) -> list[Submission]:
    """One sweep, all alike."""
    part = Part(recipe="plain", jobs=jobs)
    return [Submission(id="big", at=at, owner="ann", parts=(part,), size_class="big")]


SIZES = {"small": (8, 64, 0.80), "medium": (200, 1000, 0.17), "large": (5000, 10_000, 0.03)}
"""Class to the fewest and most jobs of a sweep, and the share of sweeps that are of it."""


def mixed_sweeps(rng: Random, *, seconds: float, gpus: float, owners: int = 12) -> list[Submission]:
    """Sweeps of all sizes from several users, at random, for so many GPUs' worth of work.

    Args:
        seconds: Over which they come.
        gpus: GPU seconds of work a second, on average.
    """
    load: list[Submission] = []
    while total_seconds(load) < seconds * gpus:
        at = rng.uniform(0, seconds)
        load.append(_random_sweep(rng, len(load), at, owners))
    return sorted(load, key=lambda submission: submission.at)


def bursts(
    rng: Random, *, seconds: float, every: float, gpu_seconds: float, owners: int = 12
) -> list[Submission]:
    """Nothing for long, then several sweeps within a minute.

    Args:
        every: Mean seconds between bursts.
        gpu_seconds: Work of a burst.
    """
    load: list[Submission] = []
    at = rng.uniform(0, every / 2)
    while at < seconds:
        burst: list[Submission] = []
        while total_seconds(burst) < gpu_seconds:
            number = len(load) + len(burst)
            sweep = _random_sweep(rng, number, at + rng.uniform(0, 60), owners, largest="medium")
            burst.append(sweep)
        load += burst
        at += rng.uniform(0.7, 1.3) * every
    return sorted(load, key=lambda submission: submission.at)


def day(
    rng: Random, *, gpus_at_noon: float, hours: float = 24.0, owners: int = 40
) -> list[Submission]:
    """A day: next to nothing at night, most at two in the afternoon; sweeps come at random."""
    load: list[Submission] = []
    work = gpus_at_noon * hours * 3600 * 0.45
    while total_seconds(load) < work:
        at = rng.uniform(0, hours * 3600)
        if rng.random() < day_curve(at / (hours * 3600)):
            load.append(_random_sweep(rng, len(load), at, owners))
    return sorted(load, key=lambda submission: submission.at)


def day_curve(share: float) -> float:
    """How busy people are, 0 to 1, at a share of the day."""
    return (
        0.05 + 0.95 * max(0.0, math.sin(math.pi * (share * 24 - 7) / 14)) ** 1.5
        if (7 <= share * 24 <= 21)
        else 0.05
    )


def _random_sweep(
    rng: Random, number: int, at: float, owners: int, *, largest: str = "large"
) -> Submission:
    classes = [name for name in SIZES if largest == "large" or name != "large"]
    size_class = rng.choices(classes, [SIZES[name][2] for name in classes])[0]
    fewest, most, _ = SIZES[size_class]
    jobs = rng.randint(fewest, most)
    recipes = rng.sample(sorted(JOB_SECONDS), rng.choice([1, 1, 2]))
    counts = [jobs // len(recipes)] * len(recipes)
    parts = tuple(
        Part(recipe=recipe, jobs=count) for recipe, count in zip(recipes, counts, strict=True)
    )
    return Submission(
        id=f"s{number}",
        at=at,
        owner=f"owner{rng.randrange(owners)}",
        parts=parts,
        size_class=size_class,
    )
