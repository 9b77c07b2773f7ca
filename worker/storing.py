"""Encodes, stores and commits what a batch rendered, beside the GPU: PUT, receipts, commit."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from threading import Event, Semaphore
from typing import TypeVar

from shared.digest import acting
from shared.errors import InvalidSettings, QueueError, StorageError
from shared.image_metadata import encode_png
from shared.pin import Pin
from shared.queue import CommitGroup, JobQueue, JobRef
from shared.records import Receipt, receipt_lines, receipts_key
from shared.storage import Storage
from worker.claiming import ClaimedJob
from worker.engine import Rendered
from worker.leases import Lease, LeaseKeeper
from worker.metrics import ModelMetrics
from worker.recording import Recorder

UPLOADS = 8
"""Images encoded and stored at once; PNG encoding and sockets both release the GIL."""
UNCOMMITTED_BATCHES = 2
"""Back-pressure: how many rendered batches may wait for storage before rendering waits."""
GIVE_UP_SECONDS = 3600.0
"""How long an image is kept while storage is down; the lease's upload phase lasts as long."""
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 10.0

Reply = TypeVar("Reply")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """Images of one claim that came off the GPU together.

    Attributes:
        lease: Their lease.
        number: Of this batch within the lease, for the name of its receipts.
        jobs: What was rendered.
        images: One for each job.
        seconds: Stage to seconds of the whole batch.
    """

    lease: Lease
    number: int
    jobs: Sequence[ClaimedJob]
    images: Sequence[Rendered]
    seconds: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What the receipts of one worker have in common."""

    worker: str
    device: str
    attention: str
    software: dict[str, str] = field(default_factory=dict)


class Storer:
    """Keeps rendered images until storage has them, whatever storage does."""

    def __init__(
        self,
        *,
        queue: JobQueue,
        storage: Storage,
        pin: Pin,
        provenance: Provenance,
        give_up: Event,
        keeper: LeaseKeeper,
        recorder: Recorder,
        metrics: ModelMetrics,
    ) -> None:
        self._queue = queue
        self._storage = storage
        self._pin = pin
        self._provenance = provenance
        self._give_up = give_up
        self._keeper = keeper
        self._recorder = recorder
        self._metrics = metrics
        self._window = Semaphore(UNCOMMITTED_BATCHES)
        self._batches = ThreadPoolExecutor(UNCOMMITTED_BATCHES, thread_name_prefix="storer")
        self._uploads = ThreadPoolExecutor(UPLOADS, thread_name_prefix="upload")
        self._pending: list[Future[None]] = []

    def wait_for_room(self) -> None:
        """Block while as many batches as allowed are uncommitted."""
        self._window.acquire()
        self._window.release()

    def store(self, finished: Finished) -> None:
        """Encode, upload and commit in the background; blocks only for back-pressure."""
        self._window.acquire()
        finished.lease.share()
        finished.lease.phase = "uploading"
        self._metrics.whole.uncommitted.inc()
        self._pending = [future for future in self._pending if not future.done()]
        self._pending.append(self._batches.submit(self._run, finished))

    def flush(self) -> None:
        """Wait until everything handed in is committed or given up."""
        for future in self._pending:
            future.result()
        self._pending = []

    def close(self) -> None:
        """End the threads, after `flush`."""
        self._batches.shutdown()
        self._uploads.shutdown()

    def commit_stored(
        self,
        lease: Lease,
        stored: Sequence[tuple[ClaimedJob, int]],
        *,
        name: str,
        flagged: Collection[JobRef] = (),
    ) -> None:
        """Commit images that storage holds already, with receipts that say so.

        Args:
            lease: What they were claimed under.
            stored: Jobs, with the size of each object in bytes.
            name: Of the receipts.
            flagged: Those that a safety checker blacked out.
        """
        if not stored:
            return
        receipts = {
            item.ref: self._reused(item, size, flagged=item.ref in flagged) for item, size in stored
        }
        jobs = [item for item, _ in stored]
        self._settle(lease, name, jobs, receipts, reused=True)

    def _run(self, finished: Finished) -> None:
        try:
            self._store(finished)
        except Exception:
            # the lease runs out and the jobs are rendered again: nothing is lost
            logger.exception("batch not stored", extra={"token": finished.lease.claim.token})
        finally:
            self._metrics.whole.uncommitted.dec()
            self._keeper.let_go(finished.lease)
            self._window.release()

    def _store(self, finished: Finished) -> None:
        uploads = [
            self._uploads.submit(self._put_image, item, image)
            for item, image in zip(finished.jobs, finished.images, strict=True)
        ]
        receipts = {}
        for item, image, upload in zip(finished.jobs, finished.images, uploads, strict=True):
            stored = upload.result()
            if stored is not None:
                receipts[item.ref] = self._rendered(finished, item, image, stored)
        jobs = [item for item in finished.jobs if item.ref in receipts]
        token = finished.lease.claim.token
        name = token if finished.number == 0 else f"{token}-{finished.number}"
        if jobs:
            self._settle(finished.lease, name, jobs, receipts, reused=False)
            twins = [(twin, receipts[item.ref].bytes) for item in jobs for twin in item.twins]
            flagged = {
                twin.ref for item in jobs if receipts[item.ref].flagged for twin in item.twins
            }
            self.commit_stored(finished.lease, twins, name=f"{name}-twins", flagged=flagged)

    def _put_image(self, item: ClaimedJob, image: Rendered) -> tuple[int, float, float] | None:
        """Bytes, seconds of encoding and of uploading; None if it had to be given up."""
        started = time.perf_counter()
        body = encode_png(
            image.image,
            job=acting(item.job, self._pin).to_record(),
            digest=item.digest,
            pin=self._pin.to_record(),
            flagged=image.flagged,
        )
        encoded = time.perf_counter()
        if not self._insist(
            lambda: self._storage.put(item.key, body, content_type="image/png"), item.key
        ):
            return None
        uploaded = time.perf_counter()
        self._metrics.stage("encode", encoded - started)
        self._metrics.stage("upload", uploaded - encoded)
        return len(body), encoded - started, uploaded - encoded

    def _settle(
        self,
        lease: Lease,
        name: str,
        jobs: Sequence[ClaimedJob],
        receipts: dict[JobRef, Receipt],
        *,
        reused: bool,
    ) -> None:
        """Receipts first, then the commit: what is committed has its record."""
        started = time.perf_counter()
        by_sweep: dict[tuple[str, int], list[ClaimedJob]] = {}
        for item in jobs:
            by_sweep.setdefault((item.ref.sweep_id, item.epoch), []).append(item)
        for (sweep_id, _), items in by_sweep.items():
            body = receipt_lines(receipts[item.ref] for item in items)
            if not self._insist(partial(self._put_records, sweep_id, name, body), sweep_id):
                return
        groups = [
            CommitGroup(
                sweep_id=sweep_id,
                epoch=epoch,
                positions=tuple(item.ref.position for item in items),
                bytes=tuple(receipts[item.ref].bytes for item in items),
                reused=reused,
                flagged=tuple(item.ref.position for item in items if receipts[item.ref].flagged),
            )
            for (sweep_id, epoch), items in by_sweep.items()
        ]
        token = lease.claim.token

        def commit() -> None:
            lease.over |= self._queue.commit(token, groups).lease_over

        if self._insist(commit, token):
            self._metrics.stage("commit", time.perf_counter() - started)
            stored = 0 if reused else sum(receipt.bytes for receipt in receipts.values())
            outcome = "reused" if reused else "rendered"
            self._metrics.through(outcome, len(jobs), stored_bytes=stored)

    def _put_records(self, sweep_id: str, name: str, body: bytes) -> None:
        self._recorder.ensure(sweep_id)
        self._storage.put(receipts_key(sweep_id, name), body, content_type="application/x-ndjson")

    def _insist(self, attempt: Callable[[], object], what: str) -> bool:
        """Try until it works, the drain's grace is over, or the upload phase is.

        Credentials that are withdrawn may be given back, so refusals are retried as well.
        """
        deadline = time.monotonic() + GIVE_UP_SECONDS
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                attempt()
            except (StorageError, QueueError, InvalidSettings) as exc:
                if time.monotonic() > deadline or self._give_up.is_set():
                    logger.error("given up", extra={"what": what, "error": str(exc)})
                    return False
                self._metrics.whole.store_retries.inc()
                logger.warning(
                    "not stored yet, trying again",
                    extra={"what": what, "error": str(exc), "wait_seconds": wait},
                )
                self._give_up.wait(wait * random.uniform(0.5, 1.0))
                wait = min(2 * wait, LONGEST_WAIT_SECONDS)
            else:
                return True

    def _rendered(
        self,
        finished: Finished,
        item: ClaimedJob,
        image: Rendered,
        stored: tuple[int, float, float],
    ) -> Receipt:
        size, encode_seconds, upload_seconds = stored
        seconds = finished.seconds | {"encode": encode_seconds, "upload": upload_seconds}
        return replace(
            self._reused(item, size),
            reused=False,
            device=self._provenance.device,
            rows=image.rows,
            mates=tuple(other.digest for other in finished.jobs if other.ref != item.ref),
            forwards=image.forwards,
            seconds={stage: round(value, 4) for stage, value in seconds.items()},
            software=self._provenance.software,
            attention=self._provenance.attention,
            flagged=image.flagged,
            notes=image.notes,
        )

    def _reused(self, item: ClaimedJob, size: int, *, flagged: bool = False) -> Receipt:
        return Receipt(
            index=item.index,
            digest=item.digest,
            key=item.key,
            bytes=size,
            at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            worker=self._provenance.worker,
            reused=True,
            flagged=flagged,
        )
