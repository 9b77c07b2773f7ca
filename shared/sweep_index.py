"""A sweep's index: a row for each image made and each job given up, and the pointer to it.

The index lies under ``sweeps/<id>/index/<version>/`` as Parquet and as JSON Lines, in the user's
order. Each writing has a version of its own and is never changed; ``sweeps/<id>/index.json`` names
the latest whole one and is written last. docs/index.md is the reader's page.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Literal

from shared.canonical import canonical_json
from shared.errors import StorageError
from shared.fields import FIELDS, Value

POINTER_VERSION = 1
FORMATS = ("parquet", "jsonl")
CONTENT_TYPES = {"parquet": "application/vnd.apache.parquet", "jsonl": "application/x-ndjson"}
DONE, DEAD = "done", "dead"
"""States of a row; jobs that were cancelled have none."""
VERSION = re.compile(r"v([0-9]{1,9})-[0-9a-z]{1,32}")

ColumnType = Literal["integer", "number", "text", "boolean"]

LEADING: dict[str, ColumnType] = {"index": "integer", "state": "text"}
"""Columns before the fields of a job."""
TRAILING: dict[str, ColumnType] = {
    "reason": "text",
    "key": "text",
    "digest": "text",
    "bytes": "integer",
    "reused": "boolean",
    "flagged": "boolean",
    "seconds": "number",
    "worker": "text",
    "receipt": "text",
}
"""Columns after them."""


def field_type(name: str) -> ColumnType:
    """The column type of one field of a job; what is no scalar is JSON text."""
    kind = FIELDS[name].kind
    if kind == "flag":
        return "boolean"
    return "integer" if kind == "integer" else "number" if kind == "number" else "text"


COLUMNS: dict[str, ColumnType] = {
    **LEADING,
    **{name: field_type(name) for name in FIELDS},
    **TRAILING,
}
"""All columns of the Parquet file, in order. The JSON Lines leave out fields that do not vary."""


def field_cell(name: str, value: object) -> Value:
    """A field's value as its column takes it."""
    kind = field_type(name)
    if value is None or (kind == "boolean" and isinstance(value, bool)):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if kind == "number" and isinstance(value, int | float):
        return float(value)
    if kind == "integer" and isinstance(value, int):
        return value
    return value if isinstance(value, str) else canonical_json(value)


def pointer_key(sweep_id: str) -> str:
    """Where the pointer lies."""
    return f"sweeps/{sweep_id}/index.json"


def versions_prefix(sweep_id: str) -> str:
    """What the keys of all versions begin with."""
    return f"sweeps/{sweep_id}/index/"


def index_key(sweep_id: str, version: str, form: str) -> str:
    """Where one file of one version lies."""
    return f"{versions_prefix(sweep_id)}{version}/index.{form}"


def version_number(version: str) -> int:
    """``v12-0af3...`` is 12; anything else 0."""
    found = VERSION.fullmatch(version)
    return int(found[1]) if found else 0


@dataclass(frozen=True, kw_only=True)
class IndexFile:
    """One file of an index: its object's key, its size in bytes and its SHA-256."""

    key: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class IndexPointer:
    """Which index of a sweep is the latest whole one, and what it holds.

    Attributes:
        sweep_id: The sweep.
        version: ``v<number>-<token>``; numbers rise from one writing to the next.
        epoch: The sweep's when it was written.
        at: When, UTC, ISO 8601.
        cancelled: Jobs that were neither made nor given up have no row.
        total: Jobs of the sweep.
        rows: Rows of each file.
        done: Rows of images.
        dead: Rows of jobs that were given up.
        missing: Images that were made and are gone; no rows. Only a cancelled sweep has any.
        fixed: Fields that do not vary, as the sweep's author gave them.
        columns: Of the Parquet file, in order.
        parquet: The Parquet file.
        jsonl: The JSON Lines.
    """

    sweep_id: str
    version: str
    epoch: int
    at: str
    cancelled: bool
    total: int
    rows: int
    done: int
    dead: int
    missing: int
    fixed: dict[str, Value]
    columns: tuple[str, ...]
    parquet: IndexFile
    jsonl: IndexFile

    @property
    def number(self) -> int:
        """Of the version."""
        return version_number(self.version)

    def to_text(self) -> str:
        """Canonical JSON."""
        return canonical_json({"seedbed": POINTER_VERSION, **asdict(self)})

    @classmethod
    def from_text(cls, text: str) -> IndexPointer:
        """Read a pointer.

        Raises:
            StorageError: It is not one of this version.
        """
        try:
            data = json.loads(text)
            if data.pop("seedbed") != POINTER_VERSION:
                raise ValueError("another version")
            files = {form: IndexFile(**data.pop(form)) for form in FORMATS}
            pointer = cls(**data | files | {"columns": tuple(data["columns"])})
            if not pointer.number:
                raise ValueError("no version number")
        except (AttributeError, KeyError, TypeError, ValueError) as exc:
            raise StorageError(f"the index's pointer can't be read: {exc}") from exc
        return pointer
