"""A model's capacity at each size: from memory, from a peer's measurement in Redis, or measured."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, replace
from importlib.metadata import version

from shared.canonical import canonical_json
from shared.capacity import Capacity, CapacityKey
from shared.errors import RenderError, SeedbedError
from shared.queue import JobQueue
from worker.device import hardware_name
from worker.engine import StockEngine
from worker.loading import RENDERER_VERSION, LoadedModel
from worker.probing import probe
from worker.tuning import Tuning

PACKAGES = ("torch", "diffusers")
"""Whose other versions may be quicker or larger; so may another renderer."""

logger = logging.getLogger(__name__)


class Calibrator:
    """Measures each size once, and not at all where a peer with the same of everything has."""

    def __init__(
        self,
        *,
        queue: JobQueue,
        engine: StockEngine,
        model: str,
        worker: str,
        budget_seconds: float | None = None,
    ) -> None:
        self._queue = queue
        self._engine = engine
        self._model = model
        self._worker = worker
        self._budget_seconds = budget_seconds
        self._known: dict[tuple[int, int], Capacity | None] = {}

    def knows(self, height: int, width: int) -> bool:
        """Whether this size was asked for before."""
        return (height, width) in self._known

    def capacity(self, height: int, width: int) -> Capacity | None:
        """The capacity for images of this size; None where one could not be rendered.

        Args:
            height: Pixels.
            width: Pixels.
        """
        if (height, width) not in self._known:
            key = capacity_key(self._engine.loaded, height, width)
            self._known[height, width] = self._recall(key) or self._measure(key)
        return self._known[height, width]

    def _recall(self, key: CapacityKey) -> Capacity | None:
        try:
            found = self._queue.capacity(key)
        except SeedbedError as exc:
            logger.warning("peers not asked for their measurements", extra={"error": str(exc)})
            return None
        if found is not None:
            logger.info("capacity known", extra=_facts(found) | {"measured_by": found.worker})
        return found

    def _measure(self, key: CapacityKey) -> Capacity | None:
        typical = self._engine.typical_job(self._model)
        job = replace(typical, height=key.height, width=key.width)
        started = time.perf_counter()
        try:
            found = probe(self._engine, job, budget_seconds=self._budget_seconds)
        except RenderError as exc:
            logger.warning(
                "capacity not measured, images are made one by one",
                extra={"height": key.height, "width": key.width, "error": str(exc)},
            )
            return None
        capacity = Capacity(
            key=key,
            model=self._model,
            steps=found.steps,
            memory_bytes=found.memory_bytes,
            denoise=found.denoise,
            decode=found.decode,
            worker=self._worker,
            at=time.time(),
        )
        seconds = round(time.perf_counter() - started, 2)
        logger.info("capacity measured", extra=_facts(capacity) | {"seconds": seconds})
        try:
            self._queue.record_capacity(capacity)
        except SeedbedError as exc:
            logger.warning("measurement not shared", extra={"error": str(exc)})
        return capacity


def capacity_key(loaded: LoadedModel, height: int, width: int) -> CapacityKey:
    """All that a measurement depends on."""
    software = {name: version(name) for name in PACKAGES}
    if loaded.tuning != Tuning():
        software["settings"] = canonical_json(asdict(loaded.tuning))
    return CapacityKey(
        device=hardware_name(loaded.device),
        weights=loaded.fingerprint,
        dtype=str(loaded.dtype).removeprefix("torch."),
        height=height,
        width=width,
        attention=loaded.attention,
        software=software | {"renderer": RENDERER_VERSION},
    )


def _facts(capacity: Capacity) -> dict[str, object]:
    """For the log."""
    decode = capacity.decode
    return {
        "height": capacity.key.height,
        "width": capacity.key.width,
        "rows_knee": capacity.denoise.knee,
        "rows_cap": capacity.denoise.cap,
        "images_cap": None if decode is None else decode.cap,
    }
