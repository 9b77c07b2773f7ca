"""Blocks: how a sweep's jobs are laid out for the queue, and back to the user's order.

Each axis is cut into groups of values that lead to one lane and recipe; a block is one group
of each axis, so all its jobs may share batches. Users count by index (their own axes, last
fastest); the queue counts by position (block after block). Both are mixed-radix numbers and
nothing is ever enumerated.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from shared.errors import InvalidSweep
from shared.fields import FIELDS, Value
from shared.job import Job
from shared.lanes import cost, lane_key, model_key, recipe_key
from shared.manifest import Axis, Manifest

MAX_BLOCKS = 4096
"""Bounds the cursors of one sweep, and what one script may touch."""
_JOB_FIELDS = tuple(item.name for item in fields(Job))


@dataclass(frozen=True, kw_only=True)
class Block:
    """A contiguous range of positions with one lane and one recipe.

    Attributes:
        offset: First position.
        size: Number of jobs.
        groups: Which group of each axis, by number.
        model: Key of the weights, see `shared.lanes`.
        lane: Key of the lane.
        recipe: Key of the recipe.
        cost: Virtual time of one job; the block's first job's, all are alike.
    """

    offset: int
    size: int
    groups: tuple[int, ...]
    model: str
    lane: str
    recipe: str
    cost: float


class Layout:
    """The permutation between a sweep's indices and positions, and its blocks."""

    def __init__(self, manifest: Manifest) -> None:
        """Cut the axes into groups and the sweep into blocks.

        Raises:
            InvalidSweep: It would take more than MAX_BLOCKS blocks.
        """
        self.manifest = manifest
        self.total = manifest.total
        # groups[axis][group]: numbers of the axis' values, in the user's order
        self._groups: list[list[Sequence[int]]] = [_partition(axis) for axis in manifest.axes]
        self._home: list[list[tuple[int, int]] | None] = [
            None if len(groups) == 1 else _homes(groups) for groups in self._groups
        ]
        count = math.prod(len(groups) for groups in self._groups)
        if count > MAX_BLOCKS:
            cuts = ", ".join(
                f"{'+'.join(axis.fields)} ({len(groups):,})"
                for axis, groups in zip(manifest.axes, self._groups, strict=True)
                if len(groups) > 1
            )
            raise InvalidSweep(
                f"the sweep has {count:,} combinations of weights, size and sampling from {cuts}: "
                f"at most {MAX_BLOCKS:,} are allowed, split it into several sweeps"
            )
        self.blocks: tuple[Block, ...] = tuple(self._blocks(count))
        self._offsets = [block.offset for block in self.blocks]

    def job(self, index: int) -> Job:
        """The job at the user's index, 0 <= index < total."""
        return self._make(self.digits(index))

    def job_at(self, position: int) -> Job:
        """The job at the queue's position."""
        return self._make(self._digits_at(position))

    def digits(self, index: int) -> list[int]:
        """The number of the value taken on each axis."""
        if not 0 <= index < self.total:
            raise IndexError(f"index {index} is outside 0..{self.total - 1}")
        return _unrank(index, [len(axis) for axis in self.manifest.axes])

    def position_of(self, index: int) -> int:
        """Where the queue keeps the job of the user's index."""
        group_digits, ranks, sizes = [], [], []
        for axis, digit in enumerate(self.digits(index)):
            home = self._home[axis]
            group, rank = (0, digit) if home is None else home[digit]
            group_digits.append(group)
            ranks.append(rank)
            sizes.append(len(self._groups[axis][group]))
        block = _rank(group_digits, [len(groups) for groups in self._groups])
        return self.blocks[block].offset + _rank(ranks, sizes)

    def index_of(self, position: int) -> int:
        """The user's index of the queue's position."""
        return _rank(self._digits_at(position), [len(axis) for axis in self.manifest.axes])

    def block_of(self, position: int) -> Block:
        """The block that holds a position."""
        if not 0 <= position < self.total:
            raise IndexError(f"position {position} is outside 0..{self.total - 1}")
        return self.blocks[bisect_right(self._offsets, position) - 1]

    def _digits_at(self, position: int) -> list[int]:
        block = self.block_of(position)
        picked = [
            self._groups[axis][group] for axis, group in enumerate(block.groups)
        ]  # picked[axis]: value numbers of the block's group
        ranks = _unrank(position - block.offset, [len(values) for values in picked])
        return [values[rank] for values, rank in zip(picked, ranks, strict=True)]

    def _make(self, digits: Sequence[int]) -> Job:
        values: dict[str, Value] = dict(self.manifest.fixed)
        for axis, digit in zip(self.manifest.axes, digits, strict=True):
            values.update(axis.values(digit))
        return Job(**{name: values[name] for name in _JOB_FIELDS})  # type: ignore[arg-type]

    def _blocks(self, count: int) -> Iterator[Block]:
        offset = 0
        radices = [len(groups) for groups in self._groups]
        for number in range(count):
            chosen = _unrank(number, radices)
            picked = [self._groups[axis][group] for axis, group in enumerate(chosen)]
            first = self._make([values[0] for values in picked])
            size = math.prod(len(values) for values in picked)
            yield Block(
                offset=offset,
                size=size,
                groups=tuple(chosen),
                model=model_key(first.model, first.revision, first.variant),
                lane=lane_key(first),
                recipe=recipe_key(first),
                cost=cost(first),
            )
            offset += size


def _partition(axis: Axis) -> list[Sequence[int]]:
    """Numbers of the axis' values, grouped by the lane and recipe they lead to."""
    deciding = [
        (FIELDS[name].decides, column)
        for name, column in zip(axis.fields, axis.columns, strict=True)
        if FIELDS[name].decides != "row"
    ]
    if not deciding:
        return [range(len(axis))]
    groups: dict[tuple[object, ...], list[int]] = {}
    for number in range(len(axis)):
        key = tuple(
            _guided(column[number]) if decides == "guidance" else column[number]
            for decides, column in deciding
        )
        groups.setdefault(key, []).append(number)
    return [range(len(axis))] if len(groups) == 1 else list(groups.values())


def _guided(value: Value) -> bool:
    return isinstance(value, int | float) and value > 1.0


def _homes(groups: list[Sequence[int]]) -> list[tuple[int, int]]:
    """For each value number, its group and its rank there."""
    homes = [(0, 0)] * sum(len(values) for values in groups)
    for group, values in enumerate(groups):
        for rank, number in enumerate(values):
            homes[number] = (group, rank)
    return homes


def _unrank(number: int, radices: Sequence[int]) -> list[int]:
    """Mixed-radix digits of a number, the last digit varying fastest."""
    digits = []
    for radix in reversed(radices):
        number, digit = divmod(number, radix)
        digits.append(digit)
    return digits[::-1]


def _rank(digits: Sequence[int], radices: Sequence[int]) -> int:
    """The number with these mixed-radix digits."""
    number = 0
    for digit, radix in zip(digits, radices, strict=True):
        number = number * radix + digit
    return number
