"""Blocks: how a sweep's jobs are laid out for the queue, and back to the user's order.

Each axis is cut into groups of values that lead to one lane and recipe; a block is one group
of each axis, so all its jobs may share batches. Users count by index (their own axes, last
fastest); the queue counts by position (block after block). Both are mixed-radix numbers and
nothing is ever enumerated.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

from shared.axis import Axis
from shared.errors import InvalidSweep
from shared.fields import FIELDS, REQUIRED, Value
from shared.groups import Group, deciding_fields, group_key
from shared.job import Job
from shared.kinds import check_together
from shared.lanes import cost, lane_key, recipe_key, weights_key
from shared.manifest import Manifest
from shared.sampling import check_sampling

MAX_BLOCKS = 4096
"""Bounds the cursors of one sweep, and what one script may touch."""
_JOB_FIELDS = tuple(item.name for item in fields(Job))
_UNDECIDED: dict[str, Value] = {
    name: "" if name in REQUIRED else field.default
    for name, field in FIELDS.items()
    if field.decides == "row"
}
"""Stand-ins for the fields that decide neither lane nor recipe nor cost."""


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
            InvalidSweep: It would take more than MAX_BLOCKS blocks, or some of its jobs have
                fields that exclude each other, or lack one that another needs.
        """
        self.manifest = manifest
        self.total = manifest.total
        self._groups: list[list[Group]] = [_cut(axis) for axis in manifest.axes]
        # home[axis](value number): its group and its rank there; None: there is one group
        self._home: list[Callable[[int], tuple[int, int]] | None] = [
            None if len(groups) == 1 else _homes(axis, groups)
            for axis, groups in zip(manifest.axes, self._groups, strict=True)
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

    @property
    def groups(self) -> list[list[Sequence[int]]]:
        """For each axis and group, the numbers of its values in the user's order."""
        return [[group.numbers for group in groups] for groups in self._groups]

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
            group, rank = (0, digit) if home is None else home(digit)
            group_digits.append(group)
            ranks.append(rank)
            sizes.append(len(self._groups[axis][group].numbers))
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
            self._groups[axis][group].numbers for axis, group in enumerate(block.groups)
        ]  # picked[axis]: value numbers of the block's group
        ranks = _unrank(position - block.offset, [len(values) for values in picked])
        return [values[rank] for values, rank in zip(picked, ranks, strict=True)]

    def _make(self, digits: Sequence[int]) -> Job:
        values: dict[str, Value] = dict(self.manifest.fixed)
        for axis, digit in zip(self.manifest.axes, digits, strict=True):
            values.update(axis.values(digit))
        return Job(**{name: values[name] for name in _JOB_FIELDS})  # type: ignore[arg-type]

    def _first(self, picked: Sequence[Group]) -> Job:
        """A job with the lane, recipe and cost of these groups; the rest is made up."""
        values = _UNDECIDED | self.manifest.fixed
        for group in picked:
            values |= group.deciding
        return Job(**{name: values[name] for name in _JOB_FIELDS})  # type: ignore[arg-type]

    def _blocks(self, count: int) -> Iterator[Block]:
        offset = 0
        radices = [len(groups) for groups in self._groups]
        for number in range(count):
            chosen = _unrank(number, radices)
            picked = [self._groups[axis][group] for axis, group in enumerate(chosen)]
            first = self._first(picked)
            check_sampling(first)
            check_together(first)
            size = math.prod(len(group.numbers) for group in picked)
            yield Block(
                offset=offset,
                size=size,
                groups=tuple(chosen),
                model=weights_key(first),
                lane=lane_key(first),
                recipe=recipe_key(first),
                cost=cost(first),
            )
            offset += size


def _cut(axis: Axis) -> list[Group]:
    """The axis' values by the lane and recipe they lead to."""
    if axis.table is not None:
        return axis.table.cut()
    names = deciding_fields(axis.fields)
    columns = [axis.columns[axis.fields.index(name)] for name in names]
    if not names:
        return [Group(numbers=range(len(axis)), deciding={})]
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, values in enumerate(zip(*columns, strict=True)):
        groups.setdefault(group_key(names, values), []).append(number)
    cut = list(groups.values())
    return [
        Group(
            numbers=range(len(axis)) if len(cut) == 1 else numbers,
            deciding={
                name: column[numbers[0]] for name, column in zip(names, columns, strict=True)
            },
        )
        for numbers in cut
    ]


def _homes(axis: Axis, groups: list[Group]) -> Callable[[int], tuple[int, int]]:
    """From a value's number to its group and its rank there."""
    if axis.table is not None:
        return axis.table.home
    homes = [(0, 0)] * len(axis)
    for number, group in enumerate(groups):
        for rank, value in enumerate(group.numbers):
            homes[value] = (number, rank)
    return homes.__getitem__


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
