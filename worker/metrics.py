"""What one worker counts and times, for Prometheus: cheap calls, from any of its threads."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.metric_families import counter, family, gauge, histogram, new_registry
from shared.metric_table import OUTCOMES, STAGES
from shared.version import own_version
from worker.health import Health

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DeviceMemory:
    """Bytes of a device's memory, as ``shared.metric_table`` has them."""

    allocated: int
    reserved: int
    free: int
    limit: int


class BusyClock:
    """Seconds that something was in use; what is in use now counts up to now."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._total = 0.0
        self._since: float | None = None

    @contextmanager
    def busy(self) -> Iterator[None]:
        """It is in use within this block; one at a time."""
        with self._lock:
            self._since = self._clock()
        try:
            yield
        finally:
            with self._lock:
                self._total += self._clock() - self._since
                self._since = None

    def seconds(self) -> float:
        """So far."""
        with self._lock:
            return self._total + (0.0 if self._since is None else self._clock() - self._since)


class WorkerMetrics:
    """Everything that one worker process counts.

    Args:
        health: Told as gauges.

    Attributes:
        registry: What /metrics tells.
        device: When it was busy.
    """

    def __init__(self, health: Health) -> None:
        self.registry = new_registry()
        self.device = BusyClock()
        self.images = counter("seedbed_worker_images_total", self.registry)
        self.image_bytes = counter("seedbed_worker_image_bytes_total", self.registry)
        self.batch_size = histogram("seedbed_worker_batch_size", self.registry)
        self.batch_slots = counter("seedbed_worker_batch_slots_total", self.registry)
        self.batch_planned = gauge("seedbed_worker_batch_planned", self.registry)
        self.stage_seconds = histogram("seedbed_worker_stage_seconds", self.registry)
        self.splits = counter("seedbed_worker_out_of_memory_splits_total", self.registry)
        self.leases_lost = counter("seedbed_worker_leases_lost_total", self.registry)
        self.uncommitted = gauge("seedbed_worker_batches_uncommitted", self.registry)
        self.store_retries = counter("seedbed_worker_store_retries_total", self.registry)
        self.draining = gauge("seedbed_worker_draining", self.registry)
        self._asked = _Asked(health, self.device)
        self.registry.register(self._asked)
        ProcessCollector(registry=self.registry)

    def describe(self, *, worker: str, device: str, memory: Callable[[], DeviceMemory]) -> None:
        """Tell who this is, and where to ask for the device's memory."""
        self._asked.info = (worker, device, own_version())
        self._asked.memory = memory

    def of(self, model: str) -> ModelMetrics:
        """What is counted by model.

        Args:
            model: By name, ``MODEL`` or ``MODEL@REVISION``.
        """
        return ModelMetrics(self, model)


class ModelMetrics:
    """What one worker counts of one model; its series are there from the start, at 0."""

    def __init__(self, whole: WorkerMetrics, model: str) -> None:
        self.whole = whole
        self._model = model
        self._splits_seen = 0
        self._splits = whole.splits.labels(model)
        self._size = whole.batch_size.labels(model)
        self._slots = whole.batch_slots.labels(model)
        self._planned = whole.batch_planned.labels(model)
        self._bytes = whole.image_bytes.labels(model)
        self._outcomes = {name: whole.images.labels(model, name) for name in OUTCOMES}
        self._stages = {name: whole.stage_seconds.labels(model, name) for name in STAGES}

    def stage(self, name: str, seconds: float) -> None:
        """One of STAGES took so long, once."""
        self._stages[name].observe(seconds)

    def plan(self, jobs: int) -> None:
        """So many are claimed at once from now on."""
        self._planned.set(jobs)

    def batch(
        self, jobs: int, *, slots: int, calls: Iterable[Mapping[str, float]], splits: int
    ) -> None:
        """A batch came off the device.

        Args:
            jobs: In it.
            slots: That it had room for.
            calls: Stage to seconds, of each call of the pipeline that it took.
            splits: Batches of this model's engine that did not fit, since it was loaded.
        """
        self._size.observe(jobs)
        self._slots.inc(slots)
        for seconds in calls:
            for name, value in seconds.items():
                self.stage(name, value)
        self._splits.inc(splits - self._splits_seen)
        self._splits_seen = splits

    def through(self, outcome: str, jobs: int, *, stored_bytes: int = 0) -> None:
        """Jobs that are dealt with, by one of OUTCOMES."""
        self._outcomes[outcome].inc(jobs)
        self._bytes.inc(stored_bytes)


class _Asked(Collector):
    """What is looked up when somebody asks."""

    def __init__(self, health: Health, device: BusyClock) -> None:
        self._health = health
        self._device = device
        self.info: tuple[str, str, str] | None = None
        self.memory: Callable[[], DeviceMemory] | None = None

    def describe(self) -> Iterator[Metric]:
        """Nothing in advance."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Gauges of this moment."""
        ready = self._health.ready_fault() is None
        yield family("seedbed_worker_ready", [((), float(ready))])
        yield family("seedbed_worker_device_busy_seconds_total", [((), self._device.seconds())])
        if self.info is not None:
            yield family("seedbed_worker_info", [(self.info, 1)])
        if self.memory is None:
            return
        try:
            memory = self.memory()
        except Exception as exc:  # noqa: BLE001 - a broken device must not hide the rest
            logger.warning("device does not tell its memory", extra={"error": str(exc)})
            return
        for name in ("allocated", "reserved", "free", "limit"):
            value = getattr(memory, name)
            yield family(f"seedbed_worker_device_memory_{name}_bytes", [((), value)])
