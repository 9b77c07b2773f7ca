"""A device's curves as a picture: images/s against the batch, with knee and cap marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from producer.capacity_bars import denoising_title
from producer.lettering import Colour, Lettering
from shared.capacity import Capacity, Curve
from shared.errors import InvalidInput

PAPER: Colour = (252, 252, 250)
INK: Colour = (33, 35, 38)
SUBTLE: Colour = (124, 127, 132)
RULE: Colour = (226, 227, 228)
LINE: Colour = (43, 95, 160)
KNEE: Colour = (34, 120, 74)
CAP: Colour = (176, 79, 58)

PANEL = (520, 300)
"""Width and height of one curve with its axes, in pixels."""
MARGIN = 28
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 40
"""Between a panel's edge and its plot."""
TITLE, TEXT, SMALL = 17, 13, 12
"""Font sizes."""
CAPTION = 62
"""Height of the two lines above a device's panels."""
MOST_DRAWN = 20
"""Measurements in one picture: it would be too tall to open."""
TICKS = 4


def draw_chart(capacities: Sequence[Capacity], path: Path) -> int:
    """Write a PNG with a row of panels for each measurement.

    Args:
        capacities: At least one; the first MOST_DRAWN are drawn.

    Returns:
        How many were drawn.

    Raises:
        InvalidInput: It can't be written there.
    """
    drawn = capacities[:MOST_DRAWN]
    height = MARGIN + len(drawn) * (CAPTION + PANEL[1] + MARGIN)
    image = Image.new("RGB", (3 * MARGIN + 2 * PANEL[0], height), PAPER)
    sheet = _Chart(image, Lettering([item.key.device + item.model for item in drawn]))
    for number, item in enumerate(drawn):
        sheet.record(item, MARGIN + number * (CAPTION + PANEL[1] + MARGIN))
    try:
        image.save(path, format="PNG")
    except OSError as exc:
        raise InvalidInput(
            f"--png {str(path)!r} can't be written ({exc.strerror or exc}): "
            "name a file in a folder that is there"
        ) from exc
    return len(drawn)


class _Chart:
    """A picture being drawn."""

    def __init__(self, image: Image.Image, lettering: Lettering) -> None:
        self._draw = ImageDraw.Draw(image)
        self._lettering = lettering

    def record(self, capacity: Capacity, top: int) -> None:
        """One measurement's caption and panels."""
        key = capacity.key
        room = 2 * PANEL[0] + MARGIN
        for line, size, fill, text in (
            (16, TITLE, INK, f"{capacity.model}, {key.width} x {key.height}, {key.dtype}"),
            (36, TEXT, SUBTLE, f"{key.device}; attention {key.attention}"),
        ):
            (fitted,) = self._lettering.wrap(text, size=size, width=room, lines=1)
            self._text((MARGIN, top + line), fitted, size=size, fill=fill)
        panels = [(denoising_title(capacity), "UNet rows in the batch", capacity.denoise)]
        if capacity.decode is not None:
            panels.append(("decoding", "images in the batch", capacity.decode))
        for number, (title, rows, curve) in enumerate(panels):
            left = MARGIN + number * (PANEL[0] + MARGIN)
            self._panel(curve, title, rows, left, top + CAPTION)

    def _panel(self, curve: Curve, title: str, rows: str, left: int, top: int) -> None:
        x0, x1 = left + LEFT, left + PANEL[0] - RIGHT
        y0, y1 = top + PANEL[1] - BOTTOM, top + TOP
        best = max(point.rate for point in curve.points)
        octaves = max(1.0, math.log2(curve.points[-1].rows))

        def x(rows: float) -> float:
            return x0 + (x1 - x0) * math.log2(rows) / octaves

        step = _round_step(best / TICKS)
        ceiling = step * math.ceil(best / step * 1.02)

        def y(rate: float) -> float:
            return y0 - (y0 - y1) * rate / ceiling

        self._text((left, top + 14), f"{title}: images/s", size=TEXT, fill=INK)
        for tick in range(round(ceiling / step) + 1):
            height = y(tick * step)
            self._draw.line([(x0, height), (x1, height)], fill=RULE)
            self._text((x0 - 8, height), f"{tick * step:,g}", size=SMALL, fill=SUBTLE, anchor="rm")
        for power in range(math.floor(octaves) + 1):
            self._text((x(2**power), y0 + 8), f"{2**power}", size=SMALL, fill=SUBTLE, anchor="mt")
        self._text(((x0 + x1) / 2, y0 + 24), rows, size=SMALL, fill=SUBTLE, anchor="mt")
        self._marks(curve, x, (x1, y0, y1))
        dots = [(x(point.rows), y(point.rate)) for point in curve.points]
        self._draw.line(dots, fill=LINE, width=2)
        for point, (across, down) in zip(curve.points, dots, strict=True):
            colour = CAP if point.rows > curve.cap else LINE
            self._draw.ellipse([(across - 4, down - 4), (across + 4, down + 4)], fill=colour)

    def _marks(self, curve: Curve, x: Callable[[float], float], box: tuple[int, int, int]) -> None:
        """Upright lines at knee and cap; one where they are the same.

        Args:
            x: Where so many rows are.
            box: Right end, bottom and top of the plot.
        """
        x1, y0, y1 = box
        marks = [(curve.knee, KNEE, "knee"), (curve.cap, CAP, "cap")]
        if curve.knee == curve.cap:
            marks = [(curve.knee, KNEE, "knee, cap")]
        for number, (rows, colour, name) in enumerate(marks):
            across = x(rows)
            self._draw.line([(across, y0), (across, y1)], fill=colour, width=1)
            label = f"{name} {rows:,}"
            room = self._lettering.width(label, SMALL)
            fits_right = across + 5 + room < x1
            at = (across + (5 if fits_right else -5), y0 - 8 - 16 * number)
            anchor = "ls" if fits_right else "rs"
            self._text(at, label, size=SMALL, fill=colour, anchor=anchor)

    def _text(
        self, at: tuple[float, float], text: str, *, size: int, fill: Colour, anchor: str = "ls"
    ) -> None:
        self._lettering.draw(self._draw, at, text, size=size, fill=fill, anchor=anchor)


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, at least ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)
