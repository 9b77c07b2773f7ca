"""The pool's exporter: looks at Redis when asked, at most once a second, and answers everybody."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from producer.pool_view import ModelView, bounded, model_views, option, served_names
from shared.backlog import Backlog
from shared.errors import InvalidSettings, SeedbedError
from shared.lanes import model_key
from shared.metric_families import Sample, family, new_registry
from shared.metric_table import WORKER_STATES
from shared.metrics_server import Answer, MetricsServer
from shared.queue import JobQueue
from shared.queue_look import short_pin
from shared.scaling import RecentPeak, model_backlogs, workers_wanted
from shared.worker_options import split_model

LOOK_SECONDS = 1.0
"""Whoever asks again within this time gets the same answer, a failure too."""

WORKERS_SECONDS = 5.0
"""Between two looks at what workers announce, which is some KB each."""

PINS_SECONDS = 3600.0
"""How long it counts what a model's workers had loaded, after the last of them has gone. Then jobs
pinned to anything else are worth another worker's look."""

MOST_TARGET_SECONDS = 86_400.0 * 7
MOST_WORKERS = 100_000
"""Bounds of what may be asked for: beyond them somebody meant something else."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How many workers are wanted for a backlog.

    Attributes:
        target_seconds: Of work for each worker. Several cold starts long, or GPUs load models for
            longer than they render. As the backlog shrinks, so do the workers: a sweep alone takes
            more than this.
        max_workers: Never more, for one model.
        down_seconds: A smaller number is told when the backlog has been smaller for so long.
    """

    target_seconds: float = 300.0
    max_workers: int = 100
    down_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what cannot be right, naming the option."""
        if not 0 < self.target_seconds <= MOST_TARGET_SECONDS:
            raise InvalidSettings(
                f"target_seconds {self.target_seconds:g} is not above 0 and at most a week"
            )
        if not 0 <= self.max_workers <= MOST_WORKERS:
            raise InvalidSettings(f"max_workers {self.max_workers} is not from 0 to {MOST_WORKERS}")
        if not 0 <= self.down_seconds <= MOST_TARGET_SECONDS:
            raise InvalidSettings(f"down_seconds {self.down_seconds:g} is not from 0 to a week")


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A model's backlog as scaling sees it: the most within the last ``down_seconds``."""

    seconds: float = 0.0
    jobs: int = 0


@dataclass(frozen=True, kw_only=True)
class PoolLook:
    """What one look has found."""

    backlog: Backlog
    views: dict[str, ModelView]
    wishes: dict[str, Wish]
    redis_memory: tuple[int, int]
    seconds: float


@dataclass
class _Peaks:
    seconds: RecentPeak
    jobs: RecentPeak


@dataclass
class _Pins:
    seen_at: float
    pins: frozenset[str] = field(default_factory=frozenset)


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
        self._scaling = scaling
        self._clock = clock
        self._lock = Lock()
        self._looked_at = -math.inf
        self._found: PoolLook | SeedbedError | None = None
        self._workers: list[dict[str, Any]] = []
        self._workers_at = -math.inf
        self._pins: dict[str, _Pins] = {}
        self._peaks: dict[str, _Peaks] = {}

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
        pins = {key: known.pins for key, known in self._known_pins(backlog).items()}
        work = model_backlogs(backlog, rates, pins=pins)
        views = model_views(backlog, work, tallies, self._workers, names)
        return PoolLook(
            backlog=backlog,
            views=views,
            wishes=self._wishes(views),
            redis_memory=self._queue.redis_memory(),
            seconds=self._clock() - started,
        )

    def _names(self, backlog: Backlog, tallies: Mapping[str, object]) -> Mapping[str, Any]:
        return self._queue.weights(sorted({*backlog.models, *tallies}))

    def _read_workers(self) -> None:
        if self._clock() - self._workers_at >= WORKERS_SECONDS:
            self._workers = self._queue.workers()
            self._workers_at = self._clock()

    def _known_pins(self, backlog: Backlog) -> Mapping[str, _Pins]:
        """What workers have loaded, or had an hour ago where they are gone."""
        now = self._clock()
        announced: dict[str, set[str]] = {}
        for worker in self._workers:
            for served in worker.get("served", ()):
                if served.get("pin"):
                    announced.setdefault(served["key"], set()).add(short_pin(served["pin"]))
        for key, pins in announced.items():
            self._pins[key] = _Pins(now, frozenset(pins))
        for key, known in list(self._pins.items()):
            if now - known.seen_at > PINS_SECONDS or (
                key not in announced and key not in backlog.models
            ):
                del self._pins[key]
        return self._pins

    def _wishes(self, views: Mapping[str, ModelView]) -> dict[str, Wish]:
        now, found = self._clock(), {}
        for name in {*views, *self._peaks}:
            work = views.get(name, ModelView()).work
            if name not in self._peaks:
                window = self._scaling.down_seconds
                self._peaks[name] = _Peaks(RecentPeak(window), RecentPeak(window))
            peaks = self._peaks[name]
            wish = Wish(
                seconds=peaks.seconds.add(now, work.seconds),
                jobs=int(peaks.jobs.add(now, work.jobs)),
            )
            if wish.jobs or name in views:
                found[name] = wish
            else:
                del self._peaks[name]
        return found


class Exporter(Collector):
    """Answers Prometheus and KEDA for one pool."""

    def __init__(self, reader: PoolReader, scaling: Scaling) -> None:
        self._reader = reader
        self._scaling = scaling

    def serve(self, host: str, port: int) -> MetricsServer:
        """Listen; the server tells on which port.

        Raises:
            InvalidSettings: It can't.
        """
        registry: CollectorRegistry = new_registry()
        registry.register(self)
        return MetricsServer(
            host=host,
            port=port,
            registry=registry,
            healthy=lambda: None,
            ready=self._fault,
            routes={"/scale/": self.scale},
        )

    def describe(self) -> Iterator[Metric]:
        """Nothing in advance: registering must not look at the pool."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """All families; those of the pool are left out while Redis does not answer."""
        yield family("seedbed_build_info", [((_version(),), 1)])
        try:
            look = self._reader.look()
        except SeedbedError:
            yield family("seedbed_pool_up", [((), 0)])
            return
        yield family("seedbed_pool_up", [((), 1)])
        yield family("seedbed_pool_read_seconds", [((), look.seconds)])
        yield from self._of_models(look)
        yield from _of_pool(look)

    def scale(self, model: str, query: Mapping[str, str]) -> Answer:
        """What KEDA asks: how many workers for this model, by name."""
        if not model:
            return Answer(status=HTTPStatus.NOT_FOUND, body="write /scale/MODEL\n")
        try:
            scaling = self._asked(query)
        except InvalidSettings as exc:
            return Answer(status=HTTPStatus.BAD_REQUEST, body=f"{exc}\n")
        try:
            look = self._reader.look()
        except SeedbedError as exc:
            return Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, body=f"{exc}\n")
        name = _find(model, look.views)
        view, wish = look.views.get(name, ModelView()), look.wishes.get(name, Wish())
        return Answer(
            body={
                "model": model,
                "known": name in look.views,
                "workers_wanted": _wanted(wish, scaling),
                "backlog_seconds": round(view.work.seconds, 3),
                "job_seconds": round(view.work.job_seconds, 6),
                "pending": view.work.pending,
                "leased": view.work.leased,
                "stranded": view.work.stranded,
                "finalising": view.work.finalising,
                "workers": view.workers.get("serving", 0),
                "target_seconds": scaling.target_seconds,
                "max_workers": scaling.max_workers,
            }
        )

    def _fault(self) -> str | None:
        try:
            self._reader.look()
        except SeedbedError as exc:
            return str(exc)
        return None

    def _asked(self, query: Mapping[str, str]) -> Scaling:
        """Our own scaling, with what the question says instead.

        Raises:
            InvalidSettings: That can't be.
        """
        unknown = sorted(set(query) - {"target_seconds", "max_workers"})
        if unknown:
            raise InvalidSettings(
                f"{unknown[0]} is not known: ask with target_seconds, max_workers"
            )
        try:
            target = float(query.get("target_seconds", self._scaling.target_seconds))
            most = int(query.get("max_workers", self._scaling.max_workers))
        except ValueError as exc:
            raise InvalidSettings(f"target_seconds and max_workers are numbers: {exc}") from exc
        return Scaling(target_seconds=target, max_workers=most)

    def _of_models(self, look: PoolLook) -> Iterator[Metric]:
        views = bounded(look.views)

        def by_model(value: Callable[[str, ModelView], float]) -> list[Sample]:
            return [((name,), value(name, view)) for name, view in views.items()]

        for state in ("pending", "leased"):
            yield family(
                f"seedbed_jobs_{state}",
                [
                    ((name, lane), getattr(row, state))
                    for name, view in views.items()
                    for lane, row in view.work.lanes.items()
                ],
            )
        yield family("seedbed_jobs_stranded", by_model(lambda _, v: v.work.stranded))
        yield family("seedbed_jobs_done_total", by_model(lambda _, v: v.tally.done))
        yield family("seedbed_jobs_reused_total", by_model(lambda _, v: v.tally.reused))
        yield family("seedbed_jobs_dead_total", by_model(lambda _, v: v.tally.dead))
        yield family("seedbed_lease_expiries_total", by_model(lambda _, v: v.tally.expired))
        yield family("seedbed_job_seconds", by_model(lambda _, v: v.work.job_seconds))
        yield family("seedbed_backlog_seconds", by_model(lambda _, v: v.work.seconds))
        yield family(
            "seedbed_workers_wanted",
            [
                ((name,), _wanted(look.wishes[name], self._scaling))
                for name in views
                if name in look.wishes
            ],
        )
        yield family(
            "seedbed_workers",
            [
                ((name, state), view.workers.get(state, 0))
                for name, view in views.items()
                for state in WORKER_STATES
            ],
        )
        yield family(
            "seedbed_oldest_pending_age_seconds",
            by_model(lambda _, view: _age(look.backlog, view.oldest_at)),
        )


def _of_pool(look: PoolLook) -> Iterator[Metric]:
    backlog, (used, limit) = look.backlog, look.redis_memory
    values = {
        "seedbed_sweeps": backlog.sweeps,
        "seedbed_sweeps_finalising": sum(backlog.finalising.values()),
        "seedbed_oldest_finalising_age_seconds": _age(backlog, backlog.finalising_since),
        "seedbed_sweeps_unread": backlog.sweeps_unread,
        "seedbed_redis_memory_used_bytes": used,
        "seedbed_redis_memory_limit_bytes": limit,
    }
    for name, value in values.items():
        yield family(name, [((), value)])


def _age(backlog: Backlog, since: float | None) -> float:
    return 0.0 if since is None else max(0.0, backlog.at - since)


def _wanted(wish: Wish, scaling: Scaling) -> int:
    return workers_wanted(
        wish.seconds,
        wish.jobs,
        target_seconds=scaling.target_seconds,
        max_workers=scaling.max_workers,
    )


def _find(model: str, views: Mapping[str, ModelView]) -> str:
    """The name under which a model is known; one that a stranger submitted goes by its key."""
    name, revision = split_model(model)
    if option(name, revision) in views:
        return option(name, revision)
    key = model_key(name, revision, None)
    return key if key in views else model


def _version() -> str:
    try:
        return version("seedbed")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"
