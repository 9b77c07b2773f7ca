"""How many workers a model's backlog asks for: what the pool's owner has set, what it was of late.

Pure: times and backlogs in, numbers out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.errors import InvalidSettings
from shared.scaling import ModelBacklog, RecentPeak, workers_wanted

MOST_TARGET_SECONDS = 86_400.0 * 7
MOST_WORKERS = 100_000
"""Bounds of what may be asked for: beyond them somebody meant something else."""


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How many workers are wanted for a backlog.

    Attributes:
        target_seconds: Of work for each worker. Several cold starts long, or GPUs load models for
            longer than they render. As the backlog shrinks, so do the workers: a sweep alone takes
            more than this.
        max_workers: Never more, for one model.
        down_seconds: A smaller number is told when the backlog has been smaller for so long.
    """

    target_seconds: float = 300.0
    max_workers: int = 100
    down_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what cannot be right, naming the option."""
        if not 0 < self.target_seconds <= MOST_TARGET_SECONDS:
            raise InvalidSettings(
                f"target_seconds {self.target_seconds:g} is not above 0 and at most a week"
            )
        if not 0 <= self.max_workers <= MOST_WORKERS:
            raise InvalidSettings(f"max_workers {self.max_workers} is not from 0 to {MOST_WORKERS}")
        if not 0 <= self.down_seconds <= MOST_TARGET_SECONDS:
            raise InvalidSettings(f"down_seconds {self.down_seconds:g} is not from 0 to a week")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A model's backlog as scaling sees it: the most within the last ``down_seconds``."""

    seconds: float = 0.0
    jobs: int = 0

    def workers(self, scaling: Scaling) -> int:
        """How many it asks for."""
        return workers_wanted(
            self.seconds,
            self.jobs,
            target_seconds=scaling.target_seconds,
            max_workers=scaling.max_workers,
        )


class Wishes:
    """Remembers each model's recent backlogs.

    Args:
        down_seconds: How long.
    """

    def __init__(self, down_seconds: float) -> None:
        self._down_seconds = down_seconds
        self._peaks: dict[str, _Peaks] = {}

    def note(self, now: float, backlogs: Mapping[str, ModelBacklog]) -> dict[str, Wish]:
        """What each model asks for, also one that is gone and was busy a moment ago."""
        found = {}
        for name in {*backlogs, *self._peaks}:
            work = backlogs.get(name, ModelBacklog())
            if name not in self._peaks:
                self._peaks[name] = _Peaks(
                    RecentPeak(self._down_seconds), RecentPeak(self._down_seconds)
                )
            peaks = self._peaks[name]
            wish = Wish(
                seconds=peaks.seconds.add(now, work.seconds),
                jobs=int(peaks.jobs.add(now, work.jobs)),
            )
            if wish.jobs or name in backlogs:
                found[name] = wish
            else:
                del self._peaks[name]
        return found


@dataclass(frozen=True)
class _Peaks:
    seconds: RecentPeak
    jobs: RecentPeak
