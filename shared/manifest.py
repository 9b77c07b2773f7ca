"""The sweep in its canonical, compact, versioned JSON form: what Redis holds and workers read."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from dataclasses import field as attribute
from functools import cached_property

from shared.axis import Axis
from shared.bounded_json import read_json
from shared.canonical import canonical_json, sha256_hex
from shared.chunks import ChunkSource
from shared.errors import InvalidManifest, InvalidSweep
from shared.fields import FIELDS, REQUIRED, Value
from shared.json_values import check_field, json_object, json_value
from shared.manifest_axes import read_axis
from shared.mistakes import shown
from shared.object_keys import DEFAULT_TEMPLATE, check_template
from shared.ranges import MAX_JOBS
from shared.tables import Table

SCHEMA_VERSION = 1
MAX_MANIFEST_BYTES = 16 * 2**20
"""Bounds what one worker parses to serve one sweep."""
FORMATS = ("png",)
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")


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
        fixed: Every field that is in no axis, defaults filled in; of those that came after the
            first version, the text has only what is not null.
        axes: In the user's order; the last varies fastest.
        output: Format and key template.
        reuse: Whether an image already stored is taken instead of rendered again.
    """

    name: str
    fixed: dict[str, Value]
    axes: tuple[Axis, ...]
    output: Output = attribute(default_factory=Output)
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
                "fixed": {
                    name: value
                    for name, value in self.fixed.items()
                    if value is not None or not FIELDS[name].added
                },
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
    data = read_json(text, "manifest")
    try:
        manifest = _manifest(data, chunks or _NoChunks())
        check_totals(manifest)
    except InvalidSweep as exc:
        raise InvalidManifest(f"manifest: {exc}") from exc
    return manifest


def _manifest(data: object, chunks: ChunkSource) -> Manifest:
    if isinstance(data, dict) and "seedbed" in data:
        _check_version(data["seedbed"])  # first: another version has other members
    body = json_object(data, "it", {"seedbed", "name", "fixed", "axes", "output", "reuse"})
    fixed = body["fixed"]
    if not isinstance(fixed, dict):
        raise InvalidManifest(f"manifest: fixed is {shown(fixed)}, not an object")
    if not isinstance(body["axes"], list):
        raise InvalidManifest(f"manifest: axes is {shown(body['axes'])}, not a list")
    for name in fixed:
        check_field("fixed", name)
    values = {
        name: json_value(f"manifest: fixed.{name}", name, value) for name, value in fixed.items()
    }
    axes = tuple(
        read_axis(item, f"axes[{number}]", chunks) for number, item in enumerate(body["axes"])
    )
    varying = {name for axis in axes for name in axis.fields}
    for name, field in FIELDS.items():
        if field.added and name not in varying:
            values.setdefault(name, None)
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


def _output(data: object) -> Output:
    output = json_object(data, "output", {"format", "key"})
    if output["format"] not in FORMATS:
        raise InvalidManifest(f"manifest: output.format {shown(output['format'])} is not 'png'")
    if not isinstance(output["key"], str):
        raise InvalidManifest(f"manifest: output.key {shown(output['key'])} is not a text")
    return Output(format=str(output["format"]), key=check_template(output["key"]))


class _NoChunks:
    """Where nobody said where the chunks are."""

    def body(self, digest: str) -> bytes:
        raise InvalidManifest(f"chunk {digest[:12]} can't be read here: no storage was named")


def _check_coverage(fixed: list[str], axes: tuple[Axis, ...]) -> None:
    """Every field must be said exactly once."""
    said = fixed + [name for axis in axes for name in axis.fields]
    for name in FIELDS:
        if said.count(name) > 1:
            raise InvalidManifest(f"manifest: {name} is given twice: keep one")
        if name not in said:
            kind = "required" if name in REQUIRED else "every field is said, defaults too"
            raise InvalidManifest(f"manifest: {name} is in neither fixed nor axes: {kind}")
