"""Short words for tests that play producers and workers against a real queue."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from shared.queue import BlockSpec, Claim, CommitGroup, Committed, JobQueue, JobRef, SweepRecord

MODEL = "m"
PIN = "weights-a"
LONG_LEASE = 600.0


def make_block(
    size: int = 10,
    *,
    model: str = MODEL,
    lane: str = "l",
    recipe: str = "r",
    cost: float = 1.0,
) -> BlockSpec:
    return BlockSpec(model=model, lane=lane, recipe=recipe, size=size, cost=cost)


def make_record(
    id: str = "sweep",
    *blocks: BlockSpec,
    owner: str = "ann",
    priority: int = 0,
    weight: float = 1.0,
    digest: str = "d1",
    manifest: str = "{}",
) -> SweepRecord:
    return SweepRecord(
        id=id,
        digest=digest,
        manifest=manifest,
        blocks=blocks or (make_block(),),
        owner=owner,
        priority=priority,
        weight=weight,
    )


def take(
    queue: JobQueue,
    max_jobs: int = 4,
    *,
    token: str | None = None,
    model: str = MODEL,
    pin: str = PIN,
    lease_seconds: float = LONG_LEASE,
    prefer: tuple[str, str] | None = None,
) -> Claim | None:
    return queue.claim(
        token=token or secrets.token_hex(8),
        model=model,
        pin=pin,
        max_jobs=max_jobs,
        lease_seconds=lease_seconds,
        prefer=prefer,
    )


def must_take(queue: JobQueue, max_jobs: int = 4, **how: object) -> Claim:
    claim = take(queue, max_jobs, **how)  # type: ignore[arg-type]
    assert claim is not None
    return claim


def refs_of(claim: Claim) -> list[JobRef]:
    return [ref for share in claim.shares for ref in share.refs]


def positions_of(claim: Claim | None) -> list[int]:
    return [] if claim is None else [ref.position for ref in refs_of(claim)]


def store(queue: JobQueue, claim: Claim) -> Committed:
    """Commit everything a claim holds, 100 bytes an image."""
    return queue.commit(
        claim.token,
        [
            CommitGroup(
                sweep_id=share.sweep_id,
                epoch=share.epoch,
                positions=share.positions,
                bytes=[100] * len(share.positions),
            )
            for share in claim.shares
        ],
    )


def store_positions(
    queue: JobQueue,
    sweep_id: str,
    positions: Iterable[int],
    *,
    epoch: int | None = None,
    reused: bool = False,
) -> Committed:
    """Commit without a lease, as prefilling from storage does."""
    given = list(positions)
    return queue.commit(
        None,
        [
            CommitGroup(
                sweep_id=sweep_id,
                epoch=queue.status(sweep_id).epoch if epoch is None else epoch,
                positions=given,
                bytes=[100] * len(given),
                reused=reused,
            )
        ],
    )


def drain(queue: JobQueue, max_jobs: int = 16) -> list[Claim]:
    """Claim and commit until nothing is claimable."""
    claims = []
    while (claim := take(queue, max_jobs)) is not None:
        store(queue, claim)
        claims.append(claim)
    return claims


def crash(queue: JobQueue, max_jobs: int = 4) -> Claim:
    """A worker that vanishes with its whole claim on the GPU; its lease is over and reaped."""
    claim = must_take(queue, max_jobs)
    queue.begin(claim.token, refs_of(claim), gpu_seconds=60)
    expire(queue, claim.token)
    assert queue.reap() == 1
    return claim


def expire(queue: JobQueue, token: str | bytes) -> None:
    """Let a lease's time be over, by moving its deadline into the past."""
    assert queue.client.zadd(f"{queue.keys.base}:leases", {token: 1}, xx=True, ch=True)


def finish(queue: JobQueue) -> str | None:
    """Do the finalise item that waits, if any. Returns its sweep."""
    token = secrets.token_hex(8)
    item = queue.finalise(token=token, lease_seconds=LONG_LEASE)
    if item is None:
        return None
    queue.finish(token, item.sweep_id, item.epoch)
    return item.sweep_id


def snapshot(queue: JobQueue) -> dict[bytes, bytes]:
    """Every key of the server with its value, to see that nothing was written."""
    return {key: queue.client.dump(key) for key in all_keys(queue)}  # type: ignore[misc]


def all_keys(queue: JobQueue) -> list[bytes]:
    return sorted(queue.client.scan_iter(count=1000))
