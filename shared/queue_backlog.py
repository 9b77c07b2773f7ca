"""What the pool's exporter asks of Redis: each answer is one bounded look, and writes nothing."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from shared.backlog import Backlog, Held, Tally, Waiting
from shared.pool_client import PoolClient
from shared.redis_connection import translated_errors

logger = logging.getLogger(__name__)

PAGE_BLOCKS = 1000
PAGE_LEASES = 1000
"""Of one page, which is of one moment: Redis does nothing else meanwhile, for some ms."""

MOST_PAGES = 20
"""Of one look."""

TALLIES = tuple(item.name for item in fields(Tally))


class QueueBacklog(PoolClient):
    """Open work by model, lane and recipe, and what came of the work so far."""

    def backlog(self) -> Backlog:
        """Where the open jobs are now.

        Up to PAGE_BLOCKS blocks with work and PAGE_LEASES leases, the answer is of one moment, so
        that no job is missed that moves meanwhile. Of a larger pool it is put together from pages,
        each of its own moment.
        """
        found: Backlog | None = None
        sweeps = leases = 0
        for _ in range(MOST_PAGES):
            reply = self._run("backlog", PAGE_BLOCKS, PAGE_LEASES, sweeps, leases)
            page = _read_page(reply[:7], sweeps_left=reply[8], leases_left=reply[10])
            found = page if found is None else _with_page(found, page)
            sweeps, leases = sweeps + reply[7], leases + reply[9]
            if not (page.sweeps_unread or page.leases_unread):
                break
        assert found is not None
        return found

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


def _read_page(reply: Any, *, sweeps_left: int, leases_left: int) -> Backlog:
    now, waiting, held, oldest, finalising, since, sweeps = reply
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
            for model, lane, recipe, jobs, _ in held
            if jobs > 0
        ),
        oldest={model.decode(): int(submitted) / 1e6 for model, submitted in oldest},
        finalising={model.decode(): count for model, count, _ in finalising},
        finalising_since=float(since) / 1e6 if since else None,
        sweeps=sweeps,
        sweeps_unread=sweeps_left,
        leases_unread=leases_left,
    )


def _with_page(found: Backlog, page: Backlog) -> Backlog:
    """Rows of later pages added; what every page tells is the first one's."""
    waiting = {(row.model, row.pin, row.lane, row.recipe): row for row in found.waiting}
    for row in page.waiting:
        name = (row.model, row.pin, row.lane, row.recipe)
        known = waiting.get(name)
        waiting[name] = (
            row
            if known is None
            else replace(known, jobs=known.jobs + row.jobs, cost=known.cost + row.cost)
        )
    held = {(row.model, row.lane, row.recipe): row for row in found.held}
    for part in page.held:
        lane = (part.model, part.lane, part.recipe)
        before = held.get(lane)
        held[lane] = part if before is None else replace(before, jobs=before.jobs + part.jobs)
    oldest = dict(found.oldest)
    for model, since in page.oldest.items():
        oldest[model] = min(since, oldest.get(model, since))
    return replace(
        found,
        waiting=tuple(waiting.values()),
        held=tuple(held.values()),
        oldest=oldest,
        sweeps_unread=page.sweeps_unread,
        leases_unread=page.leases_unread,
    )
