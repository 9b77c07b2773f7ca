"""Scales a simulated pool: asks the real exporter, decides as KEDA and the HPA do."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from producer.exporter import Exporter
from producer.pool_reader import PoolReader
from producer.wishes import Scaling
from tests.simulation.autoscaler import Activator, Autoscaler, ScaledObject
from tests.simulation.events import Steps
from tests.simulation.pool import SimulatedPool
from tests.simulation.worker import MODEL

SAMPLE_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A pool at a moment; GPUs in each state."""

    at: float
    wanted: int
    replicas: int
    ready: int
    busy: int


class Scaler:
    """Polls and syncs from a random phase on, as controllers do that know nothing of a submit."""

    def __init__(
        self, pool: SimulatedPool, settings: ScaledObject, scaling: Scaling, *, seed: int
    ) -> None:
        self.samples: list[Sample] = []
        self.changes = 0
        self._pool = pool
        self._settings = settings
        self._activator = Activator(settings)
        self._autoscaler = Autoscaler(settings)
        reader = PoolReader(pool.queue, scaling, clock=lambda: pool.loop.now)
        self._exporter = Exporter(reader, scaling)
        self._rng = Random(f"{seed} scaler")
        pool.loop.start(self._poll())
        pool.loop.start(self._sync())
        pool.loop.start(self._sample())

    def metric(self) -> int:
        """What ``/scale/MODEL`` answers now."""
        answer = self._exporter.scale(MODEL, {})
        assert answer.status == 200, answer.body
        assert isinstance(answer.body, dict)
        return int(answer.body["workers_wanted"])

    def _poll(self) -> Steps:
        yield self._rng.uniform(0, self._settings.polling_seconds)
        while True:
            now, replicas = self._pool.loop.now, self._pool.replicas
            self._set(self._activator.poll(now, self.metric(), replicas))
            yield self._settings.polling_seconds

    def _sync(self) -> Steps:
        yield self._rng.uniform(0, self._settings.sync_seconds)
        while True:
            now, replicas = self._pool.loop.now, self._pool.replicas
            if replicas > 0:
                self._set(self._autoscaler.sync(now, self.metric(), replicas))
            yield self._settings.sync_seconds

    def _set(self, replicas: int) -> None:
        if replicas != self._pool.replicas:
            self.changes += 1
            self._pool.scale_to(replicas)

    def _sample(self) -> Steps:
        while True:
            workers = self._pool.workers
            self.samples.append(
                Sample(
                    at=self._pool.loop.now,
                    wanted=self.metric(),
                    replicas=len(workers),
                    ready=sum(worker.ready for worker in workers),
                    busy=sum(worker.busy_since is not None for worker in workers),
                )
            )
            yield SAMPLE_SECONDS
