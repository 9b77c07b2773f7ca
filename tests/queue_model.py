"""The queue as it should be, in plain Python: where every position is and who holds what.

It says nothing about whose turn it is: it takes over what a claim got, after checking that the
claim was allowed to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.queue import Claim, SweepRecord

SHARED_TRIES = 2
DEADLY_TRIES = 5

FRESH, RETRY, SOLO, LEASED, DONE, DEAD, CANCELLED = (
    "fresh",
    "retry",
    "solo",
    "leased",
    "done",
    "dead",
    "cancelled",
)
PENDING = (FRESH, RETRY, SOLO)


@dataclass
class ModelSweep:
    """One sweep: a place for every position."""

    record: SweepRecord
    epoch: int
    state: str = "running"
    places: list[str] = field(default_factory=list)
    holders: dict[int, str] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)
    pins: dict[str, str] = field(default_factory=dict)
    finaliser: str | None = None
    due: bool = False
    """Cancelled, and what it has come to since is not in an index yet."""

    def __post_init__(self) -> None:
        self.places = [FRESH] * self.record.total

    def block_of(self, position: int) -> int:
        return next(b for b in range(len(self.record.blocks)) if position in self.span(b))

    def span(self, block: int) -> range:
        """Positions of a block."""
        start = sum(spec.size for spec in self.record.blocks[:block])
        return range(start, start + self.record.blocks[block].size)

    def at(self, block: int, *places: str) -> list[int]:
        """Positions of a block that are in one of the places."""
        return [position for position in self.span(block) if self.places[position] in places]

    def count(self, *places: str) -> int:
        return sum(place in places for place in self.places)

    def open_blocks(self, model: str, pin: str, *places: str) -> list[int]:
        """Blocks from which a worker may be given jobs that are in one of the places."""
        if self.state != "running" or self.pins.get(model, pin) != pin:
            return []
        return [
            b
            for b, spec in enumerate(self.record.blocks)
            if spec.model == model and self.at(b, *places)
        ]


@dataclass
class ModelLease:
    """What a token holds. ``held`` also counts jobs whose sweep was deleted meanwhile."""

    kind: str
    claim: Claim | None = None
    sweep_id: str = ""
    held: int = 0
    begun: set[tuple[str, int]] = field(default_factory=set)
    expired: bool = False


class QueueModel:
    """All sweeps and leases of a pool."""

    def __init__(self) -> None:
        self.sweeps: dict[str, ModelSweep] = {}
        self.leases: dict[str, ModelLease] = {}
        self.gone: set[str] = set()
        self.tally: Counter[tuple[str, str]] = Counter()
        """(model, what) to how often it has happened."""

    def live(self, token: str) -> bool:
        return token in self.leases and not self.leases[token].expired

    def held_by(self, token: str) -> list[tuple[str, int]]:
        return [
            (sweep_id, position)
            for sweep_id, sweep in self.sweeps.items()
            for position, holder in sorted(sweep.holders.items())
            if holder == token
        ]

    def open_sweeps(self, model: str, pin: str) -> list[ModelSweep]:
        """Sweeps from which a worker may be given jobs."""
        return [s for s in self.sweeps.values() if s.open_blocks(model, pin, *PENDING)]

    def submit(self, record: SweepRecord, epoch: int) -> str:
        known = self.sweeps.get(record.id)
        if known is not None and known.state != "cancelled":
            return "done" if known.state == "done" else "unchanged"
        self.sweeps[record.id] = ModelSweep(record, epoch)
        return "created" if known is None else "restarted"

    def take(self, claim: Claim, pin: str) -> None:
        for share in claim.shares:
            sweep = self.sweeps[share.sweep_id]
            sweep.pins[claim.model] = pin
            for position in share.positions:
                sweep.places[position] = LEASED
                sweep.holders[position] = claim.token
        self.leases[claim.token] = ModelLease("jobs", claim=claim, held=claim.size)

    def _drop(self, sweep: ModelSweep, position: int) -> None:
        token = sweep.holders.pop(position)
        self.leases[token].held -= 1
        if self.leases[token].held <= 0:
            self.end(token)

    def end(self, token: str) -> None:
        del self.leases[token]
        self.gone.add(token)

    def commit(self, sweep_id: str, epoch: int, positions: Iterable[int]) -> int | None:
        """Returns how many were not done before, or None for stale."""
        sweep = self.sweeps.get(sweep_id)
        if sweep is None or sweep.epoch != epoch:
            return None
        fresh = 0
        for position in positions:
            if sweep.places[position] == DONE:
                continue
            if position in sweep.holders:
                self._drop(sweep, position)
            sweep.places[position] = DONE
            sweep.tries.pop(position, None)
            self._count(sweep, position, "done")
            fresh += 1
        self._complete(sweep)
        if fresh:
            self._index_cancelled(sweep)
        return fresh

    def _count(self, sweep: ModelSweep, position: int, what: str) -> None:
        self.tally[sweep.record.blocks[sweep.block_of(position)].model, what] += 1

    def _index_cancelled(self, sweep: ModelSweep) -> None:
        if sweep.state == "cancelled" and not sweep.holders:
            sweep.due = True

    def _complete(self, sweep: ModelSweep) -> None:
        if sweep.state in ("running", "paused") and sweep.count(DONE, DEAD) == sweep.record.total:
            sweep.state = "finalising"

    def _put_back(self, sweep: ModelSweep, position: int) -> None:
        if sweep.state == "cancelled":
            sweep.places[position] = CANCELLED
            self._index_cancelled(sweep)
        elif sweep.tries.get(position, 0) < SHARED_TRIES:
            sweep.places[position] = RETRY
        else:
            sweep.places[position] = SOLO

    def release(self, token: str, wanted: Iterable[tuple[str, int]] | None) -> int:
        lease = self.leases.get(token)
        if lease is None:
            return 0
        if lease.kind == "finalise":
            self._requeue(token)
            self.end(token)
            return 1
        mine = self.held_by(token)
        asked = mine if wanted is None else [job for job in mine if job in set(wanted)]
        for sweep_id, position in asked:
            sweep = self.sweeps[sweep_id]
            self._drop(sweep, position)
            self._put_back(sweep, position)
        if wanted is None and token in self.leases:
            self.end(token)
        return len(asked)

    def fail(self, token: str, job: tuple[str, int], *, permanent: bool) -> None:
        sweep = self.sweeps[job[0]]
        begun = job in self.leases[token].begun
        self._drop(sweep, job[1])
        self._blame(sweep, job[1], charged=begun, permanent=permanent)

    def _blame(self, sweep: ModelSweep, position: int, *, charged: bool, permanent: bool) -> None:
        if sweep.state == "cancelled":
            sweep.places[position] = CANCELLED
            self._index_cancelled(sweep)
            return
        if charged:
            sweep.tries[position] = sweep.tries.get(position, 0) + 1
        if permanent or sweep.tries.get(position, 0) >= DEADLY_TRIES:
            sweep.places[position] = DEAD
            self._count(sweep, position, "dead")
            self._complete(sweep)
        else:
            self._put_back(sweep, position)

    def reap(self, limit: int) -> int:
        expired = sorted(token for token, lease in self.leases.items() if lease.expired)[:limit]
        for token in expired:
            lease = self.leases[token]
            if lease.kind == "finalise":
                self._requeue(token)
            elif lease.claim is not None:
                self.tally[lease.claim.model, "expired"] += 1
            for sweep_id, position in self.held_by(token):
                sweep = self.sweeps[sweep_id]
                begun = (sweep_id, position) in lease.begun
                self._drop(sweep, position)
                if begun:
                    self._blame(sweep, position, charged=True, permanent=False)
                else:
                    self._put_back(sweep, position)
            if token in self.leases:
                self.end(token)
        return len(expired)

    def cancel(self, sweep_id: str) -> None:
        sweep = self.sweeps[sweep_id]
        if sweep.state in ("running", "paused"):
            sweep.state = "cancelled"
            sweep.places = [CANCELLED if place in PENDING else place for place in sweep.places]
            self._index_cancelled(sweep)

    def retry(self, sweep_id: str) -> int:
        sweep = self.sweeps[sweep_id]
        dead = [p for p, place in enumerate(sweep.places) if place == DEAD]
        if sweep.state == "cancelled" or not dead:
            return 0
        for position in dead:
            sweep.places[position] = RETRY
            sweep.tries.pop(position, None)
        self._reopen(sweep)
        return len(dead)

    def repair(self, sweep_id: str, missing: Iterable[int], cursors: dict[int, int]) -> int:
        sweep = self.sweeps[sweep_id]
        if sweep.state == "cancelled":
            return 0
        undone = [p for p, place in enumerate(sweep.places) if place == DONE and p in set(missing)]
        for position in undone:
            passed = position < cursors[sweep.block_of(position)]
            sweep.places[position] = RETRY if passed else FRESH
        if undone:
            self._reopen(sweep)
        return len(undone)

    def _reopen(self, sweep: ModelSweep) -> None:
        if sweep.state in ("done", "finalising"):
            sweep.state = "running"
            sweep.epoch = 0  # a new one, which the test reads from the queue
            sweep.finaliser = None

    def waiting_to_finalise(self) -> set[str]:
        return {
            sweep_id
            for sweep_id, sweep in self.sweeps.items()
            if (sweep.state == "finalising" and sweep.finaliser is None) or sweep.due
        }

    def may_be_finalised(self) -> set[str]:
        """Those that wait and that nobody is indexing."""
        return {
            sweep_id
            for sweep_id in self.waiting_to_finalise()
            if not self.live(self.sweeps[sweep_id].finaliser or "")
        }

    def finalise(self, token: str, sweep_id: str) -> None:
        self.sweeps[sweep_id].finaliser = token
        self.sweeps[sweep_id].due = False
        self.leases[token] = ModelLease("finalise", sweep_id=sweep_id, held=1)

    def _requeue(self, token: str) -> None:
        sweep = self.sweeps.get(self.leases[token].sweep_id)
        if sweep is None or sweep.finaliser != token:
            return
        if sweep.state in ("finalising", "cancelled"):
            sweep.finaliser = None
            sweep.due = sweep.state == "cancelled"
