"""A device's curves as text: a bar for each batch, with knee and cap marked."""

from __future__ import annotations

from collections.abc import Iterator

from shared.capacity import Bound, Capacity, Curve

BAR = 32
"""Characters of the quickest batch's bar."""

EIGHTHS = " ▏▎▍▌▋▊▉█"

BOUNDS: dict[Bound, str] = {
    "memory": "memory ends",
    "rows": "no more were tried",
    "time": "the time for measuring was over",
}


def plots(capacity: Capacity) -> Iterator[tuple[str, Curve, str]]:
    """Title, curve and what a row is called, for each of its curves."""
    yield denoising_title(capacity), capacity.denoise, "ROWS"
    if capacity.decode is not None:
        yield "decoding", capacity.decode, "IMAGES"


def denoising_title(capacity: Capacity) -> str:
    """What the curve of the denoising model timed."""
    return f"denoising, {capacity.steps} calls of the model, an image a row"


def plot_lines(curve: Curve, rows: str) -> Iterator[str]:
    """A heading, and a line for each batch that was run.

    Args:
        rows: What its rows are called.
    """
    best = max(point.rate for point in curve.points)
    yield f"{rows:>8}  {'SECONDS':>8}  {'MEMORY':>9}  {'IMAGES/S':>9}"
    for point in curve.points:
        memory = "-" if point.peak_bytes is None else f"{point.peak_bytes / 1e6:,.0f} MB"
        line = (
            f"{point.rows:>8,}  {point.seconds:>8.3f}  {memory:>9}  {point.rate:>9,.1f}  "
            f"{_bar(point.rate / best):<{BAR}}  {mark(curve, point.rows)}"
        )
        yield line.rstrip()


def mark(curve: Curve, rows: int) -> str:
    """What is to be said of a batch of so many rows."""
    if rows > curve.cap:
        return "too much memory"
    marks = ["knee"] if rows == curve.knee else []
    if rows == curve.cap:
        marks.append(f"cap: {BOUNDS[curve.bound]}")
    return ", ".join(marks)


def _bar(share: float) -> str:
    """A bar of eighths of a character, for 0..1."""
    whole, eighths = divmod(round(share * BAR * 8), 8)
    return "█" * whole + (EIGHTHS[eighths] if eighths else "")
