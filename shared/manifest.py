"""The sweep in its canonical, compact, versioned JSON form: what Redis holds and workers read."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from shared.canonical import canonical_json, sha256_hex
from shared.chunks import DIGEST, MAX_CHUNK_ROWS, ChunkSource
from shared.errors import InvalidManifest, InvalidSweep
from shared.fields import FIELDS, REQUIRED, Value, nearest, shown
from shared.groups import deciding_fields, group_key
from shared.json_values import json_value
from shared.object_keys import DEFAULT_TEMPLATE, check_template
from shared.ranges import MAX_JOBS, MAX_VALUES, checked_range, compact
from shared.tables import RowGroup, Table, TableColumn

SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 16 * 2**20
"""Bounds what one worker parses to serve one sweep."""
FORMATS = ("png",)
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")


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

        Of ``guidance_scale`` in a table that is one value above 1 and one that is not.
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


@dataclass(frozen=True, kw_only=True)
class Output:
    """How and where images are stored.

    Attributes:
        format: ``"png"``.
        key: Template of the object's key; holds ``{digest}``, see `shared.object_keys`.
    """

    format: str = "png"
    key: str = DEFAULT_TEMPLATE


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A whole sweep, valid by construction through `parse_manifest` or `shared.sweep.Sweep`.

    Attributes:
        name: Part of the sweep's id.
        fixed: Every field that is in no axis, defaults filled in.
        axes: In the user's order; the last varies fastest.
        output: Format and key template.
        reuse: Whether an image already stored is taken instead of rendered again.
    """

    name: str
    fixed: dict[str, Value]
    axes: tuple[Axis, ...]
    output: Output = field(default_factory=Output)
    reuse: bool = True

    @property
    def total(self) -> int:
        """How many jobs: the product of the axes' lengths."""
        return math.prod(len(axis) for axis in self.axes)

    @cached_property
    def text(self) -> str:
        """Canonical JSON: the sweep's identity is its SHA-256."""
        return canonical_json(
            {
                "seedbed": SCHEMA_VERSION,
                "name": self.name,
                "fixed": self.fixed,
                "axes": [axis.to_json() for axis in self.axes],
                "output": {"format": self.output.format, "key": self.output.key},
                "reuse": self.reuse,
            }
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        return sha256_hex(self.text)

    @property
    def sweep_id(self) -> str:
        """The name's slug and the digest's first 12 hex digits."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        return f"{slug or 'sweep'}-{self.digest[:12]}"

    @property
    def tables(self) -> tuple[Table, ...]:
        """What keeps the values of its long axes."""
        return tuple(axis.table for axis in self.axes if axis.table is not None)

    @property
    def fields_by_axis(self) -> tuple[str, ...]:
        """Every field that varies, in axis order."""
        return tuple(name for axis in self.axes for name in axis.fields)


def check_name(name: object) -> str:
    """Validate a sweep's name.

    Raises:
        InvalidSweep: It is not 1 to 64 plain characters.
    """
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise InvalidSweep(
            f"name {shown(name)} is not a name: 1 to 64 letters, digits, spaces, '.', '_' or '-', "
            f"a letter or digit first",
            field="name",
            value=name,
        )
    return name


def check_totals(manifest: Manifest) -> None:
    """Refuse a sweep too large for the queue or for one manifest.

    Raises:
        InvalidSweep: It names the number and what to do instead.
    """
    if manifest.total > MAX_JOBS:
        sizes = " x ".join(f"{len(axis):,} {'+'.join(axis.fields)}" for axis in manifest.axes)
        raise InvalidSweep(
            f"the sweep has {manifest.total:,} jobs ({sizes}): at most {MAX_JOBS:,} are allowed, "
            f"split it into several sweeps"
        )
    size = len(manifest.text.encode())
    if size > MAX_MANIFEST_BYTES:
        raise InvalidSweep(
            f"the sweep's manifest is {size:,} bytes: at most {MAX_MANIFEST_BYTES:,} are allowed, "
            f"split its longest list over several sweeps"
        )


def parse_manifest(text: str, chunks: ChunkSource | None = None) -> Manifest:
    """Read a manifest from a stranger: everything is checked, nothing is trusted.

    Args:
        chunks: Where the rows of its long axes are, for who wants to look at its jobs.

    What is valid but not in canonical form (key order, ``5.0``, an axis of one value, evenly
    rising seeds as a list) is taken as if it were, so its digest is that of the canonical form.

    Raises:
        InvalidManifest: One sentence with the path of the fault.
    """
    if len(text) > MAX_MANIFEST_BYTES:
        raise InvalidManifest(
            f"manifest: {len(text):,} characters, at most {MAX_MANIFEST_BYTES:,} bytes are allowed"
        )
    try:
        data = json.loads(text, object_pairs_hook=_members, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise InvalidManifest(f"manifest: not JSON ({exc})") from exc
    try:
        manifest = _manifest(data, chunks or _NoChunks())
        check_totals(manifest)
    except InvalidSweep as exc:
        raise InvalidManifest(f"manifest: {exc}") from exc
    return manifest


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object's members; of two alike, readers would not agree which one counts."""
    members: dict[str, object] = {}
    for name, value in pairs:
        if name in members:
            raise InvalidManifest(f"manifest: member {shown(name)} is given twice: keep one")
        members[name] = value
    return members


def _refuse_constant(token: str) -> object:
    raise InvalidManifest(f"manifest: {token} is not JSON: numbers are finite")


def _manifest(data: object, chunks: ChunkSource) -> Manifest:
    if isinstance(data, dict) and "seedbed" in data:
        _check_version(data["seedbed"])  # first: another version has other members
    body = _object(data, "it", {"seedbed", "name", "fixed", "axes", "output", "reuse"})
    fixed = body["fixed"]
    if not isinstance(fixed, dict):
        raise InvalidManifest(f"manifest: fixed is {shown(fixed)}, not an object")
    if not isinstance(body["axes"], list):
        raise InvalidManifest(f"manifest: axes is {shown(body['axes'])}, not a list")
    for name in fixed:
        _check_field("fixed", name)
    values = {
        name: json_value(f"manifest: fixed.{name}", name, value) for name, value in fixed.items()
    }
    axes = tuple(_axis(item, f"axes[{number}]", chunks) for number, item in enumerate(body["axes"]))
    _check_coverage(list(values), axes)
    for axis in axes:
        if len(axis) == 1 and axis.table is not None:
            raise InvalidManifest("manifest: a single row is kept in a chunk: write it into fixed")
        if len(axis) == 1:
            values |= axis.values(0)
    if not isinstance(body["reuse"], bool):
        raise InvalidManifest(f"manifest: reuse {shown(body['reuse'])} is not true or false")
    return Manifest(
        name=check_name(body["name"]),
        fixed=values,
        axes=tuple(axis for axis in axes if len(axis) > 1),
        output=_output(body["output"]),
        reuse=body["reuse"],
    )


def _check_version(version: object) -> None:
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise InvalidManifest(
            f"manifest: seedbed is {shown(version)}, this version reads {SCHEMA_VERSION}: "
            f"upgrade the older side"
        )


def _object(data: object, path: str, names: set[str]) -> dict[str, object]:
    if not isinstance(data, dict):
        raise InvalidManifest(f"manifest: {path} is {shown(data)}, not an object")
    for name in data:
        if name not in names:
            hint = nearest(name, sorted(names))
            raise InvalidManifest(f"manifest: {path} has a member {shown(name)}: {hint}")
    missing = sorted(names - set(data))
    if missing:
        raise InvalidManifest(f"manifest: {path} has no {' and no '.join(missing)}: add it")
    return data


def _output(data: object) -> Output:
    output = _object(data, "output", {"format", "key"})
    if output["format"] not in FORMATS:
        raise InvalidManifest(f"manifest: output.format {shown(output['format'])} is not 'png'")
    if not isinstance(output["key"], str):
        raise InvalidManifest(f"manifest: output.key {shown(output['key'])} is not a text")
    return Output(format=str(output["format"]), key=check_template(output["key"]))


def _check_field(path: str, name: object) -> None:
    if not isinstance(name, str) or name not in FIELDS:
        hint = nearest(name if isinstance(name, str) else "", list(FIELDS))
        raise InvalidManifest(f"manifest: {path} has {shown(name)}, which is not a field: {hint}")


def _axis(data: object, path: str, chunks: ChunkSource) -> Axis:
    kinds = ("range", "columns", "chunks")
    if not isinstance(data, dict) or set(data) not in [{"fields", kind} for kind in kinds]:
        raise InvalidManifest(f"manifest: {path} needs fields and one of range, columns or chunks")
    names = data["fields"]
    if not isinstance(names, list) or not names:
        raise InvalidManifest(f"manifest: {path}.fields {shown(names)} is not a list of fields")
    for name in names:
        _check_field(f"{path}.fields", name)
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


def make_axis(columns: Mapping[str, Sequence[Value]]) -> Axis:
    """An axis of distinct values in its one canonical form."""
    names = tuple(name for name in FIELDS if name in columns)
    if len(names) == 1:
        return Axis(fields=names, columns=(compact(names[0], columns[names[0]]),))
    return Axis(fields=names, columns=tuple(columns[name] for name in names))


class _NoChunks:
    """Where nobody said where the chunks are."""

    def body(self, digest: str) -> bytes:
        raise InvalidManifest(f"chunk {digest[:12]} can't be read here: no storage was named")


def _table(data: object, names: list[str], path: str, chunks: ChunkSource) -> Table:
    body = _object(data, path, {"size", "rows", "groups", "tallies"})
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
        body = _object(item, here, {"count", "values"})
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


def _check_coverage(fixed: list[str], axes: tuple[Axis, ...]) -> None:
    """Every field must be said exactly once."""
    said = fixed + [name for axis in axes for name in axis.fields]
    for name in FIELDS:
        if said.count(name) > 1:
            raise InvalidManifest(f"manifest: {name} is given twice: keep one")
        if name not in said:
            kind = "required" if name in REQUIRED else "every field is said, defaults too"
            raise InvalidManifest(f"manifest: {name} is in neither fixed nor axes: {kind}")
