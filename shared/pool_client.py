"""A pool's keys and scripts on one connection to Redis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import redis

from shared.keys import Keys
from shared.redis_connection import connect, translated_errors
from shared.scripts import run_script, run_scripts


class PoolClient:
    """What everything that talks to a pool's Redis stands on.

    Every method raises QueueUnavailable when Redis does not serve, and QueueRefused when what
    answers can't be the pool's Redis or does not let us in.

    Args:
        client: With undecoded replies, as ``connect`` makes it.
        pool: The pool's name.
    """

    def __init__(self, client: redis.Redis, pool: str) -> None:
        self.client = client
        self.keys = Keys(pool)

    @classmethod
    def connect(cls, url: str, pool: str) -> Self:
        """Over a connection with timeouts, keepalive, health checks and retries."""
        return cls(connect(url), pool)

    def _run(self, verb: str, *arguments: Any) -> Any:
        with translated_errors():
            return run_script(self.client, verb, self.keys.base, arguments)

    def _run_all(self, verb: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        with translated_errors():
            return run_scripts(self.client, verb, self.keys.base, calls)
