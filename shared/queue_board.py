"""What the workers of a pool tell each other and their users: who is there, what takes how long."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

from shared.capacity import Capacity, CapacityKey, read_capacity
from shared.errors import InvalidManifest
from shared.pool_client import PoolClient
from shared.queue_records import Rate
from shared.redis_connection import text_of, translated_errors
from shared.weights import WeightsName

logger = logging.getLogger(__name__)

MOST_RATES = 10_000
"""Bounds the rates kept, 150 bytes each: lanes and recipes come and go with their sweeps."""

MOST_CAPACITIES = 1000
"""Bounds the measurements kept, a few KB each: software changes, and nobody forgets the old."""


UNREADABLE = (KeyError, OverflowError, RecursionError, TypeError, ValueError)
"""What a note that nobody of ours wrote may raise."""


class WorkerBoard(PoolClient):
    """Notes in Redis that decide nothing."""

    def record_rate(
        self, model: str, lane: str, recipe: str, seconds_per_job: float, batch: int
    ) -> None:
        """Publish a measurement; beyond MOST_RATES the oldest tenth is forgotten."""
        value = json.dumps(
            {"seconds_per_job": seconds_per_job, "batch": batch, "at": round(time.time())}
        )
        with translated_errors():
            pipeline = self.client.pipeline(transaction=False)
            pipeline.hset(self.keys.rates, f"{model} {lane} {recipe}", value)
            pipeline.hlen(self.keys.rates)
            if pipeline.execute()[1] <= MOST_RATES:
                return
            rows: Any = self.client.hgetall(self.keys.rates)
            by_age = sorted(rows, key=lambda name: _recorded_at(rows[name]))
            self.client.hdel(self.keys.rates, *by_age[: len(rows) - MOST_RATES * 9 // 10])

    def rates(self) -> list[Rate]:
        """All measurements of the pool, the last for each model, lane and recipe."""
        with translated_errors():
            rows: Any = self.client.hgetall(self.keys.rates)
        found = []
        for name, value in sorted(rows.items()):
            try:
                model, lane, recipe = name.decode().split(" ")
                measured = json.loads(value)
                seconds, batch = float(measured["seconds_per_job"]), int(measured["batch"])
            except UNREADABLE:
                logger.warning("rate left out", extra={"of": text_of(name)[:100]})
                continue
            found.append(
                Rate(model=model, lane=lane, recipe=recipe, seconds_per_job=seconds, batch=batch)
            )
        return found

    def note_weights(self, names: Iterable[WeightsName]) -> None:
        """Tell workers what their keys stand for, of weights that a sweep needs."""
        texts: dict[Any, Any] = {name.key: name.to_text() for name in names}
        if texts:
            with translated_errors():
                self.client.hset(self.keys.weights, mapping=texts)

    def weights(self, keys: Sequence[str]) -> dict[str, WeightsName]:
        """What these keys stand for, as far as somebody has told it rightly."""
        if not keys:
            return {}
        with translated_errors():
            texts: Any = self.client.hmget(self.keys.weights, list(keys))
        found = {}
        for key, text in zip(keys, texts, strict=True):
            if text is None:
                continue
            try:
                name = WeightsName.from_text(text.decode(errors="replace"))
            except InvalidManifest as exc:
                logger.warning("weights not read", extra={"model": key, "error": str(exc)})
                continue
            if name.key == key:
                found[key] = name
        return found

    def record_capacity(self, capacity: Capacity) -> None:
        """Publish a measurement for peers; beyond MOST_CAPACITIES the oldest are forgotten."""
        with translated_errors():
            self.client.hset(self.keys.capacities, capacity.key.name, capacity.to_text())
            if self.client.hlen(self.keys.capacities) <= MOST_CAPACITIES:
                return
            rows: Any = self.client.hgetall(self.keys.capacities)
            found = {name: read_capacity(text) for name, text in rows.items()}
            by_age = sorted(rows, key=lambda name: item.at if (item := found[name]) else 0.0)
            self.client.hdel(self.keys.capacities, *by_age[: len(rows) - MOST_CAPACITIES])

    def capacity(self, key: CapacityKey) -> Capacity | None:
        """What a peer has measured for just this; None also where what lies there is not that."""
        with translated_errors():
            text: Any = self.client.hget(self.keys.capacities, key.name)
        found = None if text is None else read_capacity(text)
        return found if found is not None and found.key == key else None

    def capacities(self) -> list[Capacity]:
        """All measurements of the pool by model, device and size; what is not one is left out."""
        with translated_errors():
            rows: Any = self.client.hgetall(self.keys.capacities)
        found = [item for text in rows.values() if (item := read_capacity(text)) is not None]
        return sorted(
            found,
            key=lambda item: (
                item.model,
                item.key.device,
                item.key.height * item.key.width,
                item.key.height,
                -item.at,
            ),
        )

    def announce(self, worker_id: str, info: dict[str, Any], ttl_seconds: float) -> None:
        """Tell the pool about a worker; forgotten after ``ttl_seconds`` unless told again."""
        with translated_errors():
            pipeline = self.client.pipeline(transaction=False)
            pipeline.set(
                self.keys.worker(worker_id), json.dumps(info), px=max(1, int(ttl_seconds * 1000))
            )
            pipeline.sadd(self.keys.workers, worker_id)
            pipeline.execute()

    def workers(self) -> list[dict[str, Any]]:
        """What the workers that are there have announced, each with its ``id``."""
        with translated_errors():
            names: Any = self.client.smembers(self.keys.workers)
            ids = sorted(map(text_of, names))
            if not ids:
                return []
            infos = self.client.mget([self.keys.worker(worker_id) for worker_id in ids])
            left = [worker_id for worker_id, info in zip(ids, infos, strict=True) if info is None]
            if left:
                self.client.srem(self.keys.workers, *left)
        found = []
        for worker_id, info in zip(ids, infos, strict=True):
            if info is None:
                continue
            try:
                found.append({**json.loads(info), "id": worker_id})
            except UNREADABLE:
                logger.warning("worker left out", extra={"id": worker_id[:100]})
        return found


def _recorded_at(rate: bytes) -> float:
    """Seconds since 1970, by the clock of who measured it; 0 where that can't be read."""
    try:
        return float(json.loads(rate)["at"])
    except UNREADABLE:
        return 0.0
