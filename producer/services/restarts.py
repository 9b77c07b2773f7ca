"""Whether a process that has ended is started again, and after which pause; pure counting."""

from __future__ import annotations

EARLY_SECONDS = 60.0
"""A process that ends sooner after its start has not really started."""

MAX_EARLY_ENDS = 4
"""Restarts, with pauses of 1, 2, 4 and 8 s, after which a service is given up."""

MAX_SERVED_ENDS = 100
"""The same of workers that had begun to serve: a job that kills its worker does it five times
before it is given up, and a sweep may have several."""


class Restarts:
    """How often each service has ended early in a row."""

    def __init__(self) -> None:
        self._early_ends: dict[str, int] = {}
        self._served_ends: dict[str, int] = {}

    def pause(
        self, name: str, *, lived_seconds: float, served: bool = False, gave_up: bool = False
    ) -> float | None:
        """Seconds until it is to be started again; None: not any more.

        Args:
            lived_seconds: From its start to its end.
            served: It had begun to serve jobs, one of which may have killed it.
            gave_up: By itself: soon after its start, the next one would do the same.
        """
        counted = self._served_ends if served else self._early_ends
        early = counted.get(name, 0) + 1 if lived_seconds < EARLY_SECONDS else 0
        counted[name] = early
        if early > (MAX_SERVED_ENDS if served else MAX_EARLY_ENDS):
            return None
        if early and gave_up and not served:
            return None
        return float(2 ** (early - 1)) if early and not served else 0.0
