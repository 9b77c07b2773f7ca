"""Functions applied to every value of some fields, wherever in a sweep's values they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from shared.errors import InvalidSweep
from shared.sources import Fault, RowSource, ValueSource

Change = Callable[[object], object]
"""What becomes of one value; what the function does not know, it gives back."""
Changes = Mapping[str, Change]
"""By field."""


def change_values(values: Mapping[str, object], changes: Changes) -> dict[str, object]:
    """The values with every one of these fields changed, those in zip and rows too.

    Sources stay sources: what they hold is changed when it is read, and what a function refuses
    there is a fault of its row.

    Raises:
        InvalidSweep: A function refuses a value that is written out.
    """
    changed: dict[str, object] = {}
    for name, value in values.items():
        if name in changes:
            changed[name] = _values(value, changes[name])
        elif name == "zip":
            changed[name] = _groups(value, changes)
        elif name == "rows":
            changed[name] = _rows(value, changes)
        else:
            changed[name] = value
    return changed


def _values(value: object, change: Change) -> object:
    """All that a field is given: a list is an axis, a list in it is one of its values."""
    if isinstance(value, list | tuple):
        return [
            change(item) if isinstance(item, list | tuple) else _value(item, change)
            for item in value
        ]
    return _value(value, change)


def _value(value: object, change: Change) -> object:
    """One value, ``{fixed: ...}``, or a source of values."""
    if isinstance(value, Mapping) and set(value) == {"fixed"}:
        return {"fixed": change(value["fixed"])}
    if isinstance(value, ValueSource):
        return _ChangedValues(value, change, value.what, value.unit)
    return change(value)


def _groups(value: object, changes: Changes) -> object:
    """Fields that vary together, or a list of such."""
    if isinstance(value, list | tuple):
        return [_groups(item, changes) for item in value]
    if isinstance(value, Mapping):
        return {
            name: _values(item, changes[name]) if name in changes else item
            for name, item in value.items()
        }
    return value


def _rows(value: object, changes: Changes) -> object:
    """Rows that are written out, where every cell is one value, or a source of them."""
    if isinstance(value, RowSource):
        return _ChangedRows(value, changes, value.what)
    if isinstance(value, list | tuple):
        return [_row(row, changes) for row in value]
    return value


def _row(row: object, changes: Changes) -> object:
    if not isinstance(row, Mapping):
        return row
    return {name: changes[name](cell) if name in changes else cell for name, cell in row.items()}


def _cell(cell: object, change: Change) -> object:
    try:
        return change(cell)
    except InvalidSweep as exc:
        return Fault(exc)


@dataclass(frozen=True)
class _ChangedValues:
    """A source of values of one field."""

    source: ValueSource
    change: Change
    what: str
    unit: str

    def numbered(self) -> Iterator[tuple[int, object]]:
        for number, value in self.source.numbered():
            yield number, value if isinstance(value, Fault) else _cell(value, self.change)


@dataclass(frozen=True)
class _ChangedRows:
    """A source of rows, of which some columns may be changed."""

    source: RowSource
    changes: Changes
    what: str

    def header(self) -> Sequence[str]:
        return self.source.header()

    def rows(self) -> Iterator[Sequence[object] | Fault]:
        header = list(self.header())
        places = [(place, self.changes[n]) for place, n in enumerate(header) if n in self.changes]
        for cells in self.source.rows():
            if isinstance(cells, Fault) or not places:
                yield cells
                continue
            row = list(cells)
            for place, change in places:
                row[place] = _cell(row[place], change)
            faults = [cell for cell in row if isinstance(cell, Fault)]
            yield Fault("; ".join(faults)) if faults else row
