"""Weights that sweeps ask for and nobody named at the start: found in the queue, served if allowed.

A sweep with another VAE or with LoRAs needs other weights than the checkpoint alone, so it has a
key and a pin of its own (docs/decisions/vae-and-loras.md). They may be combined without end; so a
worker does not list them when it starts, but looks which ones wait for work.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from threading import Lock

from shared.errors import ModelError, SeedbedError
from shared.queue import JobQueue
from shared.weights import AllowList, WeightsName
from worker.locating import ModelSource

REJECTED_SECONDS = 300.0
"""How long weights that could not be had are not tried again: the hub may be back by then."""
MOST_SOURCES = 1024
"""Sets of weights that one process will serve: each has a doorbell and a line in the heartbeat."""
MOST_ERRORS = 64
"""The newest reasons for weights that can't be had: each is told with every heartbeat."""
MOST_CHARACTERS = 1000
"""Of a reason."""

logger = logging.getLogger(__name__)


class Discovery:
    """Adds to the weights that a worker serves.

    Args:
        allowed: What may be loaded.
        sources: Key to weights, which grows; those that it begins with stay.
    """

    def __init__(
        self, *, queue: JobQueue, allowed: AllowList, sources: dict[str, ModelSource]
    ) -> None:
        self._queue = queue
        self._allowed = allowed
        self._sources = sources
        self._named = frozenset(sources)
        self._rejected: dict[str, float] = {}
        self._refused: set[str] = set()
        self._errors: OrderedDict[str, str] = OrderedDict()  # the last one is the newest
        self._listen: Callable[[str], None] | None = None
        self._lock = Lock()

    def listen_with(self, listen: Callable[[str], None]) -> None:
        """From now on, listen for what is found; and for what has been."""
        with self._lock:
            self._listen = listen
            found = [key for key in self._sources if key not in self._named]
        for key in found:
            listen(key)

    def look(self, with_work: Collection[str]) -> None:
        """Of the models with work, serve what is allowed and was not served yet.

        Raises:
            QueueError: The queue does not answer.
        """
        now = time.monotonic()
        unknown = [
            key
            for key in with_work
            if key not in self._sources
            and key not in self._refused
            and self._rejected.get(key, 0) <= now
        ]
        for key, name in self._queue.weights(unknown).items():
            if not self._allowed.allows(name):
                if len(self._refused) >= MOST_SOURCES:
                    self._refused.clear()
                self._refused.add(key)
                logger.info("weights not allowed here", extra={"weights": name.to_text()})
            elif len(self._sources) >= MOST_SOURCES:
                self.reject(
                    key,
                    ModelError(
                        f"its workers serve {MOST_SOURCES} sets of weights, "
                        "the most that one may: start another worker"
                    ),
                )
            else:
                self._serve(key, name)

    def reject(self, model: str, error: SeedbedError) -> bool:
        """Stop serving what could not be loaded, for a while; what was named at the start is kept.

        Returns:
            Whether it is no longer served.
        """
        if model in self._named:
            return False
        logger.error("weights can't be had", extra={"model": model, "error": str(error)})
        with self._lock:
            self._sources.pop(model, None)
            self._note(model, error)
            self._rejected[model] = time.monotonic() + REJECTED_SECONDS
        return True

    def give_up(self, model: str, error: SeedbedError) -> None:
        """Serve something no more in this process, though it was named at the start."""
        with self._lock:
            self._sources.pop(model, None)
            self._refused.add(model)
            self._note(model, error)

    @property
    def errors(self) -> dict[str, str]:
        """Why weights that were asked for are not served now: key to a sentence."""
        with self._lock:
            return {key: text for key, text in self._errors.items() if key not in self._sources}

    def _note(self, model: str, error: SeedbedError) -> None:
        self._errors[model] = str(error)[:MOST_CHARACTERS]
        self._errors.move_to_end(model)
        if len(self._errors) > MOST_ERRORS:
            self._errors.popitem(last=False)

    def _serve(self, key: str, name: WeightsName) -> None:
        logger.info("weights found", extra={"weights": name.to_text()})
        with self._lock:
            self._sources[key] = ModelSource.of(name)
            listen = self._listen
        if listen is not None:
            listen(key)
