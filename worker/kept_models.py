"""The models a worker holds: as many as memory allows, the least recently used goes first."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

LEAST_WORKING_BYTES = 256 << 20
"""What a model is thought to need beside its weights, where nothing was measured."""

Held = TypeVar("Held")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a model takes.

    Attributes:
        weights_bytes: While it is held.
        working_bytes: Beside that, while it renders; models render one at a time.
    """

    weights_bytes: int
    working_bytes: int

    @classmethod
    def guessed(cls, weights_bytes: int) -> Footprint:
        """Before anything was measured: once more its weights for what happens in between."""
        return cls(
            weights_bytes=weights_bytes, working_bytes=max(weights_bytes, LEAST_WORKING_BYTES)
        )


class KeptModels(Generic[Held]):
    """Models by key, with what each takes.

    Args:
        most: Models held at once; None leaves it to memory alone, a number overrides it.
        free_bytes: What memory has left now.
        close: Lets go of a model; whatever it holds is freed when it returns.
    """

    def __init__(
        self,
        *,
        most: int | None,
        free_bytes: Callable[[], int],
        close: Callable[[Held], None],
    ) -> None:
        self._most = most
        self._free_bytes = free_bytes
        self._close = close
        self._held: OrderedDict[str, Held] = OrderedDict()  # the last one was used last
        self._footprints: dict[str, Footprint] = {}  # of those that went, too

    def __contains__(self, model: str) -> bool:
        return model in self._held

    def __len__(self) -> int:
        return len(self._held)

    @property
    def keys(self) -> tuple[str, ...]:
        """Held now, the least recently used first."""
        return tuple(self._held)

    def get(self, model: str) -> Held | None:
        """The model, which becomes the one used last."""
        if model in self._held:
            self._held.move_to_end(model)
        return self._held.get(model)

    def footprint(self, model: str) -> Footprint | None:
        """What it takes, if it was ever held."""
        return self._footprints.get(model)

    def put(self, model: str, held: Held, footprint: Footprint) -> None:
        """Hold a model; it is the one used last."""
        self._held[model] = held
        self._footprints[model] = footprint

    def learn(self, model: str, *, working_bytes: int) -> None:
        """Replace the guess of what it needs while it renders by what was measured."""
        known = self._footprints[model]
        self._footprints[model] = Footprint(
            weights_bytes=known.weights_bytes, working_bytes=working_bytes
        )

    def going_for(self, footprint: Footprint) -> tuple[str, ...]:
        """Which models would have to go for one more, in this order."""
        going: list[str] = []
        free = None if self._most is not None else self._free_bytes()
        for model in self._held:
            if not self._too_many(len(going)) and not self._too_large(footprint, going, free):
                break
            going.append(model)
        return tuple(going)

    def make_room(self, footprint: Footprint) -> tuple[str, ...]:
        """Let models go until one more fits, or none is left; returns which went."""
        gone = []
        while self._held:
            free = None if self._most is not None else self._free_bytes()
            if not self._too_many(0) and not self._too_large(footprint, [], free):
                break
            gone.append(self.evict())
        return tuple(gone)

    def evict(self) -> str:
        """Let the least recently used model go."""
        model, held = self._held.popitem(last=False)
        logger.info("model unloaded", extra={"key": model, "kept": len(self._held)})
        self._close(held)
        return model

    def clear(self) -> None:
        """Let all go."""
        while self._held:
            self.evict()

    def _too_many(self, gone: int) -> bool:
        return self._most is not None and len(self._held) - gone >= self._most

    def _too_large(self, footprint: Footprint, gone: list[str], free: int | None) -> bool:
        """Whether the new one, and the neediest while it renders, are more than there is."""
        if free is None:
            return False
        left = [self._footprints[model] for model in self._held if model not in gone]
        freed = sum(self._footprints[model].weights_bytes for model in gone)
        working = max(item.working_bytes for item in (footprint, *left))
        return free + freed < footprint.weights_bytes + working
