"""What one look at a pool finds of its open work, as values."""

from __future__ import annotations

from dataclasses import dataclass, field

UNPINNED = "-"
"""The pin of jobs whose sweep nobody has claimed from yet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """Claimable jobs of one lane and recipe.

    Attributes:
        model: The queue's key.
        pin: Short name of what their sweeps are pinned to, or UNPINNED.
        jobs: At least 1.
        cost: Of all of them together, see ``shared.lanes.cost``.
    """

    model: str
    pin: str
    lane: str
    recipe: str
    jobs: int
    cost: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Jobs of one lane and recipe under leases, expired ones included."""

    model: str
    lane: str
    recipe: str
    jobs: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """What has happened to a model's jobs since the pool began; it only grows.

    Attributes:
        done: Committed.
        reused: Of these, images that storage had.
        dead: Given up.
        expired: Leases that ran out.
    """

    done: int = 0
    reused: int = 0
    dead: int = 0
    expired: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Backlog:
    """One look at the open work, all of one moment.

    Attributes:
        at: Redis' time, seconds since 1970, UTC.
        waiting: What may be claimed.
        held: What is under leases, whatever became of its sweep.
        oldest: Model key to when its oldest sweep with claimable jobs was submitted.
        finalising: Model key to sweeps whose index is to be written.
        finalising_since: Since when the longest waiting of them has waited; None without one.
        sweeps: In the pool.
        sweeps_unread: With claimable jobs, but beyond the bound of one look.
        leases_unread: Beyond the bound of one look.
    """

    at: float
    waiting: tuple[Waiting, ...] = ()
    held: tuple[Held, ...] = ()
    oldest: dict[str, float] = field(default_factory=dict)
    finalising: dict[str, int] = field(default_factory=dict)
    finalising_since: float | None = None
    sweeps: int = 0
    sweeps_unread: int = 0
    leases_unread: int = 0

    @property
    def models(self) -> set[str]:
        """Keys of those with open work."""
        found = {row.model for row in self.waiting} | {row.model for row in self.held}
        return found | set(self.finalising)
