"""Looks at one pool when asked, at most once a second, on behalf of all who ask."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from producer.pool_view import ModelView, model_views, served_names
from producer.wishes import Scaling, Wish, Wishes
from shared.backlog import Backlog
from shared.errors import SeedbedError
from shared.queue import JobQueue
from shared.queue_look import short_pin
from shared.scaling import model_backlogs

LOOK_SECONDS = 1.0
"""Whoever asks again within this time gets the same answer, a failure too."""

WORKERS_SECONDS = 5.0
"""Between two looks at what workers announce, which is some KB each."""

PINS_SECONDS = 3600.0
"""How long it counts what a model's workers had loaded, after the last of them has gone. Then jobs
pinned to anything else are worth another worker's look."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PoolLook:
    """What one look has found."""

    backlog: Backlog
    views: dict[str, ModelView]
    wishes: dict[str, Wish]
    redis_memory: tuple[int, int]
    seconds: float


class PoolReader:
    """Looks at one pool on behalf of all who ask."""

    def __init__(
        self,
        queue: JobQueue,
        scaling: Scaling,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._lock = Lock()
        self._looked_at = -math.inf
        self._found: PoolLook | SeedbedError | None = None
        self._workers: list[dict[str, Any]] = []
        self._workers_at = -math.inf
        self._pins = _LoadedPins()
        self._wishes = Wishes(scaling.down_seconds)

    def look(self) -> PoolLook:
        """The pool as it is, or was a second ago.

        Raises:
            SeedbedError: Redis does not answer, or is not the pool's.
        """
        with self._lock:
            if self._found is None or self._clock() - self._looked_at >= LOOK_SECONDS:
                try:
                    self._found = self._look()
                except SeedbedError as exc:
                    if self._found is not None:  # the first is told by whoever starts to look
                        logger.warning("pool not read", extra={"error": str(exc)})
                    self._found = exc
                self._looked_at = self._clock()
            if isinstance(self._found, SeedbedError):
                raise self._found
            return self._found

    def _look(self) -> PoolLook:
        started = self._clock()
        backlog = self._queue.backlog()
        self._read_workers()
        open_lanes = {(row.model, row.lane, row.recipe) for row in backlog.waiting}
        open_lanes |= {(row.model, row.lane, row.recipe) for row in backlog.held}
        rates = self._queue.seconds_per_job(sorted(open_lanes))
        tallies = self._queue.tallies()
        names = {key: name.option for key, name in self._names(backlog, tallies).items()}
        for worker in self._workers:
            names |= served_names(worker)
        pins = self._pins.note(self._clock(), self._workers, backlog)
        work = model_backlogs(backlog, rates, pins=pins)
        views = model_views(backlog, work, tallies, self._workers, names)
        return PoolLook(
            backlog=backlog,
            views=views,
            wishes=self._wishes.note(
                self._clock(), {name: view.work for name, view in views.items()}
            ),
            redis_memory=self._queue.redis_memory(),
            seconds=self._clock() - started,
        )

    def _names(self, backlog: Backlog, tallies: Mapping[str, object]) -> Mapping[str, Any]:
        return self._queue.weights(sorted({*backlog.models, *tallies}))

    def _read_workers(self) -> None:
        if self._clock() - self._workers_at >= WORKERS_SECONDS:
            self._workers = self._queue.workers()
            self._workers_at = self._clock()


class _LoadedPins:
    """What each model's workers have loaded, or had an hour ago where they are gone."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, frozenset[str]]] = {}

    def note(
        self, now: float, workers: Sequence[Mapping[str, Any]], backlog: Backlog
    ) -> dict[str, frozenset[str]]:
        """Model key to short pins, with what the workers say now."""
        announced: dict[str, set[str]] = {}
        for worker in workers:
            for served in worker.get("served", ()):
                if served.get("pin"):
                    announced.setdefault(served["key"], set()).add(short_pin(served["pin"]))
        for key, pins in announced.items():
            self._seen[key] = (now, frozenset(pins))
        for key, (seen_at, _) in list(self._seen.items()):
            if now - seen_at > PINS_SECONDS or (key not in announced and key not in backlog.models):
                del self._seen[key]
        return {key: pins for key, (_, pins) in self._seen.items()}
