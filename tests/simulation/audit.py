"""Counts every job of a run, in Redis and by what the workers did: once, and none lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.simulation.pool import SimulatedPool, SweepLife


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The sums of a run; ``faults`` is empty where every job was counted exactly once."""

    jobs: int
    done: int
    dead: int
    lost: int
    renders: int
    faults: tuple[str, ...]

    @property
    def repeats(self) -> int:
        """Images that were committed more than once."""
        return self.renders - self.done


def audit(pool: SimulatedPool) -> Audit:
    """Compare Redis' bits, counters and sets with what the workers committed.

    The run has to be over: every sweep done, nothing under a lease.
    """
    faults: list[str] = []
    jobs = done = dead = renders = 0
    for sweep_id, life in pool.lives.items():
        status = pool.queue.status(sweep_id)
        jobs += status.total
        dead += status.dead
        renders += sum(life.renders)
        mask = pool.queue.done_mask(sweep_id, 0, status.total)
        done += sum(byte.bit_count() for byte in mask)
        if (status.done, status.dead) != (status.total, 0) or status.leased or status.pending:
            faults.append(
                f"{sweep_id}: {status.done} done, {status.dead} dead, {status.leased} leased, "
                f"{status.pending} pending of {status.total}"
            )
        faults.extend(f"{sweep_id}: {text}" for text in _differences(life, mask))
    if pool.counts["newly done"] != done:
        faults.append(f"{pool.counts['newly done']} were told as new, {done} bits are set")
    tallies = pool.queue.tallies()
    told = sum(tally.done for tally in tallies.values())
    if told != done:
        faults.append(f"the pool's tally is {told}, {done} bits are set")
    return Audit(
        jobs=jobs,
        done=done,
        dead=dead,
        lost=jobs - done - dead,
        renders=renders,
        faults=tuple(faults),
    )


def _differences(life: SweepLife, mask: bytes) -> Iterator[str]:
    """Positions that are done and nobody has made, or the other way round."""
    for position, renders in enumerate(life.renders):
        is_done = bool(mask[position // 8] & (0x80 >> position % 8))
        if is_done != (renders > 0):
            yield f"position {position} is {'' if is_done else 'not '}done, {renders} renders"
            return
