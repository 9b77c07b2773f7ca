"""Keeps this worker's leases alive, phase by phase, and hears of cancelled sweeps."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from threading import Event, Lock, Thread
from typing import Literal

from shared.errors import LeaseLost, QueueError
from shared.queue import Claim, JobQueue, JobRef

Phase = Literal["queued", "gpu", "uploading"]

CANCEL_POLL_SECONDS = 2.0
"""How soon a cancelled sweep is noticed."""

logger = logging.getLogger(__name__)


class Lease:
    """One claim in hand.

    Attributes:
        claim: What was claimed.
        phase: What is being done with it; bounds how long it can be renewed.
        lost: The queue has given the jobs to others, or will; rendering on is a waste.
        over: Everything it held is committed: it has ended, and need not be renewed or released.
        cancelled: Sweeps of the claim that nobody wants any more.
    """

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.phase: Phase = "queued"
        self.lost = False
        self.over = False
        self.cancelled: frozenset[str] = frozenset()
        self.renew_at = 0.0
        self._users = 1
        self._lock = Lock()
        self._started: set[JobRef] = set()
        self._closed = False

    def start(self, refs: Iterable[JobRef]) -> bool:
        """Say that work on these jobs begins; False if they have been given back."""
        with self._lock:
            if not self._closed:
                self._started.update(refs)
            return not self._closed

    def close(self) -> list[JobRef]:
        """Begin nothing more of this claim. Returns the jobs that have not begun, once."""
        with self._lock:
            if self._closed:
                return []
            self._closed = True
            return [
                ref for share in self.claim.shares for ref in share.refs if ref not in self._started
            ]

    def share(self) -> None:
        """One more part of the worker has jobs of this lease in hand."""
        with self._lock:
            self._users += 1

    def let_go(self) -> bool:
        """One part is through with it; returns whether it was the last."""
        with self._lock:
            self._users -= 1
            return self._users == 0

    def unwanted(self, sweep_ids: Iterable[str]) -> bool:
        """Whether work on these sweeps of the claim would be for nothing."""
        return self.lost or self.cancelled.issuperset(sweep_ids)


class LeaseKeeper:
    """A thread that renews every lease three times in its life.

    Args:
        on_lost: Told of each lease that was over before its work was.
        on_turn: Told at each turn of the loop in how many seconds the next one is.
    """

    def __init__(
        self,
        queue: JobQueue,
        lease_seconds: float,
        *,
        on_lost: Callable[[], None] = lambda: None,
        on_turn: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._queue = queue
        self._on_lost = on_lost
        self._on_turn = on_turn
        self.lease_seconds = lease_seconds
        self._leases: dict[str, Lease] = {}
        self._lock = Lock()
        self._stop = Event()
        self._thread = Thread(target=self._run, name="lease-keeper", daemon=True)

    def start(self) -> None:
        """Begin renewing."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; leases run out by themselves."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def hold(self, claim: Claim) -> Lease:
        """Renew this claim from now on."""
        lease = Lease(claim)
        lease.renew_at = time.monotonic() + self.lease_seconds / 3
        with self._lock:
            self._leases[claim.token] = lease
        return lease

    def let_go(self, lease: Lease) -> None:
        """One part of the worker is through with it; after the last, what is left is released."""
        if not lease.let_go():
            return
        with self._lock:
            self._leases.pop(lease.claim.token, None)
        if lease.lost or lease.over:
            return
        try:
            self._queue.release(lease.claim.token)
        except QueueError as exc:
            logger.info("lease not released, it runs out", extra={"error": str(exc)})

    def lose(self, lease: Lease) -> None:
        """The queue says that a lease is over."""
        if not lease.lost:
            lease.lost = True
            self._on_lost()

    def give_back_unstarted(self) -> None:
        """Release what has been claimed and not begun: others need not wait for our end."""
        for lease in self.held():
            refs = lease.close()
            if lease.lost or not refs:
                continue
            try:
                self._queue.release(lease.claim.token, refs)
            except QueueError as exc:
                logger.info("jobs not released, they run out", extra={"error": str(exc)})

    def held(self) -> list[Lease]:
        """All leases in hand."""
        with self._lock:
            return list(self._leases.values())

    def _run(self) -> None:
        tick = min(CANCEL_POLL_SECONDS, self.lease_seconds / 6)
        while not self._stop.wait(tick):
            self._on_turn(tick)
            try:
                self._renew_due()
                self._poll_cancelled()
            except QueueError as exc:
                logger.warning("queue does not answer, leases not renewed", extra={"error": exc})
            except Exception:
                logger.exception("lease keeper stumbled, it goes on")

    def _renew_due(self) -> None:
        for lease in self.held():
            if lease.lost or lease.over or time.monotonic() < lease.renew_at:
                continue
            try:
                self._queue.renew(
                    lease.claim.token, lease_seconds=self.lease_seconds, phase=lease.phase
                )
            except LeaseLost:
                if lease.over:  # by a commit that was under way
                    continue
                self.lose(lease)
                logger.warning("lease lost", extra={"token": lease.claim.token})
            else:
                lease.renew_at = time.monotonic() + self.lease_seconds / 3

    def _poll_cancelled(self) -> None:
        leases = self.held()
        wanted = {(share.sweep_id, share.epoch) for item in leases for share in item.claim.shares}
        if not wanted:
            return
        live = self._queue.live(sorted(wanted))
        for lease in leases:
            lease.cancelled = frozenset(
                share.sweep_id for share in lease.claim.shares if share.sweep_id not in live
            )
