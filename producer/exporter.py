"""The pool's exporter: tells Prometheus and KEDA what a look at the pool has found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from producer.pool_reader import PoolLook, PoolReader
from producer.pool_view import ModelView, bounded, option
from producer.wishes import Scaling, Wish
from shared.backlog import Backlog
from shared.errors import InvalidSettings, SeedbedError
from shared.lanes import model_key
from shared.metric_families import Sample, family, new_registry
from shared.metric_table import WORKER_STATES
from shared.metrics_server import Answer, MetricsServer
from shared.version import own_version
from shared.worker_options import split_model


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
        yield family("seedbed_build_info", [((own_version(),), 1)])
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
                "workers_wanted": wish.workers(scaling),
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
                ((name,), look.wishes[name].workers(self._scaling))
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


def _find(model: str, views: Mapping[str, ModelView]) -> str:
    """The name under which a model is known; one that a stranger submitted goes by its key."""
    name, revision = split_model(model)
    if option(name, revision) in views:
        return option(name, revision)
    key = model_key(name, revision, None)
    return key if key in views else model
