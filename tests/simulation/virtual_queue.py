"""The real queue on a real Redis, told what time it is.

Every script learns the time from one function of lib_keys.lua. Here that function answers with
the last argument of the call, which is the simulation's clock. And where Redis draws by lot which
of the jobs that were given back a claim takes, here it takes those with the lowest positions, so
that a seed gives the same run again. Everything else of the scripts, of ``JobQueue`` and of Redis
is as it is shipped. What Redis itself times in seconds of the wall stays real: the ten minutes
for which an ended token is remembered, and how long a worker's announcement lives. So
announcements are made to outlast the run, and the simulation takes them back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import redis

from shared.queue import JobQueue
from shared.redis_connection import translated_errors
from shared.scripts import Script, load_script

NOW = """local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end"""
"""As lib_keys.lua has it; a test says when it no longer does."""

VIRTUAL_NOW = """local function now_us()
  return VIRTUAL_NOW
end"""

PROLOGUE = """local VIRTUAL_NOW = tonumber(table.remove(ARGV))
local function virtual_pop(set, count)
  local members = redis.call('SORT', set, 'LIMIT', 0, count)
  redis.call('SREM', set, unpack(members))
  return members
end
"""

DRAWS = {
    "redis.call('SPOP', retry, again)": "virtual_pop(retry, again)",
    "redis.call('SPOP', solo)": "virtual_pop(solo, 1)[1]",
}
"""What claim.lua draws by lot, and what takes its place."""

START = 1_800_000_000.0
"""Seconds since 1970 at virtual time 0: the same in every run."""

FOREVER_SECONDS = 86_400.0


@cache
def virtual_script(verb: str) -> Script:
    """The script of a verb that takes the time as its last argument."""
    source = load_script(verb).source
    if "now_us" in source and source.count(NOW) != 1:
        raise AssertionError(f"{verb}.lua does not hold now_us() as it is known here")
    source = PROLOGUE + source.replace(NOW, VIRTUAL_NOW)
    for draw, choice in DRAWS.items():
        if verb == "claim" and source.count(draw) != 1:
            raise AssertionError(f"claim.lua does not draw jobs by {draw}")
        source = source.replace(draw, choice)
    return Script(source=source, sha=hashlib.sha1(source.encode()).hexdigest())


class VirtualQueue(JobQueue):
    """A pool's queue in virtual time.

    Args:
        clock: Virtual seconds.
    """

    def __init__(self, client: redis.Redis, pool: str, clock: Callable[[], float]) -> None:
        super().__init__(client, pool)
        self._clock = clock

    def announce(self, worker_id: str, info: dict[str, Any], ttl_seconds: float) -> None:
        """As it is, but for as long as nobody takes it back with a short life."""
        super().announce(worker_id, info, FOREVER_SECONDS if ttl_seconds >= 1 else ttl_seconds)

    def withdraw(self, worker_id: str) -> None:
        """What the end of an announcement's life does."""
        self.client.delete(self.keys.worker(worker_id))

    def _now_us(self) -> int:
        return round((START + self._clock()) * 1e6)

    def _run(self, verb: str, *arguments: Any) -> Any:
        script = virtual_script(verb)
        with translated_errors():
            try:
                return self.client.evalsha(
                    script.sha, 1, self.keys.base, *arguments, self._now_us()
                )
            except redis.exceptions.NoScriptError:
                return self.client.eval(
                    script.source, 1, self.keys.base, *arguments, self._now_us()
                )

    def _run_all(self, verb: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        return [self._run(verb, *arguments) for arguments in calls]
