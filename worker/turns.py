"""Which of its models a worker serves next: what is loaded, until another has waited its due."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from threading import Lock

PATIENCE = 10.0
"""A switch waits this many times its own cost, so that switching takes a tenth of the time."""

MOST_WAIT_SECONDS = 1800.0
"""However long its loading takes, a model with work gets its turn when it has waited this long."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A model with work.

    Attributes:
        model: Its key.
        switch_seconds: What it costs to serve it: loading it, and loading again what has to go
            for it; 0 where it is held.
        waiting_seconds: Since its work was first seen, or its last turn was over.
    """

    model: str
    switch_seconds: float
    waiting_seconds: float

    @property
    def due(self) -> bool:
        """It is held, or has waited long enough for what it costs."""
        bound = min(PATIENCE * self.switch_seconds, MOST_WAIT_SECONDS)
        return self.waiting_seconds >= bound


def choose(candidates: Sequence[Candidate]) -> str | None:
    """The model to serve next; None if none has work.

    Whoever waits longest of those that are due, and a held one is always due. Where nothing that
    is held has work, waiting would be idling: the cheapest switch is made at once, unless
    another one is due.
    """
    if not candidates:
        return None
    due = [item for item in candidates if item.due]
    if due:
        # one that had to wait for its cost goes before those that are held: its due is rarer
        return max(due, key=lambda item: (item.switch_seconds > 0, item.waiting_seconds)).model
    return min(candidates, key=lambda item: (item.switch_seconds, -item.waiting_seconds)).model


class Waiting:
    """Since when each model's work has been waiting in this worker."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[str, float] = {}
        self._serving: str | None = None
        self._lock = Lock()

    def saw(self, with_work: Collection[str], of: Collection[str]) -> None:
        """These of these models have work now; called from two threads."""
        with self._lock:
            now = self._clock()
            for model in of:
                if model not in with_work:
                    self._since.pop(model, None)
                elif model != self._serving:
                    self._since.setdefault(model, now)

    def begin(self, model: str) -> None:
        """Its turn begins: it waits no longer."""
        with self._lock:
            self._serving = model
            self._since.pop(model, None)

    def end(self) -> None:
        """The turn is over."""
        with self._lock:
            self._serving = None

    def seconds(self, model: str) -> float:
        """How long it has been waiting."""
        with self._lock:
            return self._clock() - self._since.get(model, self._clock())
