"""A worker of several models: which one to serve next, and what to unload for it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

import torch

from shared.errors import ModelError
from worker.kept_models import Footprint, KeptModels
from worker.rescue import release_memory
from worker.turns import Candidate, Waiting, choose

Held = TypeVar("Held")


class Switching(Generic[Held]):
    """Holds loaded models, and knows what it costs to have another.

    Args:
        load: Loads a model, ready to serve.
        guess: What a model takes that was never loaded.
        measure: What a loaded one takes.
        kept: Where they are held.

    Attributes:
        waiting: Since when each model's work has been waiting.
        load_seconds: What the last loading of each took.
    """

    def __init__(
        self,
        *,
        load: Callable[[str], Held],
        guess: Callable[[str], Footprint],
        measure: Callable[[Held], Footprint],
        kept: KeptModels[Held],
        waiting: Waiting | None = None,
    ) -> None:
        self._load = load
        self._guess = guess
        self._measure = measure
        self.kept = kept
        self.waiting = waiting or Waiting()
        self.load_seconds: dict[str, float] = {}

    def choose(self, with_work: Collection[str]) -> str | None:
        """The model to serve next, of those with work; None if there are none."""
        return choose(
            [
                Candidate(
                    model=model,
                    switch_seconds=self.switch_seconds(model),
                    waiting_seconds=self.waiting.seconds(model),
                )
                for model in with_work
            ]
        )

    def switch_seconds(self, model: str) -> float:
        """Loading it, and loading again what must go for it; 0 if it is held.

        One that was never loaded is thought to take as long as those that were, in a room of its
        own.
        """
        if model in self.kept:
            return 0.0
        footprint = self.kept.footprint(model)
        going = () if footprint is None else self.kept.going_for(footprint)
        return sum(self._seconds(one) for one in (model, *going))

    def _seconds(self, model: str) -> float:
        measured = self.load_seconds
        return measured.get(model, statistics.fmean(measured.values()) if measured else 0.0)

    def hold(self, model: str) -> Held:
        """The model, loaded if it is not held, in place of others if need be.

        Raises:
            ModelError: It can't be loaded, even alone.
            InvalidSettings: A setting of the worker does not suit it.
        """
        held = self.kept.get(model)
        if held is not None:
            return held
        if self.kept.make_room(self.kept.footprint(model) or self._guess(model)):
            release_memory()
        started = time.perf_counter()
        held = self._load_alone_if_need_be(model)
        self.load_seconds[model] = time.perf_counter() - started
        self.kept.put(model, held, self._measure(held))
        return held

    def _load_alone_if_need_be(self, model: str) -> Held:
        while True:
            try:
                return self._load(model)
            except ModelError as error:
                full = isinstance(error.__cause__, torch.OutOfMemoryError)
                if not full or not len(self.kept):
                    raise
            # out of the block, whose traceback holds what was loaded so far
            self.kept.evict()
            release_memory()
