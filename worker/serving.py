"""The serving loop: claim ahead, render, hand over to storage, until nothing is claimable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from shared.errors import (
    Cancelled,
    LeaseLost,
    NonFiniteImage,
    QueueError,
    RenderError,
    StorageError,
    UnsupportedJob,
)
from shared.queue import Claim, JobQueue, JobRef
from worker.batch_sizes import BatchSizes
from worker.claiming import ClaimedJob, Claimer, Prepared
from worker.engine import Rendered, StockEngine
from worker.inputs import Inputs
from worker.leases import Lease, LeaseKeeper
from worker.metrics import ModelMetrics
from worker.packer import pack
from worker.storing import Finished, Storer
from worker.watchdog import Watchdog

RETRY_SECONDS = 1.0
"""Between looks at a queue that does not answer."""

RATE_SECONDS = 10.0
"""How long the pool is not told again what a lane and recipe takes, unless that has changed ..."""
RATE_CHANGE = 0.1
"""... by more than this share."""

logger = logging.getLogger(__name__)


class Server:
    """Serves one loaded model."""

    def __init__(
        self,
        *,
        queue: JobQueue,
        last_words_queue: JobQueue,
        engine: StockEngine,
        claimer: Claimer,
        storer: Storer,
        keeper: LeaseKeeper,
        watchdog: Watchdog,
        draining: Event,
        grace_over: Event,
        worker: str,
        model: str,
        batches: BatchSizes,
        on_claim: Callable[[Claim], None],
        metrics: ModelMetrics,
    ) -> None:
        self._queue = queue
        self._last_words_queue = last_words_queue
        self._engine = engine
        self._claimer = claimer
        self._storer = storer
        self._keeper = keeper
        self._watchdog = watchdog
        self._draining = draining
        self._grace_over = grace_over
        self._worker = worker
        self._model = model
        self._batches = batches
        self._on_claim = on_claim
        self._metrics = metrics
        self._told: tuple[str, str, float, float] | None = None
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="claimer")

    def serve(self, budget_seconds: float, *, lane_seconds: float = 0.0) -> int:
        """Claim and render until nothing is claimable, a drain, or the end of the budget.

        Args:
            budget_seconds: How long to claim.
            lane_seconds: How much longer, while the claims are of the lane in hand.

        Returns:
            How many images were rendered.
        """
        deadline = time.monotonic() + budget_seconds
        lane: str | None = None
        rendered = 0
        ahead: Future[Prepared | None] | None = self._claim_ahead()
        try:
            while ahead is not None:
                prepared = ahead.result()
                ahead = None
                if prepared is None:
                    break
                over = time.monotonic() >= deadline
                other_lane = lane not in (None, prepared.lease.claim.lane)
                if self._draining.is_set() or (over and lane_seconds > 0 and other_lane):
                    self._keeper.let_go(prepared.lease)
                    break
                lane = prepared.lease.claim.lane
                # Beside a suspect nothing is held that would wait for its lease if it kills us.
                solo = prepared.lease.claim.solo
                if solo:
                    self._storer.flush()
                elif time.monotonic() < deadline + lane_seconds:
                    ahead = self._claim_ahead()
                self._on_claim(prepared.lease.claim)
                rendered += self._work(prepared)
                if solo and time.monotonic() < deadline + lane_seconds:
                    ahead = self._claim_ahead()
        finally:
            if ahead is not None and (extra := ahead.result()) is not None:
                self._keeper.let_go(extra.lease)
            self._storer.flush()
        return rendered

    def close(self) -> None:
        """End the claiming thread."""
        self._ahead.shutdown()

    def _claim_ahead(self) -> Future[Prepared | None]:
        return self._ahead.submit(self._claim)

    def _claim(self) -> Prepared | None:
        self._storer.wait_for_room()  # storage that is down stops the claiming
        while not self._draining.is_set():
            try:
                prepared = self._claimer.claim(self._batches.current)
                if prepared is not None and self._draining.is_set():
                    self._keeper.let_go(prepared.lease)
                    return None
                return prepared
            except (QueueError, StorageError) as exc:
                logger.warning("nothing claimed, trying again", extra={"error": str(exc)})
                self._draining.wait(RETRY_SECONDS)
        return None

    def _work(self, prepared: Prepared) -> int:
        """Render a claim; every job of it ends committed, failed or given back."""
        lease = prepared.lease
        rendered = 0
        try:
            self._metrics.stage("claim", prepared.seconds)
            name = f"{lease.claim.token}-reused"
            self._storer.commit_stored(lease, prepared.stored, name=name, flagged=prepared.flagged)
            max_rows = 1 if lease.claim.solo else self._batch_size(lease, prepared.todo)
            batches = pack(
                [item.job for item in prepared.todo],
                traits=self._engine.traits,
                max_rows=max_rows,
            )
            for number, rows in enumerate(batches):
                items = [prepared.todo[row] for row in rows]
                started = time.perf_counter()
                outcomes = self._render(lease, items, prepared.inputs)
                if outcomes is None:
                    break
                self._count(outcomes, slots=max_rows)
                seconds = {"claim": prepared.seconds}
                good = self._sort_out(lease, items, outcomes)
                self._off_gpu(lease)
                if good:
                    seconds |= good[0][1].seconds
                    self._record_rate(lease, (time.perf_counter() - started) / len(items), items)
                    rendered += len(good)
                    self._storer.store(
                        Finished(
                            lease=lease,
                            number=number,
                            jobs=[item for item, _ in good],
                            images=[image for _, image in good],
                            seconds=seconds,
                        )
                    )
        finally:
            self._keeper.let_go(lease)
        return rendered

    def _batch_size(self, lease: Lease, todo: Sequence[ClaimedJob]) -> int:
        """For jobs of one lane; a size that nobody has met yet is measured now."""
        if not todo:
            return 1
        job = todo[0].job
        if self._batches.knows(job):
            return self._batches.size(job)
        # A size that kills the worker is found out as a job that does: alone, nothing is measured.
        refs = [item.ref for item in todo]
        try:
            self._begin(lease, refs)
        except LeaseLost:
            lease.lost = True
            return 1
        with self._watchdog.watch(lambda: self._last_words(lease, refs)):
            return self._batches.size(job)

    def _render(
        self, lease: Lease, items: Sequence[ClaimedJob], inputs: Inputs
    ) -> list[Rendered | RenderError] | None:
        """Run one batch on the GPU, or None if the lease is over."""
        refs = [item.ref for item in items]
        sweeps = {ref.sweep_id for ref in refs}
        started = [*refs, *(twin.ref for item in items for twin in item.twins)]
        if lease.unwanted(sweeps) or self._draining.is_set() or not lease.start(started):
            return None
        try:
            self._begin(lease, refs)
        except LeaseLost:
            self._keeper.lose(lease)
            return None
        with (
            self._watchdog.watch(lambda: self._last_words(lease, refs)),
            self._metrics.whole.device.busy(),
        ):
            return self._engine.render(
                [item.job for item in items],
                cancelled=lambda: lease.unwanted(sweeps) or self._grace_over.is_set(),
                inputs=inputs,
            )

    def _count(self, outcomes: Sequence[Rendered | RenderError], *, slots: int) -> None:
        images = [outcome for outcome in outcomes if isinstance(outcome, Rendered)]
        self._metrics.batch(
            len(outcomes),
            slots=slots,
            # images of one call share one mapping
            calls={id(image.seconds): image.seconds for image in images}.values(),
            splits=self._engine.splits,
        )
        self._metrics.plan(self._batches.current)

    def _last_words(self, lease: Lease, refs: Sequence[JobRef]) -> None:
        """What the watchdog has said of the jobs on the GPU before it ends the process."""
        reason = f"exceeded {self._watchdog.seconds:g} s on the GPU"
        for ref in refs:
            try:
                self._last_words_queue.fail(
                    lease.claim.token, ref, reason=reason, worker=self._worker, permanent=False
                )
            except QueueError as exc:  # the next one may be reported all the same
                logger.warning("failure not reported", extra={"error": str(exc)})

    def _begin(self, lease: Lease, refs: Sequence[JobRef]) -> None:
        lease.phase = "gpu"  # before the queue hears of it: a renewal must not take it back
        bound = self._watchdog.bound_seconds  # so that the last words are still the lease's
        while True:
            try:
                self._queue.begin(lease.claim.token, refs, gpu_seconds=bound, worker=self._worker)
            except LeaseLost:
                raise
            except QueueError as exc:
                logger.warning("begin not recorded, trying again", extra={"error": str(exc)})
                if self._draining.wait(RETRY_SECONDS):
                    raise LeaseLost(lease.claim.token) from exc
            else:
                return

    def _off_gpu(self, lease: Lease) -> None:
        """Say that what was begun is over: no job is charged with what comes after its render."""
        lease.phase = "uploading"
        seconds = self._keeper.lease_seconds
        try:
            self._queue.renew(lease.claim.token, lease_seconds=seconds, phase="uploading")
        except QueueError as exc:  # it holds nothing any more, or the next renewal says it
            logger.debug("end of the render not recorded", extra={"error": str(exc)})

    def _sort_out(
        self,
        lease: Lease,
        items: Sequence[ClaimedJob],
        outcomes: Sequence[Rendered | RenderError],
    ) -> list[tuple[ClaimedJob, Rendered]]:
        """Images to store; the errors are reported, each against its own job."""
        good: list[tuple[ClaimedJob, Rendered]] = []
        for item, outcome in zip(items, outcomes, strict=True):
            if isinstance(outcome, Rendered):
                good.append((item, outcome))
            elif not isinstance(outcome, Cancelled):
                self._fail(lease, item, outcome)
        return good

    def _fail(self, lease: Lease, item: ClaimedJob, error: RenderError) -> None:
        logger.warning(
            "job failed",
            extra={"sweep": item.ref.sweep_id, "index": item.index, "error": str(error)},
        )
        self._metrics.through("failed", 1)
        try:
            self._queue.fail(
                lease.claim.token,
                item.ref,
                reason=str(error) or type(error).__name__,
                worker=self._worker,
                permanent=isinstance(error, NonFiniteImage | UnsupportedJob),
            )
        except QueueError as exc:
            # its lease is given back or runs out: it is tried again, and this one is not charged
            logger.warning("failure not reported", extra={"error": str(exc)})

    def _record_rate(self, lease: Lease, seconds: float, items: Sequence[ClaimedJob]) -> None:
        claim = lease.claim
        now = time.monotonic()
        match self._told:
            case (claim.lane, claim.recipe, at, told) if (
                now < at + RATE_SECONDS and abs(seconds - told) <= RATE_CHANGE * told
            ):
                return
        try:
            self._queue.record_rate(
                self._model,
                claim.lane,
                claim.recipe,
                seconds_per_job=seconds,
                batch=len(items),
            )
        except QueueError as exc:
            logger.debug("rate not recorded", extra={"error": str(exc)})
        else:
            self._told = (claim.lane, claim.recipe, now, seconds)
