"""Which image goes where on a sweep's contact sheets: rows, columns and pages. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, groupby

from shared.axis import Axis
from shared.errors import InvalidInput
from shared.fields import FIELDS, Value
from shared.manifest import Manifest
from shared.mistakes import nearest, shown

Limits = tuple[int, int]
"""The most rows and columns of a page."""
SEPARATOR = " · "
"""Between the fields of an axis that has several."""
CELL_RANGE = (48, 2_048)
"""Pixels of an image's longer side on a page: bounds what a person may ask for."""
MAX_SIDE = 64
"""Rows or columns of one page: more can't be taken in, and labels get lost."""
NESTED_COLUMNS = 24
"""Columns up to which several axes share the top of a page instead of making pages."""
WRAP_RATIO = 1.6
"""Width to height of a page that wraps a single axis, in cells."""
LONG_TEXT = ("prompt", "negative_prompt")
"""Fields whose values need a row's room."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """One label and how many rows or columns it heads.

    Attributes:
        label: The axis value as text.
        size: Rows or columns.
    """

    label: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Level:
    """One line of labels: the values of one axis along one side of a page.

    Attributes:
        name: The axis' fields.
        spans: From the first row or column to the last.
    """

    name: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """One contact sheet.

    Attributes:
        number: From 1.
        facets: What all its images have in common and other pages don't, as (name, value).
        part: Which rows and columns of a larger grid it shows, as text; empty: all.
        columns: Column labels, outermost level first.
        rows: Row labels, outermost level first.
        cells: The user's index at [row][column]; None is a place beyond the last image.
        captions: A label below each image, at [row][column], where rows and columns have none.
        caption_name: The field that the captions are values of.
    """

    number: int
    facets: tuple[tuple[str, str], ...]
    part: str
    columns: tuple[Level, ...]
    rows: tuple[Level, ...]
    cells: tuple[tuple[int | None, ...], ...]
    captions: tuple[tuple[str, ...], ...] = ()
    caption_name: str = ""

    def texts(self) -> Iterator[str]:
        """Every text on it."""
        for name, value in self.facets:
            yield from (name, value)
        for level in (*self.columns, *self.rows):
            yield from (level.name, *(span.label for span in level.spans))
        yield from (caption for row in self.captions for caption in row)


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """A long side cut into parts of nearly equal size."""

    length: int
    step: int

    @classmethod
    def of(cls, length: int, limit: int) -> _Parts:
        count = math.ceil(length / max(1, min(limit, MAX_SIDE)))
        return cls(length=length, step=math.ceil(length / count))

    @property
    def count(self) -> int:
        return math.ceil(self.length / self.step)

    def ranks(self, part: int) -> range:
        return range(part * self.step, min((part + 1) * self.step, self.length))


class GridPlan:
    """The pages of a sweep's grid, each made when it is asked for.

    Attributes:
        rows: Axes along the side of a page by number, the outermost first.
        columns: Axes along its top.
        facets: The other axes: their values are the pages.
        wraps: Whether a single axis is laid out like text, with captions.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        x: Sequence[str] = (),
        y: Sequence[str] = (),
        only: Collection[int] | None = None,
    ) -> None:
        """Choose rows and columns.

        Without ``x`` and ``y``, a single axis wraps; otherwise prompts, or else the first axis,
        make the rows, and the columns are those of the other axes that need the fewest pages.

        Args:
            x: Fields that vary along the top, outermost first.
            y: Fields that vary along the side, outermost first.
            only: The user's indices of the images to show: values that none of them has are
                left out, and places of others stay empty. At least one.

        Raises:
            InvalidInput: A field that does not vary, or one that is on both sides.
        """
        self._axes = manifest.axes
        lengths = [len(axis) for axis in self._axes]
        # strides[axis]: between the indices of two neighbouring values
        self._strides = [math.prod(lengths[axis + 1 :]) for axis in range(len(self._axes))]
        self._only = None if only is None else frozenset(only)
        # shown[axis]: numbers of the values that have a place
        self._shown: list[Sequence[int]] = [
            range(length)
            if self._only is None
            else sorted({index // stride % length for index in self._only})
            for length, stride in zip(lengths, self._strides, strict=True)
        ]
        self._sizes = [len(numbers) for numbers in self._shown]
        self.columns = tuple(dict.fromkeys(self._axis_of(name, "--x") for name in x))
        self.rows = tuple(dict.fromkeys(self._axis_of(name, "--y") for name in y))
        for axis in set(self.columns) & set(self.rows):
            raise InvalidInput(
                f"--x and --y both name {self._name(axis)}: give one of them another field"
            )
        self.wraps = not x and not y and len(self._axes) == 1
        if not self.rows and not self.wraps:
            self.rows = self._rows_of(self._free())
        if not self.columns:
            self.columns = self._columns_of(self._free(), levels=1 if y else len(self._axes))
        self.facets = tuple(self._free())

    @property
    def row_fields(self) -> tuple[str, ...]:
        """Fields along the side, outermost first."""
        return tuple(name for axis in self.rows for name in self._axes[axis].fields)

    @property
    def column_fields(self) -> tuple[str, ...]:
        """Fields along the top, outermost first; those of a wrapped axis too."""
        return tuple(name for axis in self.columns for name in self._axes[axis].fields)

    def page_count(self, limits: Limits = (MAX_SIDE, MAX_SIDE)) -> int:
        """How many pages there are with at most so many rows and columns each."""
        rows, columns = self._parts(limits)
        return self._length(self.facets) * rows.count * columns.count

    def page(self, number: int, limits: Limits = (MAX_SIDE, MAX_SIDE)) -> Page:
        """One page, 1 <= number <= page_count(limits)."""
        row_parts, column_parts = self._parts(limits)
        rest, column_part = divmod(number - 1, column_parts.count)
        facet, row_part = divmod(rest, row_parts.count)
        rows, columns = row_parts.ranks(row_part), column_parts.ranks(column_part)
        if self.wraps:
            return self._wrapped_page(number, rows, len(columns))
        digits = self._digits(self.facets, facet)
        base = self._offset(self.facets, facet)
        parts = (
            _part("rows", rows, self._length(self.rows)),
            _part("columns", columns, self._length(self.columns)),
        )
        return Page(
            number=number,
            facets=tuple(
                (self._name(axis), self._label(axis, digit))
                for axis, digit in zip(self.facets, digits, strict=True)
            ),
            part=", ".join(part for part in parts if part),
            columns=self._levels(self.columns, columns),
            rows=self._levels(self.rows, rows),
            cells=tuple(
                tuple(
                    self._wanted(
                        base + self._offset(self.rows, row) + self._offset(self.columns, column)
                    )
                    for column in columns
                )
                for row in rows
            ),
        )

    def _axis_of(self, name: str, option: str) -> int:
        for number, axis in enumerate(self._axes):
            if name in axis.fields:
                return number
        varying = [field for axis in self._axes for field in axis.fields]
        if name not in FIELDS:
            hint = nearest(name, varying or list(FIELDS))
            raise InvalidInput(f"{option} {shown(name)} is not a field: {hint}")
        choice = f"name {' or '.join(varying)}" if varying else "it is a sweep of one image"
        raise InvalidInput(f"{option} {name} has only one value in this sweep: {choice}")

    def _free(self) -> list[int]:
        used = {*self.rows, *self.columns}
        return [axis for axis in range(len(self._axes)) if axis not in used]

    def _rows_of(self, free: list[int]) -> tuple[int, ...]:
        """Prompts read best beside their row; one axis alone is better off as columns."""
        if len(free) < (1 if self.columns else 2):
            return ()
        texts = [axis for axis in free if set(self._axes[axis].fields) & set(LONG_TEXT)]
        return ((texts or free)[0],)

    def _columns_of(self, free: list[int], *, levels: int) -> tuple[int, ...]:
        """Of all the choices that fit, the one with the fewest pages, then the simplest."""
        choices = [
            chosen
            for count in range(1, min(levels, len(free)) + 1)
            for chosen in combinations(free, count)
            if count == 1 or self._length(chosen) <= NESTED_COLUMNS
        ]
        return min(choices, key=self._pages_beside, default=())

    def _pages_beside(self, columns: tuple[int, ...]) -> float:
        """Pages that a choice of columns leaves, up to a factor."""
        length = self._length(columns)
        return math.ceil(length / MAX_SIDE) / length

    def _parts(self, limits: Limits) -> tuple[_Parts, _Parts]:
        """How the rows and the columns are spread over pages."""
        rows, columns = self._length(self.rows), self._length(self.columns)
        if self.wraps:
            width = _wrap_width(columns, min(limits[1], MAX_SIDE))
            return _Parts.of(math.ceil(columns / width), limits[0]), _Parts.of(width, width)
        return _Parts.of(rows, limits[0]), _Parts.of(columns, limits[1])

    def _wrapped_page(self, number: int, rows: range, width: int) -> Page:
        (numbers,) = self._shown
        first, last = rows.start * width, min(rows.stop * width, len(numbers))
        cells = tuple(
            tuple(numbers[rank] if rank < last else None for rank in range(start, start + width))
            for start in range(first, last, width)
        )
        return Page(
            number=number,
            facets=(),
            part=_part("images", range(first, last), len(numbers)),
            columns=(),
            rows=(),
            cells=cells,
            captions=tuple(
                tuple("" if index is None else axis_label(self._axes[0], index) for index in row)
                for row in cells
            ),
            caption_name=self._name(0),
        )

    def _levels(self, axes: tuple[int, ...], ranks: range) -> tuple[Level, ...]:
        digits = [self._digits(axes, rank) for rank in ranks]
        return tuple(
            Level(
                name=self._name(axis),
                spans=tuple(
                    Span(label=self._label(axis, prefix[-1]), size=len(list(run)))
                    for prefix, run in groupby(digits, key=partial(_prefix, depth + 1))
                ),
            )
            for depth, axis in enumerate(axes)
        )

    def _name(self, axis: int) -> str:
        return SEPARATOR.join(self._axes[axis].fields)

    def _label(self, axis: int, digit: int) -> str:
        return axis_label(self._axes[axis], self._shown[axis][digit])

    def _wanted(self, index: int) -> int | None:
        return index if self._only is None or index in self._only else None

    def _length(self, axes: Sequence[int]) -> int:
        return math.prod(self._sizes[axis] for axis in axes)

    def _digits(self, axes: Sequence[int], rank: int) -> list[int]:
        """Which of the shown values on each of some axes, the last varying fastest."""
        digits = []
        for axis in reversed(axes):
            rank, digit = divmod(rank, self._sizes[axis])
            digits.append(digit)
        return digits[::-1]

    def _offset(self, axes: Sequence[int], rank: int) -> int:
        """What some axes at a rank add to the index."""
        digits = self._digits(axes, rank)
        return sum(
            self._shown[axis][digit] * self._strides[axis]
            for axis, digit in zip(axes, digits, strict=True)
        )


def _prefix(length: int, digits: list[int]) -> list[int]:
    return digits[:length]


def axis_label(axis: Axis, digit: int) -> str:
    """One value of an axis as text."""
    return SEPARATOR.join(_label(name, value) for name, value in axis.values(digit).items())


def _label(name: str, value: Value) -> str:
    if value is None:
        return "none" if name in LONG_TEXT else "the checkpoint's own"
    if isinstance(value, str):
        return value if value.strip() else "(empty)"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _wrap_width(length: int, limit: int) -> int:
    """Columns for a single axis: a broad page with few empty places."""
    ideal = math.sqrt(length * WRAP_RATIO)
    lowest, highest = math.ceil(math.sqrt(length)), math.ceil(ideal * 1.25)
    choices = range(min(lowest, limit), min(highest, limit) + 1)
    return min(choices, key=lambda width: (-length % width, abs(width - ideal)))


def _part(nouns: str, ranks: range, length: int) -> str:
    """Which of a larger grid's rows these are; empty: all of them."""
    if len(ranks) == length:
        return ""
    if len(ranks) == 1:
        return f"{nouns.removesuffix('s')} {ranks.stop:,} of {length:,}"
    return f"{nouns} {ranks.start + 1:,} to {ranks.stop:,} of {length:,}"
