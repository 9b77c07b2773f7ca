"""How much work a model's open jobs are, and how many workers that asks for.

    backlog = pending and leased jobs x the seconds that each takes a worker
    wanted  = min(most, ceil(backlog / target)), never more than there are jobs, and 0 without any

Pure: counts and measurements in, numbers out.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from shared.backlog import UNPINNED, Backlog

Lane = tuple[str, str, str]
"""(model key, lane, recipe)."""

UNMEASURED_SECONDS = 0.04
"""For a cost of 1.0, where nobody has measured any job of the model: 50 guided steps at 512 x 512
are 4 s. The first batch replaces it."""

UNMEASURED_JOB_SECONDS = 2.0
"""For a held job of which not even the cost is known."""

FINALISE_SECONDS = 1.0
"""For a sweep whose index is to be written: little, but nobody else will do it."""


@dataclass(frozen=True, kw_only=True)
class LaneBacklog:
    """Open jobs of one lane; seconds are a worker's."""

    pending: int = 0
    leased: int = 0
    seconds: float = 0.0

    def plus(self, *, pending: int = 0, leased: int = 0, seconds: float = 0.0) -> LaneBacklog:
        """With more of it."""
        return LaneBacklog(
            pending=self.pending + pending,
            leased=self.leased + leased,
            seconds=self.seconds + seconds,
        )


@dataclass(frozen=True, kw_only=True)
class ModelBacklog:
    """Open work of one model.

    Attributes:
        lanes: Lane key to its jobs.
        stranded: Pending jobs that are pinned to weights no worker has; not among the others.
        finalising: Sweeps whose index is to be written.
    """

    lanes: dict[str, LaneBacklog] = field(default_factory=dict)
    stranded: int = 0
    finalising: int = 0

    @property
    def pending(self) -> int:
        """Jobs that wait."""
        return sum(lane.pending for lane in self.lanes.values())

    @property
    def leased(self) -> int:
        """Jobs that workers hold."""
        return sum(lane.leased for lane in self.lanes.values())

    @property
    def jobs(self) -> int:
        """Whatever a worker is needed for: 0 means that none is."""
        return self.pending + self.leased + self.finalising

    @property
    def seconds(self) -> float:
        """Of one worker, for all of it."""
        lanes = math.fsum(lane.seconds for lane in self.lanes.values())
        return lanes + self.finalising * FINALISE_SECONDS

    @property
    def job_seconds(self) -> float:
        """Of one worker, for a job on average; 0 without any."""
        count = self.pending + self.leased
        return math.fsum(lane.seconds for lane in self.lanes.values()) / count if count else 0.0


def model_backlogs(
    backlog: Backlog,
    rates: Mapping[Lane, float],
    *,
    pins: Mapping[str, Collection[str]] | None = None,
) -> dict[str, ModelBacklog]:
    """Open work by model key.

    Args:
        backlog: One look at the pool.
        rates: Measured seconds a job. Lanes that nobody has measured take as long for their cost
            as the model's measured ones do, or UNMEASURED_SECONDS.
        pins: Model key to what its workers have loaded, by short name; a model without any may
            be pinned to anything.
    """
    known = pins or {}
    ready = {
        row: not known.get(row.model) or row.pin in (UNPINNED, *known[row.model])
        for row in backlog.waiting
    }
    guess = _Guess(backlog, rates)
    lanes: dict[str, dict[str, LaneBacklog]] = {model: {} for model in backlog.models}
    stranded: dict[str, int] = {}
    for row in backlog.waiting:
        if not ready[row]:
            stranded[row.model] = stranded.get(row.model, 0) + row.jobs
            continue
        name = (row.model, row.lane, row.recipe)
        seconds = row.jobs * guess.seconds(name, row.cost / row.jobs)
        found = lanes[row.model].get(row.lane, LaneBacklog())
        lanes[row.model][row.lane] = found.plus(pending=row.jobs, seconds=seconds)
    for held in backlog.held:
        name = (held.model, held.lane, held.recipe)
        seconds = held.jobs * guess.seconds(name, guess.costs.get(name))
        found = lanes[held.model].get(held.lane, LaneBacklog())
        lanes[held.model][held.lane] = found.plus(leased=held.jobs, seconds=seconds)
    return {
        model: ModelBacklog(
            lanes=lanes[model],
            stranded=stranded.get(model, 0),
            finalising=backlog.finalising.get(model, 0),
        )
        for model in sorted(lanes)
    }


def workers_wanted(seconds: float, jobs: int, *, target_seconds: float, max_workers: int) -> int:
    """How many workers should share so much work, for it to take ``target_seconds``.

    Args:
        seconds: Of one worker, for all of it.
        jobs: Whatever a worker is needed for; more workers than that have nothing to do.
        target_seconds: Above 0.
        max_workers: 0 or more.
    """
    if jobs <= 0:
        return 0
    most = min(max_workers, jobs)
    # an infinite or absurd measurement asks for as many as may be, and not for an exception
    return most if not seconds < most * target_seconds else max(1, _ceil(seconds, target_seconds))


def _ceil(seconds: float, target_seconds: float) -> int:
    return math.ceil(seconds / target_seconds)


class RecentPeak:
    """The most of something within the last seconds: up at once, down only when it stays down.

    A number that falls and rises again within the window never shows it, so that a short lull, or
    one slow batch among quick ones, does not cost a worker its warm model.

    Args:
        seconds: The window; 0 is none.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: deque[tuple[float, float]] = deque()  # time rises, value falls

    def add(self, now: float, value: float) -> float:
        """Note what it is now; returns the most within the window, which it is part of."""
        while self._seen and self._seen[-1][1] <= value:
            self._seen.pop()
        self._seen.append((now, value))
        while self._seen[0][0] < now - self._seconds:
            self._seen.popleft()
        return self._seen[0][1]


class _Guess:
    """Seconds of a job: measured, or by its cost from what was measured of the same model."""

    def __init__(self, backlog: Backlog, rates: Mapping[Lane, float]) -> None:
        self._rates = {name: seconds for name, seconds in rates.items() if 0 < seconds < math.inf}
        self.costs: dict[Lane, float] = {}
        seconds: dict[str, float] = {}
        costs: dict[str, float] = {}
        for row in backlog.waiting:
            name = (row.model, row.lane, row.recipe)
            self.costs[name] = row.cost / row.jobs
            if name in self._rates:
                seconds[row.model] = seconds.get(row.model, 0.0) + row.jobs * self._rates[name]
                costs[row.model] = costs.get(row.model, 0.0) + row.cost
        self._per_cost = {
            model: seconds[model] / costs[model] for model in seconds if costs[model] > 0
        }

    def seconds(self, name: Lane, cost: float | None) -> float:
        if name in self._rates:
            return self._rates[name]
        if cost is None:
            return UNMEASURED_JOB_SECONDS
        return cost * self._per_cost.get(name[0], UNMEASURED_SECONDS)
