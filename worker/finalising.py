"""Ends sweeps whose jobs are all done or dead: compares the bitmap with storage first."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator
from itertools import islice
from threading import Lock

from shared.addressing import address
from shared.errors import InvalidManifest, QueueError, StorageError, UnknownSweep
from shared.layout import Layout
from shared.pin import Pin
from shared.queue import FinaliseItem, JobQueue
from shared.storage import Storage
from worker.sweeps import ClaimedSweeps

LOOKED_UP = 4096
"""Sweeps up to this size are compared by HEAD, larger ones by LIST, which costs by the bucket."""
CHUNK = 8192
"""Positions compared at a time; a multiple of 8, as the bitmap is read."""
LEASE_SECONDS = 600.0
"""A finaliser that dies is followed by another after this."""

logger = logging.getLogger(__name__)


class Finaliser:
    """A CPU-only, leased, retryable item of work."""

    def __init__(self, queue: JobQueue, storage: Storage, sweeps: ClaimedSweeps) -> None:
        self._queue = queue
        self._storage = storage
        self._sweeps = sweeps
        self._one_at_a_time = Lock()

    def run_pending(self) -> int:
        """Finalise what waits for it; returns how many sweeps ended."""
        if not self._one_at_a_time.acquire(blocking=False):
            return 0
        ended = 0
        try:
            while True:
                token = secrets.token_hex(12)
                item = self._queue.finalise(token=token, lease_seconds=LEASE_SECONDS)
                if item is None:
                    return ended
                ended += self._finalise(token, item)
        except (QueueError, StorageError) as exc:
            logger.warning("finalising put off", extra={"error": str(exc)})
            return ended
        finally:
            self._one_at_a_time.release()

    def _finalise(self, token: str, item: FinaliseItem) -> bool:
        try:
            layout = self._sweeps.layout(item.sweep_id)
            missing = list(self._missing(item.sweep_id, layout))
        except UnknownSweep:
            return False
        except InvalidManifest as exc:
            logger.error(
                "sweep ended unchecked: its manifest or pin can't be read",
                extra={"sweep": item.sweep_id, "error": str(exc)},
            )
            missing = []
        if missing:
            logger.warning(
                "sweep reopened: images are gone from storage",
                extra={"sweep": item.sweep_id, "missing": len(missing)},
            )
            self._queue.repair(item.sweep_id, missing=missing)
            return False
        self._queue.finish(token, item.sweep_id, item.epoch)
        logger.info("sweep ended", extra={"sweep": item.sweep_id})
        return True

    def _missing(self, sweep_id: str, layout: Layout) -> Iterator[int]:
        """Positions that are marked done but have no object."""
        pins = {
            model: Pin.from_text(text) for model, text in self._queue.status(sweep_id).pins.items()
        }
        listed: set[str] | None = None
        if layout.total > LOOKED_UP:
            folder = layout.manifest.output.key.partition("{")[0]
            listed = {found.key for found in self._storage.list(folder)}
        done = self._done(sweep_id, layout.total)
        while chunk := list(islice(done, CHUNK)):
            keys = {}
            for position in chunk:
                pin = pins.get(layout.block_of(position).model)
                if pin is not None:
                    job = layout.job_at(position)
                    keys[position] = address(job, pin, layout.manifest.output).key
            held = listed if listed is not None else self._storage.exists_many(keys.values())
            yield from (position for position, key in keys.items() if key not in held)

    def _done(self, sweep_id: str, total: int) -> Iterator[int]:
        for start in range(0, total, CHUNK):
            count = min(CHUNK, total - start)
            mask = self._queue.done_mask(sweep_id, start, count)
            for offset in range(count):
                if mask[offset >> 3] & (0x80 >> (offset & 7)):
                    yield start + offset
