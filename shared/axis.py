"""An axis: values that multiply with the other axes of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.fields import FIELDS, Value
from shared.ranges import compact
from shared.tables import Table, TableColumn


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Values that multiply with the other axes; several fields when they vary together.

    Attributes:
        fields: Job fields, each in no other axis.
        columns: One sequence a field, all of one length; a ``range`` is never listed, and those
            of a table are read when they are asked for.
    """

    fields: tuple[str, ...]
    columns: tuple[Sequence[Value], ...]

    def __len__(self) -> int:
        return len(self.columns[0])

    def values(self, number: int) -> dict[str, Value]:
        """The fields of value ``number``, 0 <= number < len(axis)."""
        return {
            name: column[number] for name, column in zip(self.fields, self.columns, strict=True)
        }

    @classmethod
    def of_table(cls, table: Table) -> Axis:
        """An axis whose values are kept in chunks."""
        columns = tuple(TableColumn(table, number) for number in range(len(table.fields)))
        return cls(fields=table.fields, columns=columns)

    @property
    def table(self) -> Table | None:
        """What keeps its values in chunks; None where the manifest has them all."""
        first = self.columns[0]
        return first.table if isinstance(first, TableColumn) else None

    def distinct(self, name: str) -> Sequence[Value]:
        """A field's different values, read from no chunk where the field decides lane or recipe.

        Of ``guidance_scale`` in a table that is one value above 1 and one that is not; of
        ``init_image``, one that is given and null.
        """
        if self.table is not None and name in self.table.deciding:
            place = self.table.deciding.index(name)
            return tuple(dict.fromkeys(group.values[place] for group in self.table.groups))
        return self.columns[self.fields.index(name)]

    def to_json(self) -> dict[str, object]:
        """The axis as the manifest writes it."""
        if self.table is not None:
            return {"fields": list(self.fields), "chunks": self.table.to_json()}
        (first, *others) = self.columns
        if isinstance(first, range) and not others:
            return {"fields": list(self.fields), "range": [first.start, first.stop, first.step]}
        return {"fields": list(self.fields), "columns": [list(column) for column in self.columns]}


def make_axis(columns: Mapping[str, Sequence[Value]]) -> Axis:
    """An axis of distinct values in its one canonical form."""
    names = tuple(name for name in FIELDS if name in columns)
    if len(names) == 1:
        return Axis(fields=names, columns=(compact(names[0], columns[names[0]]),))
    return Axis(fields=names, columns=tuple(columns[name] for name in names))
