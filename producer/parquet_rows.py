"""Rows of a Parquet file: the only file that knows pyarrow's reader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import InvalidSweep
from shared.fields import FIELDS
from shared.mistakes import nearest, shown

if TYPE_CHECKING:
    from pyarrow import DataType
    from pyarrow.parquet import ParquetFile

BATCH_ROWS = 1_000
"""Rows decoded at a time."""


class ParquetRows:
    """Rows of a Parquet file; its columns must be of their fields' types.

    Attributes:
        what: The file as the author named it.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.what = what
        self._path = path

    def header(self) -> Sequence[str]:
        """The columns' names."""
        with self._open() as file:
            return list(file.schema_arrow.names)

    def rows(self) -> Iterator[Sequence[object]]:
        """Each row's cells."""
        header = self.header()
        return self._cells({name: name for name in header})

    def column(self, name: str, field: str) -> Iterator[object]:
        """Each row's cell in one column; the others are not read."""
        header = self.header()
        if name not in header:
            raise InvalidSweep(
                f"{self.what} has no column {shown(name)}: {nearest(name, list(header))}"
            )
        for (cell,) in self._cells({name: field}):
            yield cell

    def _cells(self, fields: dict[str, str]) -> Iterator[tuple[object, ...]]:
        """Rows of these columns, each of them values of a field."""
        from pyarrow import ArrowException

        with self._open() as file:
            for name, field in fields.items():
                self._check_type(name, field, file.schema_arrow.field(name).type)
            try:
                for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(fields)):
                    columns = [batch.column(name).to_pylist() for name in fields]
                    yield from zip(*columns, strict=True)
            except (ArrowException, OSError, ValueError) as exc:
                raise self._broken(exc) from exc

    def _open(self) -> ParquetFile:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            if self._path.exists() and not self._path.stat().st_size:
                raise InvalidSweep(f"{self.what} is empty: write at least one row")
            return ParquetFile(self._path)
        except FileNotFoundError as exc:
            raise InvalidSweep(f"{self.what} does not exist: check its path") from exc
        except (ArrowException, OSError, ValueError) as exc:
            raise self._broken(exc) from exc

    def _broken(self, exc: Exception) -> InvalidSweep:
        return InvalidSweep(f"{self.what} can't be read as Parquet: {' '.join(str(exc).split())}")

    def _check_type(self, column: str, name: str, kind: DataType) -> None:
        from pyarrow import types

        if name not in FIELDS:
            return
        field = FIELDS[name]
        if types.is_dictionary(kind):
            kind = kind.value_type
        if field.kind in ("integer", "number"):
            fits, wanted = types.is_integer(kind) or types.is_floating(kind), "numbers"
        else:
            texts = (types.is_string, types.is_large_string, types.is_string_view)
            fits, wanted = any(is_text(kind) for is_text in texts), "texts"
        if not fits and not (field.nullable and types.is_null(kind)):
            raise InvalidSweep(
                f"{self.what}, column {shown(column)}, has values of type {kind}: "
                f"{name} takes {wanted}",
                field=name,
            )
