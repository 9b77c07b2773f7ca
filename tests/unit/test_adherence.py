"""The checker of the demo model's pictures, on pictures whose content is known."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from worker.demo import scenes

pytest.importorskip("scipy", reason="needs the worker's dependencies")

from tests.adherence import read


@pytest.mark.parametrize("blur", [0.0, 0.6])
def test_it_reads_rendered_scenes_even_when_they_are_soft(blur: float) -> None:
    dice = random.Random(3)
    wrong = []
    for held in (False, True):
        for _ in range(300):
            scene = scenes.random_scene(dice, held=held)
            picture = scenes.draw(scene).filter(ImageFilter.GaussianBlur(blur))
            reading = read(picture)
            if reading.content != (scene.shape, scene.colour, scene.background):
                wrong.append((scene, reading))

    assert len(wrong) < 6, wrong[:3]


def test_it_sees_where_a_shape_is_and_how_large() -> None:
    small = scenes.Scene(
        shape="circle", colour="red", background="white", x=26.0, y=37.0, radius=13
    )

    reading = read(scenes.draw(small))

    assert (reading.x, reading.y) == (pytest.approx(25.5, abs=0.3), pytest.approx(36.5, abs=0.3))
    assert reading.area == pytest.approx(np.pi * 13**2, rel=0.03)


@pytest.mark.parametrize(
    "outline",
    [
        pytest.param([(10, 10), (54, 20), (44, 54)], id="a leaning triangle"),
        pytest.param([(10, 24), (54, 24), (54, 40), (10, 40)], id="a bar"),
        pytest.param([(12, 12), (32, 22), (52, 12), (42, 50), (32, 38), (20, 52)], id="a splinter"),
    ],
)
def test_it_finds_no_name_for_other_shapes(outline: list[tuple[int, int]]) -> None:
    picture = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(picture).polygon(outline, fill=(220, 30, 35))

    reading = read(picture)

    assert reading.shape is None
    assert (reading.colour, reading.background) == ("red", "white")


def test_it_finds_nothing_where_there_is_nothing() -> None:
    assert read(Image.new("RGB", (64, 64), "white")).content == (None, None, "white")
    assert read(Image.new("RGB", (64, 64), (128, 128, 128))).content == (None, None, None)


def test_noise_is_no_shape() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)

    assert read(Image.fromarray(noise)).shape is None


def test_a_second_shape_counts_against_a_picture() -> None:
    picture = Image.new("RGB", (64, 64), (248, 248, 248))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((5, 5, 30, 30), fill=(220, 30, 35))
    pen.ellipse((38, 38, 56, 56), fill=(220, 30, 35))

    assert read(picture).shape is None
