"""As many models are held as memory allows; the least recently used one goes first."""

from __future__ import annotations

import pytest

from worker.kept_models import LEAST_WORKING_BYTES, Footprint, KeptModels

GB = 10**9


class Memory:
    """A device of so many bytes, of which each held model takes its weights."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken: dict[str, int] = {}

    def free(self) -> int:
        return self.total - sum(self.taken.values())

    def keep(self, most: int | None = None) -> KeptModels[str]:
        return KeptModels(most=most, free_bytes=self.free, close=lambda name: self.taken.pop(name))

    def load(self, kept: KeptModels[str], name: str, size: Footprint) -> tuple[str, ...]:
        gone = kept.make_room(size)
        self.taken[name] = size.weights_bytes
        kept.put(name, name, size)
        return gone


def size(weights: float, working: float) -> Footprint:
    return Footprint(weights_bytes=int(weights * GB), working_bytes=int(working * GB))


def test_models_that_fit_together_all_stay() -> None:
    memory = Memory(24 * GB)
    kept = memory.keep()
    for name in "abc":
        assert memory.load(kept, name, size(5, 4)) == ()
    assert kept.keys == ("a", "b", "c")


def test_the_least_recently_used_goes_when_weights_and_rendering_no_longer_fit() -> None:
    memory = Memory(18 * GB)
    kept = memory.keep()
    memory.load(kept, "a", size(5, 4))
    memory.load(kept, "b", size(5, 4))
    kept.get("a")

    assert memory.load(kept, "c", size(5, 4)) == ("b",)
    assert kept.keys == ("a", "c")


def test_room_is_left_for_the_one_that_needs_most_while_it_renders() -> None:
    memory = Memory(20 * GB)
    kept = memory.keep()
    memory.load(kept, "hungry", size(5, 12))
    assert memory.load(kept, "small", size(2, 1)) == ()
    assert memory.load(kept, "third", size(2, 1)) == ("hungry",)


def test_as_many_go_as_a_large_one_needs_and_it_is_told_beforehand() -> None:
    memory = Memory(20 * GB)
    kept = memory.keep()
    for name in "abc":
        memory.load(kept, name, size(4, 4))

    assert kept.going_for(size(10, 4)) == ("a", "b")
    assert memory.load(kept, "large", size(10, 4)) == ("a", "b")
    assert kept.going_for(size(100, 100)) == ("c", "large"), "one that can't fit has it all"


def test_a_bound_on_their_number_overrides_memory() -> None:
    memory = Memory(GB)
    kept = memory.keep(most=2)
    assert memory.load(kept, "a", size(5, 4)) == ()
    assert memory.load(kept, "b", size(5, 4)) == ()
    assert kept.going_for(size(5, 4)) == ("a",)
    assert memory.load(kept, "c", size(5, 4)) == ("a",)


def test_what_a_model_took_is_remembered_after_it_went() -> None:
    memory = Memory(10 * GB)
    kept = memory.keep()
    memory.load(kept, "a", size(4, 4))
    kept.learn("a", working_bytes=2 * GB)
    kept.clear()

    assert kept.footprint("a") == size(4, 2)
    assert kept.footprint("b") is None
    assert memory.taken == {}


@pytest.mark.parametrize(("weights", "working"), [(0, LEAST_WORKING_BYTES), (5 * GB, 5 * GB)])
def test_before_anything_is_measured_rendering_is_thought_to_take_the_weights_again(
    weights: int, working: int
) -> None:
    assert Footprint.guessed(weights).working_bytes == working
