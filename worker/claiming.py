"""Claims jobs and looks up which of their images storage already holds."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from shared.addressing import address
from shared.errors import InvalidInput, InvalidManifest, QueueError, StorageError, UnknownSweep
from shared.image_metadata import SIGNATURE, read_metadata
from shared.job import Job
from shared.layout import Layout
from shared.pin import Pin
from shared.queue import Claim, JobQueue, JobRef, Share
from shared.storage import Storage
from worker.blame import Blame
from worker.inputs import Inputs, InputStore
from worker.leases import Lease, LeaseKeeper
from worker.sweeps import ClaimedSweeps

BLACK_BYTES = 32 << 10
PIXELS_A_BLACK_BYTE = 64
"""A black image's PNG is no larger than its texts and a byte for so many of its pixels: 3 KB at
512 x 512, where a picture takes a hundred times that."""

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
        flagged: Those of the stored that a safety checker blacked out.
    """

    lease: Lease
    todo: tuple[ClaimedJob, ...]
    stored: tuple[tuple[ClaimedJob, int], ...]
    seconds: float
    inputs: Inputs = field(default_factory=dict)
    flagged: frozenset[JobRef] = frozenset()


class Claimer:
    """Turns claims into jobs for one loaded model.

    Args:
        checks_safety: The model has a safety checker, so that stored images may be flagged.
    """

    def __init__(
        self,
        *,
        queue: JobQueue,
        storage: Storage,
        keeper: LeaseKeeper,
        sweeps: ClaimedSweeps,
        model: str,
        pin: str,
        inputs: InputStore,
        blame: Blame,
        checks_safety: bool = False,
    ) -> None:
        self._checks_safety = checks_safety
        self._inputs = inputs
        self._blame = blame
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
            inputs = self._read_inputs(lease, todo)
            flagged = self._flagged(stored, sizes)
        except BaseException:
            self._keeper.let_go(lease)
            raise
        return Prepared(
            lease=lease,
            todo=todo,
            stored=tuple((item, sizes[item.key]) for item in stored),
            seconds=time.perf_counter() - started,
            inputs=inputs,
            flagged=flagged,
        )

    def _expand(self, claim: Claim) -> list[ClaimedJob]:
        jobs = []
        for share in claim.shares:
            try:
                layout = self._sweeps.layout(share.sweep_id)
                made = _jobs_of(layout, claim, share)
            except UnknownSweep:
                # deleted meanwhile, and its part of the lease is void; or robbed of its manifest
                self._refuse(claim, share, "manifest: there is none in Redis")
                continue
            except InvalidManifest as exc:
                self._refuse(claim, share, str(exc))
                continue
            except (QueueError, StorageError):
                raise
            except Exception as exc:
                # a stranger's data met a gap in our checks: that may cost the sweep, not the pool
                logger.exception("manifest broke its reader", extra={"sweep": share.sweep_id})
                self._refuse(claim, share, f"manifest: can't be read ({type(exc).__name__})")
                continue
            for ref, (index, job) in zip(share.refs, made, strict=True):
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

    def _refuse(self, claim: Claim, share: Share, reason: str) -> None:
        """Hand out no more of a sweep, until somebody resumes it."""
        try:
            self._queue.refuse(share.sweep_id, reason)
        except UnknownSweep:
            return
        logger.error(
            "sweep paused: its manifest can't be read",
            extra={"sweep": share.sweep_id, "error": reason},
        )
        self._queue.release(claim.token, share.refs)

    def _sizes(self, jobs: list[ClaimedJob]) -> dict[str, int]:
        """Sizes of the images that storage holds; if it does not answer, none: render them."""
        try:
            return self._storage.holding([item.key for item in jobs], first=SIGNATURE)
        except StorageError as exc:
            logger.warning("storage not asked for stored images", extra={"error": str(exc)})
            return {}

    def _read_inputs(self, lease: Lease, todo: Sequence[ClaimedJob]) -> Inputs:
        """What the jobs start from; they answer for what decoding it does to this process."""
        with self._blame.reading(lease, [item.ref for item in todo]) as decoding:
            return self._inputs.load((item.job for item in todo), decoding=decoding)

    def _flagged(self, stored: list[ClaimedJob], sizes: dict[str, int]) -> frozenset[JobRef]:
        """Those of the stored images that say that they were blacked out.

        Only images small enough to be black are read.
        """
        if not self._checks_safety:
            return frozenset()
        found = set()
        for item in stored:
            pixels = (item.job.height or self._pin.height) * (item.job.width or self._pin.width)
            most = BLACK_BYTES + pixels // PIXELS_A_BLACK_BYTE
            if item.job.safety_checker == "off" or sizes[item.key] > most:
                continue
            try:
                if read_metadata(self._storage.get(item.key)).get("flagged") is True:
                    found.add(item.ref)
            except (InvalidInput, StorageError) as exc:
                logger.warning("stored image not read", extra={"key": item.key, "error": str(exc)})
        return frozenset(found)


def _jobs_of(layout: Layout, claim: Claim, share: Share) -> list[tuple[int, Job]]:
    """Index and job of each position of a share.

    Raises:
        InvalidManifest: The queue's blocks are not those of the manifest.
    """
    made = []
    for position in share.positions:
        if not 0 <= position < layout.total:
            raise InvalidManifest(
                f"manifest: it has {layout.total:,} jobs, but position {position} is in the queue"
            )
        block = layout.block_of(position)
        if (block.model, block.lane, block.recipe) != (claim.model, claim.lane, claim.recipe):
            raise InvalidManifest(
                f"manifest: position {position} is in the queue as of another model, size or "
                "recipe than it says: delete the sweep and submit it again"
            )
        made.append((layout.index_of(position), layout.job_at(position)))
    return made


def _without_twins(jobs: list[ClaimedJob]) -> tuple[ClaimedJob, ...]:
    """One job for each image; the others that come to it ride along."""
    by_key: dict[str, list[ClaimedJob]] = {}
    for item in jobs:
        by_key.setdefault(item.key, []).append(item)
    return tuple(replace(first, twins=tuple(twins)) for first, *twins in by_key.values())
