"""Claims jobs and looks up which of their images storage already holds."""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import dataclass, field, replace

from shared.addressing import address
from shared.errors import InvalidManifest, StorageError, UnknownSweep
from shared.image_metadata import SIGNATURE
from shared.job import Job
from shared.pin import Pin
from shared.queue import Claim, JobQueue, JobRef
from shared.storage import Storage
from worker.inputs import Inputs, InputStore
from worker.leases import Lease, LeaseKeeper
from worker.sweeps import ClaimedSweeps

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClaimedJob:
    """One job of a claim, with everything that is a function of it.

    Attributes:
        ref: Its place in the queue.
        epoch: Of its sweep, when it was claimed.
        index: The user's.
        job: What to render.
        digest: The image's identity.
        key: The object's key.
        reuse: Whether an image that storage holds will do.
        twins: Others of the claim that come to the same image (guidance off, so that their
            negative prompts don't act): committed with it, not rendered.
    """

    ref: JobRef
    epoch: int
    index: int
    job: Job
    digest: str
    key: str
    reuse: bool
    twins: tuple[ClaimedJob, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A claim, expanded and compared with storage.

    Attributes:
        lease: Held by the keeper.
        todo: To render.
        stored: In storage already: only to be committed, with the size of each.
        inputs: Images and noise that the jobs to render start from.
        seconds: What claiming and looking took.
    """

    lease: Lease
    todo: tuple[ClaimedJob, ...]
    stored: tuple[tuple[ClaimedJob, int], ...]
    seconds: float
    inputs: Inputs = field(default_factory=dict)


class Claimer:
    """Turns claims into jobs for one loaded model."""

    def __init__(
        self,
        *,
        queue: JobQueue,
        storage: Storage,
        keeper: LeaseKeeper,
        sweeps: ClaimedSweeps,
        model: str,
        pin: str,
    ) -> None:
        self._inputs = InputStore(storage)
        self._queue = queue
        self._storage = storage
        self._keeper = keeper
        self._sweeps = sweeps
        self._model = model
        self._pin_text = pin
        self._pin = Pin.from_text(pin)
        self._prefer: tuple[str, str] | None = None

    def claim(self, max_jobs: int) -> Prepared | None:
        """Take up to ``max_jobs`` jobs of one lane and recipe, or None if there are none.

        Raises:
            QueueError: The queue does not answer.
            StorageError: The sweep's rows or inputs can't be read now: the claim has been given
                back.
        """
        started = time.perf_counter()
        claim = self._queue.claim(
            token=secrets.token_hex(12),
            model=self._model,
            pin=self._pin_text,
            max_jobs=max_jobs,
            lease_seconds=self._keeper.lease_seconds,
            prefer=self._prefer,
        )
        if claim is None:
            return None
        self._prefer = (claim.lane, claim.recipe)
        lease = self._keeper.hold(claim)
        try:
            jobs = self._expand(claim)
            sizes = self._sizes([item for item in jobs if item.reuse])
            stored = [item for item in jobs if item.reuse and item.key in sizes]
            todo = _without_twins([item for item in jobs if item not in stored])
            inputs = self._inputs.load(item.job for item in todo)
        except BaseException:
            self._keeper.let_go(lease)
            raise
        return Prepared(
            lease=lease,
            todo=todo,
            stored=tuple((item, sizes[item.key]) for item in stored),
            seconds=time.perf_counter() - started,
            inputs=inputs,
        )

    def _expand(self, claim: Claim) -> list[ClaimedJob]:
        jobs = []
        for share in claim.shares:
            refs = [JobRef(share.sweep_id, position) for position in share.positions]
            try:
                layout = self._sweeps.layout(share.sweep_id)
                made = [
                    (layout.index_of(position), layout.job_at(position))
                    for position in share.positions
                ]
            except (InvalidManifest, IndexError) as exc:
                logger.error(
                    "sweep paused: its manifest can't be read",
                    extra={"sweep": share.sweep_id, "error": str(exc)},
                )
                self._queue.pause(share.sweep_id)
                self._queue.release(claim.token, refs)
                continue
            except UnknownSweep:
                continue  # deleted meanwhile: its part of the lease is void
            for ref, (index, job) in zip(refs, made, strict=True):
                place = address(job, self._pin, layout.manifest.output)
                jobs.append(
                    ClaimedJob(
                        ref=ref,
                        epoch=share.epoch,
                        index=index,
                        job=job,
                        digest=place.digest,
                        key=place.key,
                        reuse=layout.manifest.reuse,
                    )
                )
        return jobs

    def _sizes(self, jobs: list[ClaimedJob]) -> dict[str, int]:
        """Sizes of the images that storage holds; if it does not answer, none: render them."""
        try:
            return self._storage.holding([item.key for item in jobs], first=SIGNATURE)
        except StorageError as exc:
            logger.warning("storage not asked for stored images", extra={"error": str(exc)})
            return {}


def _without_twins(jobs: list[ClaimedJob]) -> tuple[ClaimedJob, ...]:
    """One job for each image; the others that come to it ride along."""
    by_key: dict[str, list[ClaimedJob]] = {}
    for item in jobs:
        by_key.setdefault(item.key, []).append(item)
    return tuple(replace(first, twins=tuple(twins)) for first, *twins in by_key.values())
