"""What it costs to have another model, as measured, and what happens when one does not fit."""

from __future__ import annotations

import gc
import time
import weakref

import pytest

pytest.importorskip("torch", reason="needs the worker's dependencies")

import torch

from shared.errors import ModelError
from worker.kept_models import Footprint, KeptModels
from worker.switching import Switching
from worker.turns import Waiting

SIZE = Footprint(weights_bytes=4, working_bytes=2)


class Weights:
    """What a loaded model holds."""


class Shop:
    """Models that take a while to load, in a memory of so many bytes."""

    def __init__(self, room: int, *, seconds: float = 0.0, most: int | None = None) -> None:
        self.room = room
        self.seconds = seconds
        self.loads: list[str] = []
        self.alive: weakref.WeakSet[Weights] = weakref.WeakSet()
        self.full_for: set[str] = set()
        self.now = 0.0
        self.switching: Switching[Weights] = Switching(
            load=self.load,
            guess=lambda model: SIZE,
            measure=lambda held: SIZE,
            kept=KeptModels(most=most, free_bytes=self.free, close=lambda held: None),
            waiting=Waiting(lambda: self.now),
        )

    def free(self) -> int:
        gc.collect()
        return self.room - 4 * len(self.alive)

    def load(self, model: str) -> Weights:
        self.loads.append(model)
        time.sleep(self.seconds)
        if model in self.full_for and len(self.alive):
            try:
                raise torch.OutOfMemoryError("full")
            except torch.OutOfMemoryError as error:
                raise ModelError(f"{model} can't be moved to cuda") from error
        weights = Weights()
        self.alive.add(weights)
        return weights


def test_with_room_for_both_each_is_loaded_once() -> None:
    shop = Shop(room=10)
    for model in "ababab":
        shop.switching.hold(model)
    assert shop.loads == ["a", "b"]


def test_with_room_for_one_the_other_is_freed_and_loaded_again() -> None:
    shop = Shop(room=6)
    for model in "abab":
        shop.switching.hold(model)
        assert len(shop.alive) == 1
    assert shop.loads == ["a", "b", "a", "b"]


def test_a_switch_costs_its_loading_and_that_of_what_has_to_go() -> None:
    shop = Shop(room=6, seconds=0.05)
    shop.switching.hold("a")
    assert shop.switching.switch_seconds("a") == 0
    assert shop.switching.switch_seconds("new") == pytest.approx(
        shop.switching.load_seconds["a"]
    ), "as long as those that were loaded"

    shop.switching.hold("b")

    took = shop.switching.load_seconds
    assert took["a"] >= 0.05
    assert shop.switching.switch_seconds("a") == pytest.approx(took["a"] + took["b"])


def test_a_model_that_the_device_has_no_room_for_is_tried_again_in_place_of_others() -> None:
    shop = Shop(room=100)
    shop.full_for = {"c"}
    for model in "abc":
        shop.switching.hold(model)

    assert shop.loads == ["a", "b", "c", "c", "c"]
    assert shop.switching.kept.keys == ("c",)


def test_one_that_does_not_fit_even_alone_is_an_error() -> None:
    shop = Shop(room=100)
    keep_alive = Weights()
    shop.alive.add(keep_alive)  # somebody else's
    shop.full_for = {"b"}
    shop.switching.hold("a")
    with pytest.raises(ModelError, match="b can't be moved"):
        shop.switching.hold("b")


def test_what_has_waited_its_due_is_chosen_before_what_is_loaded() -> None:
    shop = Shop(room=6, seconds=0.02)
    shop.switching.hold("b")
    shop.switching.hold("a")
    assert shop.switching.choose([]) is None
    assert shop.switching.choose(["b"]) == "b"
    shop.switching.waiting.saw(["a", "b"], of=["a", "b"])
    assert shop.switching.choose(["a", "b"]) == "a"

    shop.now = 10.1 * shop.switching.switch_seconds("b")

    assert shop.switching.choose(["a", "b"]) == "b"
