"""How many rows fit, and how many are worth it, from a few measured batches."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

from shared.capacity import Bound, Curve, Point
from shared.errors import OutOfMemory

NEARLY = 0.03
"""A batch this much slower per row than the best is as good."""

HEADROOM = 0.1
"""Share of the memory that is left alone: fragments, and what other images need more."""

FINE = 8
"""Bounds what is spent on an exact cap: an eighth more rows is not worth another batch."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a batch may take.

    Attributes:
        memory_bytes: All that the device could give; None where nobody can tell.
        rows: Most rows to try.
        seconds: Wall time for the whole search, the first batches aside.
    """

    memory_bytes: int | None
    rows: int
    seconds: float

    @property
    def limit_bytes(self) -> int | None:
        """The memory without its headroom."""
        return None if self.memory_bytes is None else int(self.memory_bytes * (1 - HEADROOM))


def find_curve(
    measure: Callable[[int], Point], room: Room, *, clock: Callable[[], float] = perf_counter
) -> Curve:
    """Measure batches until cap and knee are known, or the time is over.

    Args:
        measure: Runs so many rows; raises OutOfMemory where they do not fit.
        room: What to stay within.
        clock: Seconds that pass while something is measured.

    Returns:
        The cap was run, and fitted with its headroom (a single row with less); the knee is not
        above it.

    Raises:
        OutOfMemory: Not even one row fits.
    """
    started = clock()
    measure(1)  # kernels are picked and caches filled
    seen: list[Point] = []
    failed: int | None = None
    late = False
    while (rows := next_rows(seen, failed, room)) is not None:
        if seen and rows / seen[-1].rate > room.seconds - (clock() - started):
            late = True
            break
        try:
            insort(seen, measure(rows), key=lambda point: point.rows)
        except OutOfMemory:
            if rows == 1:
                raise
            failed = rows
    return _conclude(seen, failed, room, late=late)


def next_rows(seen: Sequence[Point], failed: int | None, room: Room) -> int | None:
    """What to measure next, or None when cap and knee are known.

    Doubles while that gains anything and fits by the last two points; then confirms with one
    batch how far the memory goes; and if that is too far, looks between what fits and what does
    not.

    Args:
        seen: What has run so far, by rows.
        failed: Fewest rows that did not run.
    """
    if not seen:
        return 1
    fit = _fitting(seen, failed, room)
    good, bad = fit[-1].rows, _too_many(seen, failed, room)
    reach = _reach(seen, fit, room)
    if bad is None:
        if _gains(fit) and 2 * good <= reach:
            return 2 * good
        return reach if reach - good > good // FINE else None
    if bad - good <= 1 + good // FINE:
        return None
    return reach if good < reach < bad else (good + bad) // 2


def knee_of(points: Sequence[Point]) -> int:
    """The fewest rows whose rows/s are within 3% of the best."""
    best = max(point.rate for point in points)
    return min(point.rows for point in points if point.rate >= best * (1 - NEARLY))


def _conclude(seen: Sequence[Point], failed: int | None, room: Room, *, late: bool) -> Curve:
    fit = _fitting(seen, failed, room)
    cap, bad = fit[-1].rows, _too_many(seen, failed, room)
    reach = _reach(seen, fit, room)
    bound: Bound = "time" if late else "rows" if bad is None and reach >= room.rows else "memory"
    if bad is not None:
        reach = min(reach, bad - 1)
    return Curve(
        points=tuple(seen),
        knee=knee_of(fit),
        cap=cap,
        reach=max(cap, reach) if late else cap,
        bound=bound,
    )


def _too_many(seen: Sequence[Point], failed: int | None, room: Room) -> int | None:
    """Fewest rows that ran into the headroom or did not run at all."""
    limit = room.limit_bytes
    over = [
        point.rows
        for point in seen
        if limit is not None and point.peak_bytes is not None and point.peak_bytes > limit
    ]
    return min([*over, *([] if failed is None else [failed])], default=None)


def _fitting(seen: Sequence[Point], failed: int | None, room: Room) -> Sequence[Point]:
    """Points that fit; a single row that runs always does, since there is no less."""
    bad = _too_many(seen, failed, room)
    return [point for point in seen if bad is None or point.rows < bad] or seen[:1]


def _reach(seen: Sequence[Point], fit: Sequence[Point], room: Room) -> int:
    """How many rows the memory holds by the line through two neighbouring points.

    Only the last two that fit, or the last that fits and the first that does not: a fixed
    workspace hides the slope at small batches.
    """
    after = [point for point in seen if point.rows > fit[-1].rows]
    pair = [fit[-1], after[0]] if after else fit[-2:]
    limit = room.limit_bytes
    low, high = pair[0], pair[-1]
    if limit is None or low.peak_bytes is None or high.peak_bytes is None or len(pair) < 2:
        return room.rows
    slope = (high.peak_bytes - low.peak_bytes) / (high.rows - low.rows)
    if slope <= 0:
        return room.rows
    last = fit[-1]
    return min(room.rows, last.rows + int((limit - (last.peak_bytes or 0)) / slope))


def _gains(fit: Sequence[Point]) -> bool:
    """Whether the last two doublings were worth it: one of them may have been unlucky."""
    if len(fit) <= 2:
        return True
    before = max(point.rate for point in fit[:-2])
    return max(point.rate for point in fit[-2:]) > before * (1 + NEARLY)
