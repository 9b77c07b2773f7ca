"""Lines over an axis, as a PNG in the house's colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from producer.capacity_chart import CAP, INK, KNEE, LINE, PAPER, RULE, SMALL, SUBTLE, TEXT
from producer.lettering import Colour, Lettering

PANEL = (760, 300)
MARGIN = 24
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 52, 44
"""Between a panel's edge and its plot, in pixels."""
TICKS = 5
COLOURS: tuple[Colour, ...] = (LINE, CAP, KNEE, (140, 94, 160), SUBTLE)


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line, or dots joined by one; ``step`` holds each value until the next."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False
    step: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One plot. ``log`` axes are of base 10; their values have to be above 0."""

    title: str
    across: str
    series: Sequence[Series]
    log_across: bool = False
    log_up: bool = False
    mark: tuple[float, str] | None = None


def draw_panels(panels: Sequence[Panel], path: Path) -> None:
    """Write a PNG with one panel below the other."""
    height = MARGIN + len(panels) * (PANEL[1] + MARGIN)
    image = Image.new("RGB", (PANEL[0] + 2 * MARGIN, height), PAPER)
    sheet = _Sheet(image)
    for number, panel in enumerate(panels):
        sheet.panel(panel, MARGIN, MARGIN + number * (PANEL[1] + MARGIN))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(64).save(path, format="PNG", optimize=True)


class _Axis:
    """Values to pixels, and where its ticks are."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, log: bool) -> None:
        self._start, self._end, self._log = start, end, log
        if log:
            self._least = math.floor(math.log10(min(values)) + 1e-9)
            self._most = max(self._least + 1, math.ceil(math.log10(max(values)) - 1e-9))
            powers = range(round(self._least), round(self._most) + 1)
            self.ticks = [10.0**power for power in powers]
        else:
            step = _round_step(max(max(values), 1e-9) / TICKS)
            count = math.ceil(max(values) / step - 1e-9) or 1
            self._least, self._most = 0.0, step * count
            self.ticks = [step * number for number in range(count + 1)]

    def at(self, value: float) -> float:
        place = math.log10(value) if self._log else value
        share = (place - self._least) / (self._most - self._least)
        return self._start + (self._end - self._start) * share


class _Sheet:
    """A picture being drawn."""

    def __init__(self, image: Image.Image) -> None:
        self._draw = ImageDraw.Draw(image)
        self._lettering = Lettering()

    def panel(self, panel: Panel, left: int, top: int) -> None:
        x0, x1 = left + LEFT, left + PANEL[0] - RIGHT
        y0, y1 = top + PANEL[1] - BOTTOM, top + TOP
        points = [point for series in panel.series for point in series.points]
        ups = [up for _, up in points] + ([panel.mark[0]] if panel.mark else [])
        across = _Axis([x for x, _ in points], x0, x1, log=panel.log_across)
        up = _Axis(ups, y0, y1, log=panel.log_up)
        self._text((left, top + 16), panel.title, TEXT, INK)
        for tick in up.ticks:
            self._draw.line([(x0, up.at(tick)), (x1, up.at(tick))], fill=RULE)
            self._text((x0 - 8, up.at(tick)), f"{tick:,g}", SMALL, SUBTLE, "rm")
        for tick in across.ticks:
            self._text((across.at(tick), y0 + 8), f"{tick:,g}", SMALL, SUBTLE, "mt")
        self._text(((x0 + x1) / 2, y0 + 26), panel.across, SMALL, SUBTLE, "mt")
        if panel.mark is not None:
            value, name = panel.mark
            self._draw.line([(x0, up.at(value)), (x1, up.at(value))], fill=CAP)
            self._text((x1, up.at(value) - 5), name, SMALL, CAP, "rs")
        legend = float(x0)
        for series, colour in zip(panel.series, COLOURS, strict=False):
            self._line(series, across, up, colour)
            self._draw.line([(legend, top + 34), (legend + 18, top + 34)], fill=colour, width=3)
            self._text((legend + 24, top + 38), series.name, SMALL, INK)
            legend += 24 + self._lettering.width(series.name, SMALL) + 22

    def _line(self, series: Series, across: _Axis, up: _Axis, colour: Colour) -> None:
        dots: list[tuple[float, float]] = []
        for x, y in series.points:
            if series.step and dots:
                dots.append((across.at(x), dots[-1][1]))
            dots.append((across.at(x), up.at(y)))
        self._draw.line(dots, fill=colour, width=2)
        if series.dots:
            for x, y in dots:
                self._draw.ellipse([(x - 4, y - 4), (x + 4, y + 4)], fill=colour)

    def _text(
        self, at: tuple[float, float], text: str, size: int, fill: Colour, anchor: str = "ls"
    ) -> None:
        self._lettering.draw(self._draw, at, text, size=size, fill=fill, anchor=anchor)


def _round_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, at least ``rough``."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)
