"""Says which jobs answer for this process while it does what may kill or hang it for their sake.

That is rendering them, measuring how many fit together, and decoding the files they start from.
Everything else that is done with a job is done for all jobs alike, and no job answers for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from threading import Event

from shared.errors import LeaseLost, QueueError
from shared.queue import JobQueue, JobRef
from worker.leases import Lease
from worker.watchdog import Watchdog

RETRY_SECONDS = 1.0
"""Between looks at a queue that does not answer."""

logger = logging.getLogger(__name__)


class Blame:
    """Reports to the queue, on one connection as a rule, on another before the process ends.

    Args:
        last_words_queue: A connection that is free when the other hangs.
        draining: Once set, a queue that does not answer is not waited for.
        worker: Who is named as having died.
    """

    def __init__(
        self,
        *,
        queue: JobQueue,
        last_words_queue: JobQueue,
        watchdog: Watchdog,
        draining: Event,
        worker: str,
    ) -> None:
        self._queue = queue
        self._last_words_queue = last_words_queue
        self._watchdog = watchdog
        self._draining = draining
        self._worker = worker

    def begin(self, lease: Lease, refs: Sequence[JobRef]) -> None:
        """From now on these jobs answer for the process, and no others of their lease.

        Raises:
            LeaseLost: It is over, or can't be asked for any more.
        """
        lease.phase = "gpu"  # before the queue hears of it: a renewal must not take it back
        bound = self._watchdog.bound_seconds  # so that the last words are still the lease's
        token = lease.claim.token
        while True:
            try:
                self._queue.begin(token, refs, gpu_seconds=bound, worker=self._worker)
            except LeaseLost:
                raise
            except QueueError as exc:
                logger.warning("begin not recorded, trying again", extra={"error": str(exc)})
                if self._draining.wait(RETRY_SECONDS):
                    raise LeaseLost(token) from exc
            else:
                return

    def on_gpu(self, lease: Lease, refs: Sequence[JobRef]) -> AbstractContextManager[None]:
        """A block for what was begun: if it takes too long, the jobs are reported and we end."""
        return self._watchdog.watch(lambda: self._last_words(lease, refs, "on the GPU"))

    @contextmanager
    def reading(
        self, lease: Lease, refs: Sequence[JobRef]
    ) -> Iterator[Callable[[], AbstractContextManager[None]]]:
        """A block that reads the jobs' files.

        Yields:
            Makes a block for each decoding, from any thread. From the first of them to the end of
            the outer block these jobs answer for the process; what is fetched only, does not count.
        """
        begin = cache(lambda: self.begin(lease, refs))

        @contextmanager
        def decoding() -> Iterator[None]:
            begin()
            with self._watchdog.limit(lambda: self._last_words(lease, refs, "while being read")):
                yield

        yield decoding
        if begin.cache_info().currsize:
            self._nobody(lease)

    def _nobody(self, lease: Lease) -> None:
        """What waits for the GPU does not answer for what happens on it."""
        lease.phase = "queued"
        try:
            self._queue.begin(
                lease.claim.token,
                (),
                gpu_seconds=self._watchdog.bound_seconds,
                worker=self._worker,
            )
        except QueueError as exc:  # at worst it is charged with what its worker dies of
            logger.info("end of reading not recorded", extra={"error": str(exc)})

    def _last_words(self, lease: Lease, refs: Sequence[JobRef], doing: str) -> None:
        """What the watchdog has said of the jobs before it ends the process."""
        reason = f"exceeded {self._watchdog.seconds:g} s {doing}"
        for ref in refs:
            try:
                self._last_words_queue.fail(
                    lease.claim.token, ref, reason=reason, worker=self._worker, permanent=False
                )
            except QueueError as exc:  # the next one may be reported all the same
                logger.warning("failure not reported", extra={"error": str(exc)})
