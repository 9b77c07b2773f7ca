"""Whether a worker is alive and ready, for whoever restarts workers or sends them work."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

STUCK_SECONDS = 600.0
"""A loop that is so much later than it meant to be does not turn any more. Long, since a Redis or
S3 that is away makes every call of a turn wait, and a restart would not bring it back."""


class Health:
    """What the worker's parts say of themselves; asked from other threads.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._due: dict[str, float] = {}
        self._waiting_for: str | None = "starting"

    def turned(self, loop: str, *, within: float) -> None:
        """A loop turns, and means to turn again within so many seconds."""
        with self._lock:
            self._due[loop] = self._clock() + within

    def wait_for(self, what: str) -> None:
        """It takes no work, for this reason."""
        self._waiting_for = what

    def be_ready(self) -> None:
        """It has a pipeline loaded, and listens."""
        self._waiting_for = None

    def alive_fault(self) -> str | None:
        """Which loop is stuck, if one is."""
        with self._lock:
            late = {loop: self._clock() - due for loop, due in self._due.items()}
        for loop, seconds in sorted(late.items()):
            if seconds > STUCK_SECONDS:
                return f"the {loop} has not turned for {seconds:.0f} s longer than it meant to"
        return None

    def ready_fault(self) -> str | None:
        """Why it takes no work, if so."""
        return self._waiting_for
