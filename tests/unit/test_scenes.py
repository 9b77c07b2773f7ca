"""The scenes that the demo model learns from."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from worker.demo import scenes

MANY = 500


def some_scenes(count: int = MANY, *, held: bool = False) -> list[scenes.Scene]:
    dice = random.Random(1)
    return [scenes.random_scene(dice, held=held) for _ in range(count)]


def test_a_tenth_of_the_combinations_is_held_out() -> None:
    held = [one for one in scenes.COMBINATIONS if scenes.held_out(*one)]

    assert 0.08 < len(held) / len(scenes.COMBINATIONS) < 0.12
    # The rule spares rings: their colours differ from their backgrounds.
    for place, words in enumerate(({*scenes.SHAPES} - {"ring"}, scenes.COLOURS, scenes.COLOURS)):
        assert {one[place] for one in held} == set(words)


def test_training_never_shows_a_held_out_combination() -> None:
    for held in (False, True):
        for scene in some_scenes(held=held):
            assert scenes.held_out(scene.shape, scene.colour, scene.background) == held


def test_the_exam_asks_280_different_things_evenly() -> None:
    asked = scenes.exam()

    assert len(asked) == len(set(asked)) == 280
    assert set(asked) <= set(scenes.COMBINATIONS)
    assert set(Counter(shape for shape, _, _ in asked).values()) == {40}
    assert set(Counter(colour for _, colour, _ in asked).values()) == {35}


def test_shapes_stay_inside_the_picture() -> None:
    for scene in some_scenes():
        pixels = np.asarray(scenes.draw(scene))
        ground = scenes.COLOURS[scene.background]
        for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
            assert (edge == ground).all(), scene


def test_outlines_are_smooth() -> None:
    scene = scenes.Scene(
        shape="circle", colour="white", background="black", x=32.3, y=31.7, radius=18
    )

    levels = np.asarray(scenes.draw(scene))[..., 0]

    assert len(np.unique(levels)) > 20
    area = ((levels - 15.0) / (248 - 15)).sum()
    assert area == pytest.approx(np.pi * 18**2, rel=0.005)


def test_captions_tell_the_truth() -> None:
    dice = random.Random(2)
    for scene in some_scenes():
        words = set(scenes.caption(scene, dice).replace(",", "").split())
        assert words & set(scenes.SHAPES) <= {scene.shape}
        assert words & set(scenes.COLOURS) <= {scene.colour, scene.background}
        if "small" in words:
            assert scene.radius < scenes.SMALL
        if "large" in words:
            assert scene.radius > scenes.LARGE
        assert "a orange" not in scenes.caption(scene, dice)
