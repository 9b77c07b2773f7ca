"""A sweep's axes as their author writes them: fields, ``zip`` groups and ``rows``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from shared.axis import Axis
from shared.collecting import RowCollector, in_table_order
from shared.errors import InvalidSweep
from shared.field_values import check_value, check_whole
from shared.fields import FIELDS, REQUIRED, Value
from shared.mistakes import nearest, shown
from shared.ranges import MAX_VALUES, checked_range, parse_range
from shared.sources import Fault, Faults, RowSource, ValueSource

Spread = range | Iterator[Value]
"""All values of one field: a lazy range of seeds, or one after the other."""


def read_axes(values: Mapping[str, object], notes: list[str], *, repeat: int) -> list[Axis]:
    """Every field that is said, in axes of one value or more, in the author's order.

    Args:
        values: Fields, and the directives ``zip`` and ``rows``; others are passed over.
        notes: Takes a sentence for each axis with repeated values.
        repeat: Consecutive seeds for each seed.

    Raises:
        InvalidSweep: One sentence with field, value and remedy.
    """
    groups = _zip_groups(values["zip"]) if "zip" in values else []
    source = _row_source(values["rows"]) if "rows" in values else None
    header = tuple(source.header()) if source is not None else ()
    _check_said_once([name for name in values if name in FIELDS], groups, header, source)
    if repeat > 1 and ("seed" in header or any("seed" in group for group in groups)):
        raise InvalidSweep(
            "num_images_per_prompt makes consecutive seeds, but seed varies together with other "
            "fields: take one of them away",
            field="num_images_per_prompt",
            value=repeat,
        )
    axes: list[Axis] = []
    for name, value in values.items():
        if name in FIELDS:
            axis = _field_axis(name, value, notes)
            axes.append(_consecutive(axis, repeat, notes) if name == "seed" else axis)
        elif name == "zip":
            axes += [_zip_axis(group, notes) for group in groups]
        elif name == "rows" and source is not None:
            axes.append(_row_axis(source, header, notes))
    if repeat > 1 and "seed" not in values:
        axes.append(_consecutive(Axis(fields=("seed",), columns=((0,),)), repeat, notes))
    return axes


def _check_said_once(
    plain: list[str],
    groups: list[Mapping[str, object]],
    header: tuple[str, ...],
    source: RowSource | None,
) -> None:
    places = dict.fromkeys(plain, "as a field of its own")
    rows = [(name, f"as a column of {source.what if source else 'rows'}") for name in header]
    for name, place in [*((name, "in zip") for group in groups for name in group), *rows]:
        if name not in FIELDS:
            known = [*FIELDS]
            raise InvalidSweep(
                f"{shown(name)}, {place.removeprefix('as ')}, is not a field: "
                f"{nearest(str(name), known)}",
                field=str(name),
            )
        check_whole(name, place.removeprefix("in ").removeprefix("as "))
        if name in places:
            raise InvalidSweep(
                f"{name} is given twice, {places[name]} and {place}: keep one", field=name
            )
        places[name] = place
    for name in REQUIRED:
        if name not in places:
            raise InvalidSweep(f"{name} is missing: say which {name} to use", field=name)


def _field_axis(name: str, value: object, notes: list[str]) -> Axis:
    """The distinct values of one field."""
    spread = _spread(name, value)
    if isinstance(spread, range):
        return Axis(fields=(name,), columns=(spread,))
    collector = RowCollector((name,), name)
    for item in spread:
        collector.add((item,))
    if collector.kept > 1:
        check_whole(name, "a list")
    return _finished(collector, name, "value", notes)


def _finished(collector: RowCollector, what: str, noun: str, notes: list[str]) -> Axis:
    if collector.dropped:
        nouns = noun if collector.dropped == 1 else f"{noun}s"
        notes.append(
            f"{what}: {collector.dropped:,} repeated {nouns} dropped, {collector.kept:,} kept"
        )
    return collector.finish()


def _spread(name: str, value: object) -> Spread:
    """The values that a field is given, checked, ranges and sources unfolded."""
    if isinstance(value, range):
        checked = checked_range(name, value)
        return checked if isinstance(checked, range) else iter(checked)
    if not isinstance(value, list | tuple):
        return _item(name, value)
    if not value:
        raise InvalidSweep(
            f"{name} is an empty list: give at least one value", field=name, value=value
        )
    for item in value:
        if isinstance(item, list | tuple) and not FIELDS[name].structured:
            raise InvalidSweep(
                f"{name} has {shown(item)} inside a list: values are plain", field=name, value=item
            )
    if len(value) == 1:
        return _item(name, value[0])
    return chain.from_iterable(_item_values(name, item) for item in value)


def _item_values(name: str, item: object) -> Iterable[Value]:
    """One of several items of a list; its range is written out."""
    spread = _item(name, item)
    if isinstance(spread, range) and len(spread) > MAX_VALUES:
        raise InvalidSweep(
            f"{name} lists over {MAX_VALUES:,} values: split it over several sweeps, "
            f"or write seeds as one range",
            field=name,
        )
    return spread


def _item(name: str, item: object) -> Spread:
    if isinstance(item, ValueSource):
        return _source_values(name, item)
    if isinstance(item, Mapping) and not (FIELDS[name].structured and set(item) != {"fixed"}):
        if set(item) != {"fixed"}:
            raise InvalidSweep(
                f"{name} {shown(dict(item))} is a mapping: give a value, a list or a range, "
                f"and put quotes around a text with braces",
                field=name,
                value=item,
            )
        return iter((_fixed(name, item["fixed"]),))
    spread = parse_range(name, item) if isinstance(item, str) else None
    if spread is None:
        return iter((check_value(name, item),))
    return spread if isinstance(spread, range) else iter(spread)


def _fixed(name: str, value: object) -> Value:
    """The value in ``{fixed: ...}``: one value, whatever it looks like."""
    if isinstance(value, list | tuple | Mapping) and not FIELDS[name].structured:
        raise InvalidSweep(
            f"{name} {{fixed: {shown(value)}}} is a list as one value: {name} takes none; "
            f"without 'fixed' a list is an axis",
            field=name,
            value=value,
        )
    return check_value(name, value)


def _source_values(name: str, source: ValueSource) -> Iterator[Value]:
    faults = Faults(source.what)
    for number, value in source.numbered():
        if isinstance(value, Fault):
            faults.add(f"{source.unit} {number:,}: {value}")
            continue
        try:
            yield check_value(name, value)
        except InvalidSweep as exc:
            faults.add(f"{source.unit} {number:,}: {exc}")
    faults.raise_any()


def _consecutive(axis: Axis, repeat: int, notes: list[str]) -> Axis:
    """Each seed followed by the next ``repeat - 1`` seeds."""
    (seeds,) = axis.columns
    if repeat == 1:
        return axis
    starts = [seed for seed in (seeds[0], seeds[-1]) if isinstance(seed, int)]
    check_value("seed", max(starts) + repeat - 1)
    if isinstance(seeds, range) and seeds.step <= repeat:
        merged = range(seeds.start, seeds[-1] + repeat)
        overlap = len(seeds) * repeat - len(merged)
        if overlap:
            notes.append(f"seed: {overlap:,} repeated values dropped, {len(merged):,} kept")
        return Axis(fields=("seed",), columns=(merged,))
    if len(seeds) == 1 and isinstance(seeds[0], int):
        return Axis(fields=("seed",), columns=(range(seeds[0], seeds[0] + repeat),))
    count = len(seeds) * repeat
    if count > MAX_VALUES:
        raise InvalidSweep(
            f"num_images_per_prompt {repeat} makes {count:,} seeds of {len(seeds):,}: "
            f"at most {MAX_VALUES:,}, or write the seeds as one range",
            field="num_images_per_prompt",
            value=repeat,
        )
    collector = RowCollector(("seed",), "seed")
    for seed in seeds:
        for extra in range(repeat if isinstance(seed, int) else 0):
            assert isinstance(seed, int)  # a seed is never null
            collector.add((check_value("seed", seed + extra),))
    return _finished(collector, "seed", "value", notes)


def _zip_groups(value: object) -> list[Mapping[str, object]]:
    groups: list[Mapping[str, object]] = []
    for group in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(group, Mapping) or not group:
            raise InvalidSweep(
                f"zip {shown(group)} is not a mapping: write fields that vary together, each with "
                f"a list of one length",
                field="zip",
                value=group,
            )
        groups.append(group)
    return groups


def _zip_axis(group: Mapping[str, object], notes: list[str]) -> Axis:
    """Fields that vary together: the first values, the second values, and so on."""
    columns: dict[str, Sequence[Value]] = {}
    for name, value in group.items():
        spread = _spread(name, value)
        columns[name] = spread if isinstance(spread, range) else tuple(spread)
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        counted = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise InvalidSweep(
            f"zip has lists of different lengths ({counted}): give each as many values",
            field="zip",
        )
    fields = in_table_order(tuple(columns))
    what = f"zip of {', '.join(group)}"
    collector = RowCollector(fields, what)
    for row in zip(*(columns[name] for name in fields), strict=True):
        collector.add(row)
    return _finished(collector, what, "tuple", notes)


class _InlineRows:
    """Rows written into the sweep itself: a list of mappings."""

    what = "rows"

    def __init__(self, rows: Sequence[Mapping[str, object]]) -> None:
        self._rows = rows

    def header(self) -> Sequence[str]:
        return tuple(self._rows[0])

    def rows(self) -> Iterator[Sequence[object] | Fault]:
        header = self.header()
        for row in self._rows:
            yield row_cells(header, row)


def row_cells(header: Sequence[str], row: Mapping[str, object]) -> Sequence[object] | Fault:
    """A row's cells in the order of the header, or what is wrong with its columns."""
    missing = [name for name in header if name not in row]
    extra = [name for name in row if name not in header]
    if missing:
        return Fault(f"{' and '.join(missing)} is missing")
    if extra:
        return Fault(f"{shown(extra[0])} is extra, the first row has no such column")
    return [row[name] for name in header]


def _row_source(value: object) -> RowSource:
    if isinstance(value, RowSource):
        return value
    if not isinstance(value, list | tuple):
        raise InvalidSweep(
            f"rows {shown(value)} is neither a file nor a list: write rows: jobs.csv",
            field="rows",
            value=value,
        )
    if not value:
        raise InvalidSweep("rows is an empty list: give at least one row", field="rows")
    for number, row in enumerate(value, 1):
        if not isinstance(row, Mapping) or not row:
            raise InvalidSweep(
                f"rows has {shown(row)} as row {number}: a row is a mapping of fields",
                field="rows",
                value=row,
            )
    return _InlineRows(value)


def _row_axis(source: RowSource, header: tuple[str, ...], notes: list[str]) -> Axis:
    """A job a row, as far as the row says."""
    fields = in_table_order(header)
    places = [header.index(name) for name in fields]
    collector = RowCollector(fields, source.what)
    faults = Faults(source.what)
    number = 0
    for number, cells in enumerate(source.rows(), 1):
        if isinstance(cells, Fault):
            faults.add(f"row {number:,}: {cells}")
            continue
        try:
            row = tuple(
                check_value(name, cells[place]) for name, place in zip(fields, places, strict=True)
            )
        except InvalidSweep:
            for name, place in zip(fields, places, strict=True):
                _note_fault(faults, number, name, cells[place])
        else:
            collector.add(row)
    faults.raise_any()
    if not number:
        raise InvalidSweep(f"{source.what} has no rows: write at least one", field="rows")
    return _finished(collector, source.what, "row", notes)


def _note_fault(faults: Faults, number: int, name: str, cell: object) -> None:
    try:
        check_value(name, cell)
    except InvalidSweep as exc:
        faults.add(f"row {number:,}, column {name}: {exc}")
