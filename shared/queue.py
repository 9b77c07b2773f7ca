"""The lanes in Redis: what workers claim, commit and give back, and what producers ask for.

Every verb is one Lua script of ``shared/lua`` and atomic; docs/queue.md says what each does in
each state of a sweep, and which invariants they keep together.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from shared.errors import (
    InvalidManifest,
    LeaseLost,
    SweepConflict,
    UnknownSweep,
)
from shared.queue_backlog import QueueBacklog
from shared.queue_board import WorkerBoard
from shared.queue_records import (
    BlockSpec,
    Claim,
    CommitGroup,
    Committed,
    Failure,
    FinaliseItem,
    JobRef,
    Phase,
    Rate,
    Share,
    State,
    Submitted,
    SweepRecord,
    SweepStatus,
)
from shared.queue_status import malformed_sweep
from shared.queue_views import QueueViews
from shared.redis_connection import text_of, translated_errors

T = TypeVar("T")

logger = logging.getLogger(__name__)

__all__ = [
    "BlockSpec",
    "Claim",
    "CommitGroup",
    "Committed",
    "Failure",
    "FinaliseItem",
    "JobQueue",
    "JobRef",
    "Phase",
    "Rate",
    "Share",
    "State",
    "Submitted",
    "SweepConflict",
    "SweepRecord",
    "SweepStatus",
]

MAX_CLAIM_JOBS = 1024
"""Bounds what one claim does in Redis."""

MAX_LEASE_SECONDS = 3600.0
MAX_REASON_CHARACTERS = 2000

REAPED_PER_CLAIM = 4
"""Expired leases that a claim ends first, where there are any."""

CHUNK_POSITIONS = 1000
"""Positions one script call takes: about 5 ms of Redis' time."""

CHUNKS_PER_TRIP = 16
"""Script calls sent in one pipeline."""


class JobQueue(QueueViews, QueueBacklog, WorkerBoard):
    """The queue of one pool: its verbs; what can be asked is in the classes it stands on."""

    # What a producer does to sweeps

    def submit(self, record: SweepRecord) -> Submitted:
        """Enter a sweep; nothing changes for one that is under way or done.

        Raises:
            InvalidSweep: The record is out of bounds.
            SweepConflict: Another sweep has this id.
        """
        record.check()
        blocks = [
            f"{block.model} {block.lane} {block.recipe} {block.size} {block.cost!r}"
            for block in record.blocks
        ]
        outcome, state, epoch = self._run(
            "submit",
            record.id,
            record.digest,
            record.owner,
            record.priority,
            repr(record.weight),
            secrets.token_hex(16),
            record.manifest,
            *blocks,
        )
        if outcome == b"conflict":
            raise SweepConflict(record.id)
        if outcome == b"malformed":
            raise malformed_sweep(record.id)
        return Submitted(outcome=outcome.decode(), state=state.decode(), epoch=int(epoch))

    def pause(self, sweep_id: str) -> State:
        """Stop handing out its jobs. Returns its state now, as the next two do."""
        return self._change("pause", sweep_id)

    def refuse(self, sweep_id: str, reason: str) -> State:
        """Pause a sweep that no worker can read, and say why in its status until it is resumed."""
        text = reason[:MAX_REASON_CHARACTERS].encode("utf-8", "replace")
        return self._change("pause", sweep_id, text)

    def resume(self, sweep_id: str) -> State:
        """Hand out the jobs of a paused sweep again."""
        return self._change("resume", sweep_id)

    def cancel(self, sweep_id: str) -> State:
        """Cancel what is not done; what is being rendered still counts if it is committed."""
        return self._change("cancel", sweep_id)

    def delete(self, sweep_id: str) -> None:
        """Forget a sweep in Redis; its images stay in storage."""
        reply = self._run("delete", sweep_id, secrets.token_hex(16))
        if reply == 0:
            raise UnknownSweep(sweep_id)
        if reply == 2:
            self._sweep_up(sweep_id)

    def retry(self, sweep_id: str, positions: Sequence[int] | None = None) -> int:
        """Revive dead jobs, all of them by default. Returns how many."""
        if positions is not None:
            return sum(
                self._known(sweep_id, self._run("retry", sweep_id, len(chunk), _text(chunk)))
                for chunk in _chunks(sorted(positions))
            )
        revived = 0
        while count := self._known(sweep_id, self._run("retry", sweep_id, CHUNK_POSITIONS, "")):
            revived += count
        return revived

    def repair(self, sweep_id: str, *, missing: Sequence[int], epoch: int | None = None) -> int:
        """Have done jobs made again, because their objects are gone.

        Args:
            epoch: Of the sweep when they were found missing; the present one if not given.

        Returns:
            How many were done and are pending again; 0 for a sweep that is cancelled or, by now,
            of another epoch.
        """
        if epoch is None:
            epoch = self.status(sweep_id).epoch
        token = secrets.token_hex(16)
        repaired = 0
        for number, chunk in enumerate(_chunks(sorted(missing)), start=1):
            reply = self._run("repair", sweep_id, epoch, token, number, _text(chunk))
            repaired += max(self._known(sweep_id, reply), 0)
        return repaired

    def pin(self, sweep_id: str, model: str, pin: str) -> bool:
        """Pin a model of a sweep as a first claim does. Returns whether it is pinned to this."""
        return self._known(sweep_id, self._run("pin", sweep_id, model, pin)) == 1

    # What a worker does with jobs

    def claim(
        self,
        *,
        token: str,
        model: str,
        pin: str,
        max_jobs: int,
        lease_seconds: float,
        prefer: tuple[str, str] | None = None,
    ) -> Claim | None:
        """Take up to ``max_jobs`` jobs of one lane and recipe, or None when there are none.

        Args:
            token: Random, of this claim alone; asking again with it gives the same claim.
            pin: What the worker has loaded; sweeps pinned to something else are not seen.
            prefer: Lane and recipe the worker is on.

        Raises:
            LeaseLost: The lease of this token is over.
        """
        if not 1 <= max_jobs <= MAX_CLAIM_JOBS:
            raise ValueError(f"max_jobs {max_jobs} is not within 1..{MAX_CLAIM_JOBS}")
        lane, recipe = prefer or ("", "")
        asked = (token, model, pin, max_jobs, _lease_us(lease_seconds), lane, recipe)
        reply = self._run("claim", *asked, 1)
        if reply[0] == b"expired":
            self.reap(REAPED_PER_CLAIM)
            reply = self._run("claim", *asked, 0)
        if reply[0] == b"gone":
            raise LeaseLost(token)
        if reply[0] == b"none":
            return None
        _, lane_reply, recipe_reply, solo, shares, more = reply
        return Claim(
            token=token,
            model=model,
            lane=text_of(lane_reply),
            recipe=text_of(recipe_reply),
            solo=bool(solo),
            more=bool(more),
            shares=tuple(
                Share(
                    sweep_id=text_of(sweep_id),
                    epoch=int(epoch),
                    block=block,
                    positions=tuple(map(int, positions.split(b","))),
                )
                for sweep_id, epoch, block, positions in shares
            ),
        )

    def begin(
        self, token: str, refs: Sequence[JobRef], *, gpu_seconds: float, worker: str = ""
    ) -> None:
        """Say that jobs go to the GPU now, for ``gpu_seconds`` at most; others have left it.

        Args:
            worker: Who is named if it vanishes with them.

        Raises:
            LeaseLost: The lease is over: don't render.
        """
        bound = _microseconds(gpu_seconds)
        if self._run("begin", token, bound, worker, *_by_sweep(refs))[0] == b"gone":
            raise LeaseLost(token)

    def renew(self, token: str, *, lease_seconds: float, phase: Phase) -> float:
        """Keep a lease for as long as its phase may last. Returns the seconds it has left.

        Raises:
            LeaseLost: The lease, or the time its phase may take, is over.
        """
        reply = self._run("renew", token, _lease_us(lease_seconds), phase)
        if reply[0] == b"gone":
            raise LeaseLost(token)
        return float(reply[1]) / 1e6

    def commit(self, token: str | None, groups: Sequence[CommitGroup]) -> Committed:
        """Record stored images, under a lease or without one.

        Args:
            token: The lease they were made under, to hear whether it holds more; the queue needs
                none.

        Raises:
            InvalidManifest: A position is outside its sweep.
        """
        calls: list[list[Any]] = []
        for group in groups:
            pairs = sorted(dict(zip(group.positions, group.bytes, strict=True)).items())
            for chunk in _chunks(pairs):
                positions, sizes = map(_text, zip(*chunk, strict=True))
                flagged = _text([position for position, _ in chunk if position in group.flagged])
                calls.append(
                    [
                        group.sweep_id,
                        group.epoch,
                        int(group.reused),
                        positions,
                        sizes,
                        flagged,
                        token or "",
                        sum(size for _, size in chunk),
                    ]
                )
        newly_done = 0
        lease_over = False
        finalising: list[str] = []
        stale: list[str] = []
        for first in range(0, len(calls), CHUNKS_PER_TRIP):
            trip = calls[first : first + CHUNKS_PER_TRIP]
            for call, reply in zip(trip, self._run_all("commit", trip), strict=True):
                sweep_id = call[0]
                if reply[0] == b"range":
                    raise InvalidManifest(
                        f"sweep {sweep_id!r} does not have all the positions {call[3]:.80}"
                    )
                if reply[0] == b"stale":
                    stale.append(sweep_id)
                    continue
                newly_done += reply[1]
                lease_over |= bool(reply[3])
                if reply[2]:
                    finalising.append(sweep_id)
        if stale:
            logger.info("commit of another epoch", extra={"lease": token, "sweeps": stale})
        return Committed(
            newly_done=newly_done,
            finalising=tuple(finalising),
            stale=tuple(dict.fromkeys(stale)),
            lease_over=lease_over,
        )

    def release(self, token: str, refs: Sequence[JobRef] | None = None) -> int:
        """Give back jobs of a lease, all by default, at no charge. Returns how many it held."""
        if refs is not None and not refs:
            return 0
        return int(self._run("release", token, *_by_sweep(refs or ())))

    def fail(
        self, token: str, ref: JobRef, *, reason: str, worker: str, permanent: bool = False
    ) -> None:
        """Report that a job failed by its own fault; ``permanent``: it need not be tried again.

        Raises:
            LeaseLost: The lease does not hold this job.
        """
        text = reason[:MAX_REASON_CHARACTERS].encode("utf-8", "replace")
        reply = self._run("fail", token, ref.sweep_id, ref.position, text, worker, int(permanent))
        if reply == b"gone":
            raise LeaseLost(token)

    def reap(self, limit: int = 16) -> int:
        """End leases whose time is over. Returns how many."""
        return int(self._run("reap", limit))

    def finalise(self, *, token: str, lease_seconds: float) -> FinaliseItem | None:
        """Lease a sweep that waits for its index to be written, or None.

        ``renew`` (phase ``uploading``) and ``release`` work on its token as on a claim's.

        Raises:
            LeaseLost: The lease of this token is over.
        """
        reply = self._run("finalise", token, _lease_us(lease_seconds))
        if reply[0] == b"gone":
            raise LeaseLost(token)
        if reply[0] == b"none":
            return None
        return FinaliseItem(sweep_id=text_of(reply[1]), epoch=int(reply[2]))

    def finish(self, token: str, sweep_id: str, epoch: int) -> None:
        """End a sweep whose index is written.

        Raises:
            LeaseLost: The item is another's by now, or the sweep has work again.
        """
        if self._run("finish", token, sweep_id, epoch) == b"gone":
            raise LeaseLost(token)

    def _change(self, verb: str, sweep_id: str, *more: bytes) -> State:
        state: State = self._run(verb, sweep_id, *more).decode()
        if not state:
            raise UnknownSweep(sweep_id)
        return state

    def _known(self, sweep_id: str, reply: int) -> int:
        if reply == -1:
            raise UnknownSweep(sweep_id)
        return reply

    def _sweep_up(self, sweep_id: str) -> None:
        """Remove keys of a malformed sweep that no script could name, by looking at all keys."""
        with translated_errors():
            for kind in ("open", "bits", "retry", "solo"):
                pattern = f"{self.keys.base}:{kind}:{sweep_id}:*"
                for name in self.client.scan_iter(match=pattern, count=1000):
                    self.client.unlink(name)


def _microseconds(seconds: float) -> int:
    return max(1, round(seconds * 1e6))


def _lease_us(seconds: float) -> int:
    if not 0 < seconds <= MAX_LEASE_SECONDS:
        raise ValueError(f"lease_seconds {seconds} is not within 0..{MAX_LEASE_SECONDS}")
    return _microseconds(seconds)


def _text(numbers: Iterable[int]) -> str:
    """How positions travel: one argument is cheaper than many."""
    return ",".join(map(str, numbers))


def _by_sweep(refs: Sequence[JobRef]) -> list[str]:
    """Sweep id, positions, sweep id, positions ..."""
    positions: dict[str, list[int]] = {}
    for ref in refs:
        positions.setdefault(ref.sweep_id, []).append(ref.position)
    return [text for name, found in positions.items() for text in (name, _text(found))]


def _chunks(values: Sequence[T]) -> Iterable[Sequence[T]]:
    return (
        values[first : first + CHUNK_POSITIONS] for first in range(0, len(values), CHUNK_POSITIONS)
    )
