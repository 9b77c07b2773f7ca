"""Tables: axes too long for a manifest, kept in chunks and read a chunk at a time.

The manifest names the chunks and says how many rows lead to each lane and recipe, so that blocks
are computed without reading any. Which rows those are is found by counting: the tallies say how
many rows of each group every chunk has, and the rows of one chunk say the rest.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from threading import Lock
from typing import overload

from shared.chunks import MAX_CHUNK_ROWS, ChunkSource, unpack_chunk
from shared.errors import InvalidManifest
from shared.fields import Value
from shared.groups import Group, deciding_fields, group_key
from shared.json_values import json_value

CACHED_CHARS = 4 * 2**20
"""Characters of text that one table keeps decoded; the chunk in use is kept in any case."""
VALUE_CHARS = 16
"""What a value that is no text counts for."""


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """The rows of one lane and recipe.

    Attributes:
        count: How many.
        values: What the first has in each deciding field, in the order of the axis' fields.
    """

    count: int
    values: tuple[Value, ...]


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """One chunk in memory.

    Attributes:
        columns: A list a field.
        labels: Each row's group; empty where there is one group.
        members: By group, the rows of the chunk that are in it.
        chars: What it weighs.
    """

    columns: tuple[tuple[Value, ...], ...]
    labels: array[int]
    members: dict[int, array[int]]
    chars: int


@dataclass(frozen=True, kw_only=True)
class _Tally:
    """Where the rows of one group are.

    Attributes:
        chunks: Numbers of the chunks that have some, rising.
        ends: Rows of the group up to the end of each of those chunks.
    """

    chunks: array[int]
    ends: array[int]


class Table:
    """Rows in chunks.

    Attributes:
        fields: Of every row, in the order of the table of fields.
        size: Rows of each chunk but the last.
        chunks: Digests, in row order.
        groups: In the order of their first rows.
        tallies: Digest of the chunk that says where the groups' rows are; None: there is one.
        source: Who has the chunks.
    """

    def __init__(
        self,
        *,
        fields: tuple[str, ...],
        size: int,
        chunks: tuple[str, ...],
        groups: tuple[RowGroup, ...],
        tallies: str | None,
        source: ChunkSource,
    ) -> None:
        self.fields = fields
        self.size = size
        self.chunks = chunks
        self.groups = groups
        self.tallies = tallies
        self.source = source
        self.count = sum(group.count for group in groups)
        self.deciding = deciding_fields(fields)
        self._places = [fields.index(name) for name in self.deciding]
        self._numbers = {
            group_key(self.deciding, group.values): number for number, group in enumerate(groups)
        }
        self._cache: OrderedDict[int, _Chunk] = OrderedDict()
        self._cached_chars = 0
        self._where: tuple[_Tally, ...] | None = None
        self._lock = Lock()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self.chunks)

    @property
    def digests(self) -> tuple[str, ...]:
        """All chunks that readers need."""
        return self.chunks if self.tallies is None else (*self.chunks, self.tallies)

    def to_json(self) -> dict[str, object]:
        """The ``chunks`` member of the manifest's axis."""
        return {
            "size": self.size,
            "rows": list(self.chunks),
            "groups": [
                {"count": group.count, "values": list(group.values)} for group in self.groups
            ],
            "tallies": self.tallies,
        }

    def value(self, column: int, row: int) -> Value:
        """One value.

        Raises:
            InvalidManifest: Its chunk is not what the manifest says.
            StorageError: Its chunk can't be read now.
        """
        number, offset = divmod(row, self.size)
        return self._chunk(number).columns[column][offset]

    def column(self, column: int) -> Iterator[Value]:
        """All values of one field."""
        for number in range(len(self.chunks)):
            yield from self._chunk(number).columns[column]

    def cut(self) -> list[Group]:
        """The groups; which rows are in them is read when it is asked for."""
        return [
            Group(
                numbers=range(group.count) if len(self.groups) == 1 else GroupRows(self, number),
                deciding=dict(zip(self.deciding, group.values, strict=True)),
            )
            for number, group in enumerate(self.groups)
        ]

    def home(self, row: int) -> tuple[int, int]:
        """A row's group and its rank there."""
        if len(self.groups) == 1:
            return 0, row
        number, offset = divmod(row, self.size)
        chunk = self._chunk(number)
        group = chunk.labels[offset]
        tally = self._tallies()[group]
        part = bisect_left(tally.chunks, number)
        before = tally.ends[part - 1] if part else 0
        return group, before + bisect_left(chunk.members[group], offset)

    def row_at(self, group: int, rank: int) -> int:
        """The row with this rank in a group."""
        tally = self._tallies()[group]
        part = bisect_right(tally.ends, rank)
        before = tally.ends[part - 1] if part else 0
        number = tally.chunks[part]
        return number * self.size + self._chunk(number).members[group][rank - before]

    def rows_of(self, group: int) -> Iterator[int]:
        """All rows of a group, rising."""
        for number in self._tallies()[group].chunks:
            for offset in self._chunk(number).members[group]:
                yield number * self.size + offset

    def _identity(self) -> tuple[object, ...]:
        return self.fields, self.size, self.chunks, self.groups, self.tallies

    def _chunk(self, number: int) -> _Chunk:
        with self._lock:
            found = self._cache.get(number)
            if found is not None:
                self._cache.move_to_end(number)
                return found
        read = self._read(number)
        with self._lock:
            if number not in self._cache:
                self._cache[number] = read
                self._cached_chars += read.chars
                while self._cached_chars > CACHED_CHARS and len(self._cache) > 1:
                    self._cached_chars -= self._cache.popitem(last=False)[1].chars
        return read

    def _read(self, number: int) -> _Chunk:
        digest = self.chunks[number]
        content = unpack_chunk(digest, self.source.body(digest))
        rows = min(self.size, self.count - number * self.size)
        if (
            not isinstance(content, list)
            or len(content) != len(self.fields)
            or any(not isinstance(column, list) or len(column) != rows for column in content)
        ):
            raise InvalidManifest(
                f"chunk {digest[:12]} has not {rows:,} values of each of {', '.join(self.fields)}"
            )
        columns = tuple(
            tuple(json_value(f"chunk {digest[:12]}", name, value) for value in column)
            for name, column in zip(self.fields, content, strict=True)
        )
        labels = self._labels(columns, number) if self.deciding else array("I")
        members: dict[int, array[int]] = {}
        for offset, label in enumerate(labels):
            members.setdefault(label, array("I")).append(offset)
        return _Chunk(
            columns=columns,
            labels=labels,
            members=members,
            chars=sum(_weight(value) for column in columns for value in column),
        )

    def _labels(self, columns: tuple[tuple[Value, ...], ...], number: int) -> array[int]:
        """Each row's group: a job must be of the lane and recipe under which it was queued."""
        rows = zip(*(columns[place] for place in self._places), strict=True)
        try:
            labels = array("I", (self._numbers[group_key(self.deciding, row)] for row in rows))
        except KeyError:
            raise self._astray(number) from None
        if len(self.groups) > 1:
            for group, count in Counter(labels).items():
                tally = self._tallies()[group]
                part = bisect_left(tally.chunks, number)
                if part == len(tally.chunks) or tally.chunks[part] != number:
                    raise self._astray(number)
                if tally.ends[part] - (tally.ends[part - 1] if part else 0) != count:
                    raise self._astray(number)
        return labels

    def _astray(self, number: int) -> InvalidManifest:
        return InvalidManifest(
            f"chunk {self.chunks[number][:12]} has rows of other groups than the manifest says"
        )

    def _tallies(self) -> tuple[_Tally, ...]:
        if self._where is None:
            assert self.tallies is not None  # several groups
            content = unpack_chunk(self.tallies, self.source.body(self.tallies))
            self._where = _tallies_of(content, self)
        return self._where


class TableColumn(Sequence[Value]):
    """One field's values in a table, each read when it is asked for."""

    def __init__(self, table: Table, number: int) -> None:
        self.table = table
        self._number = number

    def __len__(self) -> int:
        return self.table.count

    @overload
    def __getitem__(self, row: int) -> Value: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Value]: ...
    def __getitem__(self, row: int | slice) -> Value | Sequence[Value]:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        return self.table.value(self._number, range(len(self))[row])

    def __iter__(self) -> Iterator[Value]:
        return self.table.column(self._number)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TableColumn) and (self._number, self.table) == (
            other._number,
            other.table,
        )

    def __hash__(self) -> int:
        return hash((self._number, self.table))


class GroupRows(Sequence[int]):
    """The rows of one group of a table, in the user's order."""

    def __init__(self, table: Table, group: int) -> None:
        self._table = table
        self._group = group

    def __len__(self) -> int:
        return self._table.groups[self._group].count

    @overload
    def __getitem__(self, rank: int) -> int: ...
    @overload
    def __getitem__(self, rank: slice) -> Sequence[int]: ...
    def __getitem__(self, rank: int | slice) -> int | Sequence[int]:
        if isinstance(rank, slice):
            return [self[number] for number in range(*rank.indices(len(self)))]
        return self._table.row_at(self._group, range(len(self))[rank])

    def __iter__(self) -> Iterator[int]:
        return self._table.rows_of(self._group)


def tallies_content(tallies: Sequence[Sequence[tuple[int, int]]]) -> object:
    """What the tallies' chunk says: for each group, chunk numbers and rows there, in turn."""
    return [[number for pair in tally for number in pair] for tally in tallies]


def _tallies_of(content: object, table: Table) -> tuple[_Tally, ...]:
    """Read tallies, and check that they add up.

    Raises:
        InvalidManifest: They don't.
    """
    wrong = InvalidManifest("chunk of tallies does not add up to the manifest's groups")
    if not isinstance(content, list) or len(content) != len(table.groups):
        raise wrong
    found = []
    filled = [0] * len(table.chunks)
    for flat, group in zip(content, table.groups, strict=True):
        if not isinstance(flat, list) or not all(type(item) is int for item in flat):
            raise wrong
        chunks, counts = flat[0::2], flat[1::2]
        if (
            len(chunks) != len(counts)
            or chunks != sorted(set(chunks))
            or any(not 0 <= number < len(table.chunks) for number in chunks)
            or any(not 0 < count <= MAX_CHUNK_ROWS for count in counts)
            or sum(counts) != group.count
        ):
            raise wrong
        for number, count in zip(chunks, counts, strict=True):
            filled[number] += count
        found.append(_Tally(chunks=array("I", chunks), ends=array("I", accumulate(counts))))
    if any(count != table.size for count in filled[:-1]):
        raise wrong
    return tuple(found)


def _weight(value: Value) -> int:
    return len(value) if isinstance(value, str) else VALUE_CHARS
