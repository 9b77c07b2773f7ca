"""What the demo model knows: scenes of one coloured shape, how they look, what they are called."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageDraw

__all__ = [
    "COLOURS",
    "COMBINATIONS",
    "SHAPES",
    "SIZE",
    "Scene",
    "caption",
    "draw",
    "exam",
    "held_out",
    "random_scene",
]

SIZE = 64
"""Height and width of a picture in pixels."""

OVERSAMPLING = 8
"""Scenes are drawn this many times larger and averaged down: that smooths their outlines."""

COLOURS = {
    "red": (220, 30, 35),
    "orange": (255, 140, 10),
    "yellow": (250, 225, 40),
    "green": (30, 160, 60),
    "blue": (35, 80, 215),
    "purple": (135, 45, 165),
    "white": (248, 248, 248),
    "black": (15, 15, 18),
}
"""Colour words and their sRGB levels."""

SMALLEST, LARGEST = 13.0, 22.0
"""Bounds of a shape's radius in pixels."""

SMALL, LARGE = 15.5, 19.5
"""Radius in pixels below which a shape may be called small, above which large."""

WANDER = 9.0
"""Pixels by which a shape's centre may be off the picture's, along each axis."""

STYLES = (
    "photo",
    "oil painting",
    "watercolor",
    "digital art",
    "sketch",
    "high quality",
    "sharp focus",
    "detailed",
    "soft light",
    "simple",
    "minimal",
    "beautiful",
)
"""What people add to a prompt; here it changes nothing."""

MARGIN = 2.5
"""Pixels of background between a shape and the edge."""

Points = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One picture's content.

    Attributes:
        shape: Of SHAPES.
        colour: Of COLOURS.
        background: Of COLOURS, another one.
        x: The shape's centre in pixels from the left.
        y: The shape's centre in pixels from the top.
        radius: Of the shape in pixels; its outline keeps within 1.1 times as much.
    """

    shape: str
    colour: str
    background: str
    x: float
    y: float
    radius: float


def _round(radius: float) -> Points:
    return [
        (radius * math.cos(math.tau * k / 90), radius * math.sin(math.tau * k / 90))
        for k in range(90)
    ]


def _spikes(corners: int, inner: float) -> Points:
    """A star that points up: ``corners`` tips on a circle of 1.1, notches on one of ``inner``."""
    points = []
    for k in range(2 * corners):
        radius = inner if k % 2 else 1.1
        angle = math.pi * k / corners
        points.append((radius * math.sin(angle), -radius * math.cos(angle)))
    return points


def _square() -> Points:
    return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]


def _triangle() -> Points:
    return [(0.0, -1.0), (1.1, 0.9), (-1.1, 0.9)]


def _cross() -> Points:
    a, b = 0.34, 1.0
    quarter = [(a, -b), (a, -a), (b, -a)]
    points: Points = []
    for _ in range(4):
        points += quarter
        quarter = [(-y, x) for x, y in quarter]
    return points


def _heart() -> Points:
    points = []
    for k in range(90):
        t = math.tau * k / 90
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((math.sin(t) ** 3 * 1.08, -(y + 2.5) / 14.8))
    return points


SHAPES: dict[str, tuple[Callable[[], Points], float]] = {
    "circle": (lambda: _round(1.0), 0.0),
    "square": (_square, 0.0),
    "triangle": (_triangle, 0.0),
    "star": (lambda: _spikes(5, 0.5), 0.0),
    "ring": (lambda: _round(1.0), 0.52),
    "cross": (_cross, 0.0),
    "heart": (_heart, 0.0),
}
"""Each shape's outline for a radius of 1, y pointing down, and the radius of the hole in it."""

COMBINATIONS = tuple(
    (shape, colour, background)
    for shape, colour, background in itertools.product(SHAPES, COLOURS, COLOURS)
    if colour != background
)
"""Every shape, colour and background that make a scene."""


def held_out(shape: str, colour: str, background: str) -> bool:
    """About one combination in ten, no ring among them, is never shown in training.

    Can the model draw it still?
    """
    shapes, colours = list(SHAPES), list(COLOURS)
    number = shapes.index(shape) + 3 * colours.index(colour) + 7 * colours.index(background)
    return number % 10 == 4


def exam() -> list[tuple[str, str, str]]:
    """280 combinations to measure accuracy on: each shape in each colour on 5 of 7 backgrounds."""
    chosen = []
    for number, (shape, colour) in enumerate(itertools.product(SHAPES, COLOURS)):
        others = [background for background in COLOURS if background != colour]
        chosen += [(shape, colour, others[(number + k) % len(others)]) for k in range(5)]
    return chosen


def random_scene(random_: random.Random, *, held: bool = False) -> Scene:
    """A scene of a combination that is, or is not, held out of training."""
    while True:
        shape, colour, background = random_.choice(COMBINATIONS)
        if held_out(shape, colour, background) == held:
            break
    radius = random_.uniform(SMALLEST, LARGEST)
    room = min(WANDER, SIZE / 2 - MARGIN - 1.1 * radius)
    return Scene(
        shape=shape,
        colour=colour,
        background=background,
        x=SIZE / 2 + random_.uniform(-room, room),
        y=SIZE / 2 + random_.uniform(-room, room),
        radius=radius,
    )


def draw(scene: Scene) -> Image.Image:
    """The scene as an RGB picture of SIZE x SIZE pixels."""
    outline, hole = SHAPES[scene.shape]
    mask = Image.new("L", (SIZE * OVERSAMPLING,) * 2)
    pen = ImageDraw.Draw(mask)

    def placed(points: Points) -> Points:
        return [
            (
                (scene.x + scene.radius * x) * OVERSAMPLING - 0.5,
                (scene.y + scene.radius * y) * OVERSAMPLING - 0.5,
            )
            for x, y in points
        ]

    pen.polygon(placed(outline()), fill=255)
    if hole:
        pen.polygon(placed(_round(hole)), fill=0)
    picture = Image.new("RGB", (SIZE, SIZE), COLOURS[scene.background])
    picture.paste(COLOURS[scene.colour], mask=mask.reduce(OVERSAMPLING))
    return picture


def caption(scene: Scene, random_: random.Random) -> str:
    """One of the ways to describe a scene, wholly or in part, and all of it true.

    Some end with words that change nothing, so that they take no attention from the others.
    """
    size = ""
    if random_.random() < 0.5:
        size = "small " if scene.radius < SMALL else "large " if scene.radius > LARGE else ""
    article = "an" if not size and scene.colour == "orange" else "a"
    thing = f"{article} {size}{scene.colour} {scene.shape}"
    ground = f"{_a(scene.background)} {scene.background} background"
    dice = random_.random()
    if dice < 0.6:
        said = f"{thing} on {ground}"
    elif dice < 0.8:
        said = random_.choice(
            (
                f"{thing} on {scene.background}",
                f"{thing}, {scene.background} background",
                f"{scene.background} background, {thing}",
                f"{size}{scene.colour} {scene.shape} on {scene.background}",
                f"{size}{scene.colour} {scene.shape}, {scene.background} background",
                f"a picture of {thing} on {ground}",
            )
        )
    else:
        said = random_.choice(
            (
                thing,
                f"a {size}{scene.shape}",
                f"a {size}shape on {ground}",
                f"{size}{scene.colour} {scene.shape}",
                f"{scene.shape}",
                f"{scene.colour}",
                ground,
                f"a {scene.shape} on {ground}",
                f"{_a(scene.colour)} {scene.colour} shape on {ground}",
                f"{scene.background} background",
            )
        )
    return f"{said}, {random_.choice(STYLES)}" if random_.random() < 0.12 else said


def _a(word: str) -> str:
    return "an" if word == "orange" else "a"
