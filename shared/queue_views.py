"""What anybody may ask of a pool; no answer changes a sweep."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from redis.exceptions import ResponseError

from shared.errors import InvalidManifest, QueueError, UnknownSweep
from shared.manifest import MAX_MANIFEST_BYTES
from shared.pool_client import PoolClient
from shared.queue_look import Look
from shared.queue_records import Census, Failure, SweepStatus
from shared.queue_status import (
    join_mask,
    malformed_sweep,
    read_failure,
    read_status,
    segment_ranges,
)
from shared.redis_connection import error_code, text_of, translated_errors

logger = logging.getLogger(__name__)

EXPIRED_LOOKED_AT = 64
"""Expired leases of one look; where there are more, they have their turn later."""

POSITIONS_PER_TRIP = 1000
"""Positions whose holders are read in one round trip."""

STATUSES_PER_TRIP = 1000
"""Sweeps whose status is read in one round trip."""


class QueueViews(PoolClient):
    """Where jobs are, what is done, what failed, what waits for a worker."""

    def status(self, sweep_id: str) -> SweepStatus:
        """Where a sweep's jobs are.

        Raises:
            UnknownSweep: There is none of this id.
            QueueError: What is there is not a sweep.
        """
        status = self._statuses([sweep_id])[0]
        if status is None:
            raise UnknownSweep(sweep_id)
        if isinstance(status, QueueError):
            raise status
        return status

    def sweeps(self) -> list[SweepStatus]:
        """All sweeps of the pool, newest first; malformed ones are logged and left out."""
        with translated_errors():
            names: Any = self.client.zrevrange(self.keys.sweeps, 0, -1)
        ids = [text_of(name) for name in names]
        found = []
        for first in range(0, len(ids), STATUSES_PER_TRIP):
            for status in self._statuses(ids[first : first + STATUSES_PER_TRIP]):
                if isinstance(status, QueueError):
                    logger.warning("malformed sweep", extra={"error": str(status)})
                elif status is not None:
                    found.append(status)
        return found

    def manifest(self, sweep_id: str) -> str:
        """The manifest as it was submitted.

        Raises:
            UnknownSweep: There is none.
            InvalidManifest: What is there is no text, or so long that it is not read.
        """
        key = self.keys.manifest(sweep_id)
        with translated_errors():
            try:
                text: Any = self.client.getrange(key, 0, MAX_MANIFEST_BYTES)
            except ResponseError as exc:
                if error_code(str(exc)) != "WRONGTYPE":
                    raise
                raise InvalidManifest(f"manifest: {key} in Redis is no string") from exc
            if not text and not self.client.exists(key):
                raise UnknownSweep(sweep_id)
        if len(text) > MAX_MANIFEST_BYTES:
            raise InvalidManifest(
                f"manifest: longer than the {MAX_MANIFEST_BYTES:,} bytes that are allowed"
            )
        try:
            manifest: str = text.decode()
        except UnicodeDecodeError as exc:
            raise InvalidManifest("manifest: not UTF-8") from exc
        return manifest

    def failures(self, sweep_id: str, limit: int = 100) -> list[Failure]:
        """Up to ``limit`` jobs that failed and are not done since, by position."""
        found = islice(self.each_failure(sweep_id), limit)
        return sorted(found, key=lambda failure: failure.position)

    def each_failure(self, sweep_id: str) -> Iterator[Failure]:
        """Every job that failed and is not done since, in no order; maybe one of them twice."""
        with translated_errors():
            for position, text in self.client.hscan_iter(self.keys.failures(sweep_id), count=1000):
                try:
                    yield read_failure(position, text)
                except QueueError as error:
                    logger.warning("failure left out", extra={"error": str(error)})

    def done_mask(self, sweep_id: str, start: int, count: int) -> bytes:
        """Done bits of positions start..start+count-1, most significant bit first.

        Args:
            start: A multiple of 8.
        """
        if start % 8:
            raise ValueError(f"start {start} is not a multiple of 8")
        ranges = segment_ranges(start, count)
        with translated_errors():
            pipeline = self.client.pipeline(transaction=False)
            for segment, first, last in ranges:
                pipeline.getrange(self.keys.bits(sweep_id, segment), first, last)
            stored = pipeline.execute()
        wanted = [last - first + 1 for _, first, last in ranges]
        return join_mask(list(zip(wanted, stored, strict=True)), count)

    def leased_among(self, sweep_id: str, positions: Sequence[int]) -> set[int]:
        """Those of the positions that somebody holds at this moment."""
        held: set[int] = set()
        for first in range(0, len(positions), POSITIONS_PER_TRIP):
            asked = positions[first : first + POSITIONS_PER_TRIP]
            with translated_errors():
                holders: Any = self.client.hmget(self.keys.leased(sweep_id), list(map(str, asked)))
            held |= {
                position
                for position, holder in zip(asked, holders, strict=True)
                if holder is not None
            }
        return held

    def census(self, sweep_id: str) -> Census:
        """Where all jobs of a sweep are, counted in one moment."""
        counts = self._run("census", sweep_id)
        if not counts:
            raise UnknownSweep(sweep_id)
        return Census(*counts)

    def live(self, refs: Iterable[tuple[str, int]]) -> set[str]:
        """Those of the (sweep id, epoch) that still want their jobs."""
        asked = list(refs)
        with translated_errors():
            pipeline = self.client.pipeline(transaction=False)
            for sweep_id, _ in asked:
                pipeline.hmget(self.keys.sweep(sweep_id), "state", "epoch")
            rows = pipeline.execute()
        return {
            sweep_id
            for (sweep_id, epoch), (state, now) in zip(asked, rows, strict=True)
            if state in (b"running", b"paused") and int(now) == epoch
        }

    def look(self) -> Look:
        """What there is to do in the pool."""
        return Look.of(*self._run("work", EXPIRED_LOOKED_AT))

    def open_models(self, sweep_id: str, models: Sequence[str]) -> tuple[str, ...]:
        """Those of the models of which the sweep has jobs that nobody holds."""
        with translated_errors():
            pipeline = self.client.pipeline(transaction=False)
            for model in models:
                pipeline.exists(self.keys.open(sweep_id, model))
            found = pipeline.execute()
        return tuple(model for model, there in zip(models, found, strict=True) if there)

    def _statuses(self, sweep_ids: Sequence[str]) -> list[SweepStatus | QueueError | None]:
        with translated_errors():
            pipeline = self.client.pipeline(transaction=True)
            for sweep_id in sweep_ids:
                pipeline.hgetall(self.keys.sweep(sweep_id))
                pipeline.hlen(self.keys.leased(sweep_id))
                pipeline.scard(self.keys.dead(sweep_id))
                pipeline.zcard(self.keys.blocks(sweep_id))
            replies = pipeline.execute(raise_on_error=False)
        found: list[SweepStatus | QueueError | None] = []
        for i, sweep_id in enumerate(sweep_ids):
            row, leased, dead, blocks = replies[4 * i : 4 * i + 4]
            if any(isinstance(reply, Exception) for reply in (row, leased, dead, blocks)):
                found.append(malformed_sweep(sweep_id))
            elif not row:
                found.append(None)
            else:
                try:
                    found.append(
                        read_status(sweep_id, row, leased=leased, dead=dead, blocks=blocks)
                    )
                except QueueError as error:
                    found.append(error)
        return found
