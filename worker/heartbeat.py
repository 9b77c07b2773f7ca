"""A worker's own clock: says it is there, frees expired leases, rings where work was missed."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Mapping
from threading import Event, Thread

from shared.doorbell import Doorbell
from shared.errors import QueueError
from shared.queue import JobQueue
from shared.queue_look import Look

REAPED = 16
"""Expired leases looked at in one go."""
ANNOUNCED_FOR = 4.0
"""A worker that has missed this many of its beats is no longer listed."""
RING_SECONDS = 0.5
"""Claims in quick succession are answered by one ring."""
LEAVING_SECONDS = 0.001
"""The last announcement is forgotten at once."""

logger = logging.getLogger(__name__)


class Heartbeat:
    """A thread with a jittered, monotonic timer: half to one and a half times the mean.

    Args:
        discover: Told which models have work, looks for weights among them that it may load.
        pins: Keys of the models served, each with its pin, or "" where it is not known yet.
        describe: What the list of workers shall say.
        finalise: Ends sweeps that are through.
        on_work: Told which of the models have work, whenever that was looked up.
        on_turn: Told at each turn of the loop in how many seconds the next one is.
    """

    def __init__(
        self,
        *,
        queue: JobQueue,
        doorbell: Doorbell,
        discover: Callable[[Collection[str]], None],
        pins: Callable[[], Mapping[str, str]],
        worker: str,
        describe: Callable[[], dict[str, object]],
        finalise: Callable[[], int],
        mean_seconds: float,
        on_work: Callable[[Collection[str]], None] = lambda models: None,
        on_turn: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._queue = queue
        self._doorbell = doorbell
        self._discover = discover
        self._pins = pins
        self._worker = worker
        self._describe = describe
        self._finalise = finalise
        self._mean_seconds = mean_seconds
        self._on_work = on_work
        self._on_turn = on_turn
        self._stop = Event()
        self._ring = Event()
        self._news = Event()
        self._unanswered = False
        self._thread = Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Beat at once, then by the timer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop beating and take the worker off the list."""
        self._stop.set()
        self._ring.set()
        if not self._thread.is_alive():
            return
        self._thread.join(timeout=5)
        try:
            self._announce(LEAVING_SECONDS)
        except QueueError as exc:
            logger.info("worker leaves unannounced", extra={"error": str(exc)})

    def ring_soon(self, *, more: bool) -> None:
        """After a claim, wake other workers if there is more to claim; returns at once.

        A bell that was found waiting says that nobody is idle: it is not looked at again before the
        next beat, and what is claimable not either. Whoever takes it rings after its own claim.

        Args:
            more: There is, of the model that was claimed; of others only a look can tell.
        """
        if len(self._pins()) > 1 or (more and not self._unanswered):
            self._ring.set()

    def answered(self) -> None:
        """This worker has taken a bell: the next one is looked for after its first claim."""
        self._unanswered = False

    def announce_soon(self) -> None:
        """Tell the pool what has changed before the timer would; returns at once."""
        self._news.set()
        self._ring.set()

    def ring_where_claimable(self) -> None:
        """One doorbell for each served model that has work for what is loaded here."""
        self._ring_where_claimable(self._queue.look())

    def claimable(self) -> list[str]:
        """The served models that have work for what is loaded here."""
        return self._claimable(self._queue.look())

    def _claimable(self, look: Look) -> list[str]:
        models = [model for model, pin in self._pins().items() if look.claimable(model, pin)]
        self._on_work(models)
        return models

    def _ring_where_claimable(self, look: Look) -> None:
        rung = [self._doorbell.ring(model) for model in self._claimable(look)]
        self._unanswered = bool(rung) and not any(rung)

    def _announce_for_now(self) -> None:
        self._announce(ANNOUNCED_FOR * 1.5 * self._mean_seconds)

    def _announce(self, seconds: float) -> None:
        self._queue.announce(self._worker, self._describe(), ttl_seconds=seconds)

    def _run(self) -> None:
        while not self._stop.is_set():
            self._try(self._beat)
            next_beat = time.monotonic() + self._mean_seconds * random.uniform(0.5, 1.5)
            while not self._stop.is_set() and (left := next_beat - time.monotonic()) > 0:
                self._on_turn(left)
                if self._ring.wait(left):
                    self._stop.wait(RING_SECONDS)
                    self._ring.clear()
                    if self._news.is_set():
                        self._news.clear()
                        self._try(self._announce_for_now)
                    self._try(self.ring_where_claimable)

    def _beat(self) -> None:
        look = self._queue.look()
        self._discover(look.models)
        self._announce_for_now()
        if look.expired:
            self._queue.reap(REAPED)
        self._ring_where_claimable(look)
        if look.finalise_items or look.expired:  # some of the expired may have been such items
            self._finalise()

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except QueueError as exc:
            logger.warning("queue does not answer", extra={"error": str(exc)})
        except Exception:
            logger.exception("heartbeat stumbled, it goes on")
