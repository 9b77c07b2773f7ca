"""A manifest's axes from a stranger's JSON: everything is checked, nothing is trusted."""

from __future__ import annotations

from collections.abc import Sequence

from shared.axis import Axis, make_axis
from shared.chunks import DIGEST, MAX_CHUNK_ROWS, ChunkSource
from shared.errors import InvalidManifest, InvalidSweep
from shared.fields import FIELDS, Value
from shared.groups import deciding_fields, group_key
from shared.json_values import check_field, json_object, json_value
from shared.mistakes import shown
from shared.ranges import MAX_JOBS, MAX_VALUES, checked_range
from shared.tables import RowGroup, Table


def read_axis(data: object, path: str, chunks: ChunkSource) -> Axis:
    """One item of the manifest's ``axes``.

    Args:
        path: Where it stands, for messages.
        chunks: Where the rows of a long axis are.

    Raises:
        InvalidManifest: One sentence with the path of the fault.
    """
    kinds = ("range", "columns", "chunks")
    if not isinstance(data, dict) or set(data) not in [{"fields", kind} for kind in kinds]:
        raise InvalidManifest(f"manifest: {path} needs fields and one of range, columns or chunks")
    names = data["fields"]
    if not isinstance(names, list) or not names:
        raise InvalidManifest(f"manifest: {path}.fields {shown(names)} is not a list of fields")
    for name in names:
        check_field(f"{path}.fields", name)
        if FIELDS[name].whole:
            raise InvalidManifest(
                f"manifest: {path}.fields has {name}, which is one value for the whole sweep: "
                f"write it into fixed"
            )
    if len(set(names)) < len(names):
        raise InvalidManifest(f"manifest: {path}.fields {shown(names)} has a field twice: keep one")
    if "range" in data:
        return Axis(fields=tuple(names), columns=(_range(data["range"], names, path),))
    if "chunks" in data:
        return Axis.of_table(_table(data["chunks"], names, f"{path}.chunks", chunks))
    columns = data["columns"]
    if (
        not isinstance(columns, list)
        or len(columns) != len(names)
        or not all(isinstance(column, list) for column in columns)
        or len({len(column) for column in columns}) != 1
        or not 0 < len(columns[0]) <= MAX_VALUES
    ):
        raise InvalidManifest(
            f"manifest: {path}.columns needs one list a field, of one length from 1 to {MAX_VALUES}"
        )
    checked: dict[str, Sequence[Value]] = {
        name: tuple(json_value(f"manifest: {path}.columns", name, value) for value in column)
        for name, column in zip(names, columns, strict=True)
    }
    if len(set(zip(*checked.values(), strict=True))) != len(columns[0]):
        raise InvalidManifest(f"manifest: {path} repeats a value: drop the repetition")
    return make_axis(checked)


def _table(data: object, names: list[str], path: str, chunks: ChunkSource) -> Table:
    body = json_object(data, path, {"size", "rows", "groups", "tallies"})
    if names != [name for name in FIELDS if name in names]:
        raise InvalidManifest(f"manifest: {path} has its fields in another order than the table's")
    size, rows, tallies = body["size"], body["rows"], body["tallies"]
    if type(size) is not int or not 0 < size <= MAX_CHUNK_ROWS:
        raise InvalidManifest(
            f"manifest: {path}.size {shown(size)} is not a whole number from 1 to {MAX_CHUNK_ROWS}"
        )
    if not isinstance(rows, list) or not all(_is_digest(item) for item in rows):
        raise InvalidManifest(f"manifest: {path}.rows is not a list of SHA-256 in hex digits")
    groups = _row_groups(body["groups"], deciding_fields(names), f"{path}.groups")
    count = sum(group.count for group in groups)
    if len(rows) != -(-count // size):
        raise InvalidManifest(f"manifest: {path} has {len(rows):,} chunks for {count:,} rows")
    if tallies is not None and not _is_digest(tallies):
        raise InvalidManifest(f"manifest: {path}.tallies is neither a SHA-256 nor null")
    if (tallies is None) != (len(groups) == 1):
        raise InvalidManifest(f"manifest: {path}.tallies is for several groups, null for one")
    return Table(
        fields=tuple(names),
        size=size,
        chunks=tuple(rows),
        groups=groups,
        tallies=tallies if isinstance(tallies, str) else None,
        source=chunks,
    )


def _row_groups(data: object, deciding: tuple[str, ...], path: str) -> tuple[RowGroup, ...]:
    if not isinstance(data, list) or not data:
        raise InvalidManifest(f"manifest: {path} is {shown(data)}, not a list of groups")
    groups = []
    for number, item in enumerate(data):
        here = f"{path}[{number}]"
        body = json_object(item, here, {"count", "values"})
        count, values = body["count"], body["values"]
        if type(count) is not int or not 0 < count <= MAX_JOBS:
            raise InvalidManifest(f"manifest: {here}.count {shown(count)} is not a count of rows")
        if not isinstance(values, list) or len(values) != len(deciding):
            wanted = ", ".join(deciding) or "no field"
            raise InvalidManifest(f"manifest: {here}.values needs a value of {wanted}")
        checked = tuple(
            json_value(f"manifest: {here}.values", name, value)
            for name, value in zip(deciding, values, strict=True)
        )
        groups.append(RowGroup(count=count, values=checked))
    if len({group_key(deciding, group.values) for group in groups}) < len(groups):
        raise InvalidManifest(f"manifest: {path} has two groups of one lane and recipe: join them")
    return tuple(groups)


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def _range(data: object, names: list[str], path: str) -> Sequence[Value]:
    if (
        not isinstance(data, list)
        or len(data) != 3
        or not all(isinstance(part, int) and not isinstance(part, bool) for part in data)
        or data[2] < 1
        or data[1] <= data[0]
        or len(names) != 1
        or FIELDS[names[0]].kind != "integer"
        or FIELDS[names[0]].decides != "row"
    ):
        raise InvalidManifest(
            f"manifest: {path}.range {shown(data)} is not [start, stop, step] of seed, rising"
        )
    try:
        return checked_range(names[0], range(*data))
    except InvalidSweep as exc:
        raise InvalidManifest(f"manifest: {path}.range: {exc}") from exc
