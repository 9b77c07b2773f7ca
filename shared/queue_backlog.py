"""What the pool's exporter asks of Redis: each answer is one bounded look, and writes nothing."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from shared.backlog import UNPINNED, Backlog, Held, Tally, Waiting
from shared.pool_client import PoolClient
from shared.redis_connection import translated_errors

logger = logging.getLogger(__name__)

MOST_BLOCKS = 5000
"""Blocks of one look: some 20 ms of Redis' time."""

MOST_LEASES = 20_000
"""Leases of one look: four for each of 5,000 workers."""

TALLIES = tuple(item.name for item in fields(Tally))


class QueueBacklog(PoolClient):
    """Open work by model, lane and recipe, and what came of the work so far."""

    def backlog(self) -> Backlog:
        """Where the open jobs are now."""
        now, waiting, held, oldest, finalising, since, sweeps, unread, leases = self._run(
            "backlog", MOST_BLOCKS, MOST_LEASES
        )
        return Backlog(
            at=int(now) / 1e6,
            waiting=tuple(
                Waiting(
                    model=model.decode(),
                    pin=pin.decode(),
                    lane=lane.decode(),
                    recipe=recipe.decode(),
                    jobs=jobs,
                    cost=float(cost),
                )
                for model, pin, lane, recipe, jobs, cost in waiting
                if jobs > 0
            ),
            held=tuple(
                Held(model=model.decode(), lane=lane.decode(), recipe=recipe.decode(), jobs=jobs)
                for model, lane, recipe, jobs in held
                if jobs > 0
            ),
            oldest={model.decode(): int(submitted) / 1e6 for model, submitted in oldest},
            finalising={model.decode(): count for model, count in finalising},
            finalising_since=float(since) / 1e6 if since else None,
            sweeps=sweeps,
            sweeps_unread=unread,
            leases_unread=leases,
        )

    def seconds_per_job(
        self, of: Iterable[tuple[str, str, str]]
    ) -> dict[tuple[str, str, str], float]:
        """What workers measured of these (model, lane, recipe), as far as they did."""
        asked = list(of)
        if not asked:
            return {}
        with translated_errors():
            texts: Any = self.client.hmget(self.keys.rates, [" ".join(names) for names in asked])
        found = {}
        for names, text in zip(asked, texts, strict=True):
            if text is not None:
                try:
                    found[names] = float(json.loads(text)["seconds_per_job"])
                except (ValueError, KeyError, TypeError) as exc:
                    logger.warning("rate not read", extra={"rate": names, "error": str(exc)})
        return found

    def tallies(self) -> dict[str, Tally]:
        """Model key to what has come of its jobs since the pool began."""
        with translated_errors():
            rows: Any = self.client.hgetall(self.keys.tallies)
        counts: dict[str, dict[str, int]] = {}
        for name, count in rows.items():
            model, _, what = name.decode().partition(" ")
            if what in TALLIES:
                counts.setdefault(model, {})[what] = int(count)
        return {model: Tally(**found) for model, found in sorted(counts.items())}

    def redis_memory(self) -> tuple[int, int]:
        """Bytes that Redis uses, and its ``maxmemory`` (0 is none)."""
        with translated_errors():
            info: Any = self.client.info("memory")
        return int(info["used_memory"]), int(info.get("maxmemory", 0))


def short_pin(pin: str) -> str:
    """How the trees of turns name a pin, and so ``Waiting.pin``."""
    return hashlib.sha1(pin.encode()).hexdigest()[:16] if pin else UNPINNED
