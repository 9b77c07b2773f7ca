"""Distinct rows become an axis: written out while they are few, in chunks when they are many."""

from __future__ import annotations

from array import array
from collections import Counter
from hashlib import blake2b

from shared.axis import Axis, make_axis
from shared.chunk_spool import ChunkSpool
from shared.chunks import CHUNK_ROWS, INLINE_CHARS, INLINE_VALUES, columns_of, pack_chunk
from shared.errors import InvalidSweep
from shared.fields import FIELDS, Value
from shared.groups import deciding_fields, group_key
from shared.layout import MAX_BLOCKS
from shared.tables import RowGroup, Table, tallies_content

MAX_ROWS = 10_000_000
"""Of one axis: telling repeated rows takes about 100 bytes of memory each."""


class RowCollector:
    """Takes rows one by one and keeps those that are new.

    Attributes:
        fields: In the order that rows have here, whatever it was in their source.
        kept: How many were new.
        dropped: How many were not.
    """

    def __init__(self, fields: tuple[str, ...], what: str) -> None:
        self.fields = fields
        self.kept = 0
        self.dropped = 0
        self._what = what
        self._seen: set[bytes] = set()
        self._chars = 0
        self._rows: list[tuple[Value, ...]] = []
        self._spool: ChunkSpool | None = None
        self._chunks: list[str] = []
        self._deciding = deciding_fields(fields)
        self._places = [fields.index(name) for name in self._deciding]
        self._groups: dict[tuple[object, ...], int] = {}
        self._first: list[tuple[Value, ...]] = []
        # tallies[group]: number of a chunk, rows of the group in it, and so on
        self._tallies: list[list[tuple[int, int]]] = []
        self._seeds = array("Q") if fields == ("seed",) else None

    def add(self, row: tuple[Value, ...]) -> None:
        """Take a row of checked values.

        Raises:
            InvalidSweep: There are too many, or they lead to too many lanes and recipes.
        """
        key = blake2b(repr(row).encode(), digest_size=16).digest()
        if key in self._seen:
            self.dropped += 1
            return
        if self.kept == MAX_ROWS:
            raise InvalidSweep(
                f"{self._what} has over {MAX_ROWS:,} values: split it over several sweeps, "
                f"or write seeds as one range"
            )
        self._seen.add(key)
        self.kept += 1
        self._rows.append(row)
        self._chars += sum(len(value) for value in row if isinstance(value, str))
        if self._seeds is not None and isinstance(row[0], int):
            self._seeds.append(row[0])
        if self._is_long():
            while len(self._rows) >= CHUNK_ROWS:
                self._write(self._rows[:CHUNK_ROWS])
                del self._rows[:CHUNK_ROWS]

    def finish(self) -> Axis:
        """The axis of all rows that were kept."""
        self._seen.clear()
        if self._seeds is not None:
            even = make_axis({"seed": self._seeds})
            if isinstance(even.columns[0], range):
                return even
        if not self._is_long():
            columns = zip(*self._rows, strict=True)
            return make_axis(dict(zip(self.fields, columns, strict=True)))
        if self._rows:
            self._write(self._rows)
        spool = self._open_spool()
        tallies = None
        if len(self._groups) > 1:
            tallies, body = pack_chunk(tallies_content(self._tallies))
            spool.add(tallies, body)
        groups = (
            RowGroup(count=sum(count for _, count in tally), values=first)
            for tally, first in zip(self._tallies, self._first, strict=True)
        )
        return Axis.of_table(
            Table(
                fields=self.fields,
                size=CHUNK_ROWS,
                chunks=tuple(self._chunks),
                groups=tuple(groups),
                tallies=tallies,
                source=spool,
            )
        )

    def _is_long(self) -> bool:
        return self.kept > INLINE_VALUES or (self._chars > INLINE_CHARS and self.kept > 1)

    def _write(self, rows: list[tuple[Value, ...]]) -> None:
        counts = Counter(self._group_of(row) for row in rows)
        for group, count in counts.items():
            self._tallies[group].append((len(self._chunks), count))
        digest, body = pack_chunk(columns_of(rows))
        self._open_spool().add(digest, body)
        self._chunks.append(digest)

    def _group_of(self, row: tuple[Value, ...]) -> int:
        values = tuple(row[place] for place in self._places)
        key = group_key(self._deciding, values)
        number = self._groups.get(key)
        if number is None:
            number = self._groups[key] = len(self._groups)
            if number == MAX_BLOCKS:
                raise InvalidSweep(
                    f"{self._what} has over {MAX_BLOCKS:,} combinations of "
                    f"{', '.join(self._deciding)}: split it into several sweeps"
                )
            self._first.append(values)
            self._tallies.append([])
        return number

    def _open_spool(self) -> ChunkSpool:
        if self._spool is None:
            self._spool = ChunkSpool()
        return self._spool


def in_table_order(names: tuple[str, ...]) -> tuple[str, ...]:
    """The fields as axes have them: one order for all ways to write them."""
    return tuple(name for name in FIELDS if name in names)
