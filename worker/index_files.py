"""An index's rows as two files: Parquet for engines, JSON Lines for everything else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shared.fields import FIELDS, Value
from shared.sweep_index import COLUMNS, DEAD, DONE, FORMATS, ColumnType

ROWS_AT_ONCE = 16_384
"""Rows of one row group: what is in memory, and what a reader can skip."""
ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "integer": pa.int64(),
    "number": pa.float64(),
    "text": pa.string(),
    "boolean": pa.bool_(),
}
SCHEMA = pa.schema([(name, ARROW_TYPES[kind]) for name, kind in COLUMNS.items()])


@dataclass(frozen=True, kw_only=True)
class WrittenIndex:
    """The files, by format, and how many rows of each state each of them has."""

    paths: dict[str, Path]
    done: int
    dead: int

    def sha256(self, form: str) -> str:
        """64 hex digits of one file."""
        with self.paths[form].open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def write_index(
    rows: Iterable[dict[str, Value]], folder: Path, *, varying: Collection[str]
) -> WrittenIndex:
    """Write both files, a row group at a time.

    Args:
        rows: With every column, in order.
        varying: Fields that the JSON Lines have; the others are in the pointer.

    Raises:
        OSError: The disk is full.
    """
    paths = {form: folder / f"index.{form}" for form in FORMATS}
    spared = {name for name in FIELDS if name not in varying}
    counts = {DONE: 0, DEAD: 0}
    source = iter(rows)
    with ExitStack() as stack:
        parquet = stack.enter_context(
            pq.ParquetWriter(paths["parquet"], SCHEMA, compression="zstd")
        )
        lines = stack.enter_context(paths["jsonl"].open("w", encoding="utf-8", newline="\n"))
        while chunk := list(islice(source, ROWS_AT_ONCE)):
            columns = {name: [row[name] for row in chunk] for name in COLUMNS}
            parquet.write_batch(pa.RecordBatch.from_pydict(columns, schema=SCHEMA))
            for row in chunk:
                counts[str(row["state"])] += 1
                line = {name: value for name, value in row.items() if name not in spared}
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
    return WrittenIndex(paths=paths, done=counts[DONE], dead=counts[DEAD])
