"""Values and rows from files: a text a line, CSV, JSON Lines, Parquet; read row by row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from producer.parquet_rows import ParquetRows
from shared.errors import InvalidSweep
from shared.fields import FIELDS
from shared.mistakes import nearest, shown
from shared.sources import Fault, RowSource, ValueSource
from shared.sweep_axes import row_cells

MAX_LINE_CHARS = 2**20
"""Bounds what is read at a time from a file that is no text at all."""
SEPARATORS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")


def open_rows(folder: Path, given: str) -> FileRows:
    """The rows of a file, by its ending; it is read when the sweep is made.

    Args:
        folder: What the path is relative to.

    Raises:
        InvalidSweep: Its ending is not known.
    """
    path, ending, what = folder / given, Path(given).suffix.lower(), _named(given)
    if ending in SEPARATORS:
        return CsvRows(path, what, SEPARATORS[ending])
    if ending in JSON_LINES:
        return JsonRows(path, what)
    if ending in PARQUET:
        return ParquetRows(path, what)
    raise InvalidSweep(
        f"rows {shown(given)} is of no kind that is read: name a .csv, .tsv, .jsonl or .parquet",
        field="rows",
        value=given,
    )


def open_values(folder: Path, given: str, name: str, column: str) -> ValueSource:
    """The values that a file has for a field: its lines, or a column of its rows."""
    if Path(given).suffix.lower() in (*SEPARATORS, *JSON_LINES, *PARQUET):
        return ColumnValues(open_rows(folder, given), column, name)
    return LineValues(folder / given, _named(given))


def _named(given: str) -> str:
    """A path as messages name it: one line, whatever it holds."""
    return given if given.isprintable() else shown(given)


@dataclass(frozen=True)
class LineValues:
    """A literal text a line; blank lines don't count."""

    path: Path
    what: str
    unit: str = "line"

    def numbered(self) -> Iterator[tuple[int, object]]:
        """Each line with its number, the first being 1."""
        found = False
        with open_text(self.path, self.what) as file:
            for number, line in enumerate(_lines(file, self.what), 1):
                text = line.removesuffix("\n").removesuffix("\r")
                if text.strip():
                    found = True
                    yield number, text
        if not found:
            raise empty(self.what)


class FileRows(RowSource, Protocol):
    """Rows of a file, of which one column may be read alone."""

    def column(self, name: str, field: str) -> Iterator[object]:
        """Each row's cell, or its fault; ``field`` is what it is a value of.

        Raises:
            InvalidSweep: There is no such column.
        """


@dataclass(frozen=True)
class ColumnValues:
    """One column of a file of rows, as values of a field."""

    source: FileRows
    name: str
    field: str
    unit: str = "row"

    @property
    def what(self) -> str:
        """The file."""
        return self.source.what

    def numbered(self) -> Iterator[tuple[int, object]]:
        """Each cell with its row's number, the first being 1."""
        number = 0
        for number, cell in enumerate(self.source.column(self.name, self.field), 1):
            yield number, cell
        if not number:
            raise empty(self.what)


@dataclass(frozen=True)
class CsvRows:
    """Rows of a CSV file with a header; an empty cell is null where a field may be null."""

    path: Path
    what: str
    separator: str

    def header(self) -> Sequence[str]:
        """The first line's cells."""
        with self._reader() as reader:
            names = [cell.strip() for cell in next(reader, [])]
        if not names:
            raise empty(self.what)
        return _once(names, self.what)

    def rows(self) -> Iterator[Sequence[object] | Fault]:
        """Each row's cells."""
        nullable = [
            place
            for place, name in enumerate(self.header())
            if name in FIELDS and FIELDS[name].nullable
        ]
        for cells in self._cells():
            if isinstance(cells, Fault):
                yield cells
                continue
            row: list[object] = [*cells]
            for place in nullable:
                row[place] = row[place] or None
            yield row

    def column(self, name: str, field: str) -> Iterator[object]:
        """Each row's cell in one column."""
        header = self.header()
        if name not in header:
            raise no_column(self.what, name, header)
        place, nullable = header.index(name), FIELDS[field].nullable
        for cells in self._cells():
            if isinstance(cells, Fault):
                yield cells
            else:
                yield (cells[place] or None) if nullable else cells[place]

    def _cells(self) -> Iterator[list[str] | Fault]:
        names = self.header()
        with self._reader() as reader:
            next(reader)
            for cells in reader:
                if len(cells) == len(names):
                    yield cells
                elif cells:
                    yield _misfit(cells, names)

    @contextmanager
    def _reader(self) -> Iterator[Iterator[list[str]]]:
        with open_text(self.path, self.what) as file:
            reader = csv.reader(_lines(file, self.what), delimiter=self.separator, strict=True)
            try:
                yield reader
            except csv.Error as exc:
                raise InvalidSweep(
                    f"{self.what}, line {reader.line_num:,}, is not CSV ({exc}): mend its quotes"
                ) from exc


@dataclass(frozen=True)
class JsonRows:
    """Rows of JSON Lines: an object a line, all with the same members."""

    path: Path
    what: str

    def header(self) -> Sequence[str]:
        """The first object's members."""
        for row in self._objects():
            if isinstance(row, Fault):
                raise InvalidSweep(f"{self.what}, row 1: {row}")
            if not row:
                raise InvalidSweep(f"{self.what}, row 1, is an empty object: write fields")
            return tuple(row)
        raise empty(self.what)

    def rows(self) -> Iterator[Sequence[object] | Fault]:
        """Each object's members in the order of the first's."""
        header = self.header()
        for row in self._objects():
            yield row if isinstance(row, Fault) else row_cells(header, row)

    def column(self, name: str, field: str) -> Iterator[object]:
        """Each object's member of that name; the others may be what they like."""
        header = self.header()
        if name not in header:
            raise no_column(self.what, name, header)
        for row in self._objects():
            if isinstance(row, Fault):
                yield row
            else:
                yield row.get(name, Fault(f"{shown(name)} is missing"))

    def _objects(self) -> Iterator[dict[str, object] | Fault]:
        with open_text(self.path, self.what) as file:
            for line in _lines(file, self.what):
                if line.strip():
                    yield _object(line)


@contextmanager
def open_text(path: Path, what: str) -> Iterator[IO[str]]:
    """A UTF-8 text, with or without a byte order mark.

    Raises:
        InvalidSweep: It can't be read, or is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            yield file
    except FileNotFoundError as exc:
        raise InvalidSweep(f"{what} does not exist: check its path") from exc
    except IsADirectoryError as exc:
        raise InvalidSweep(f"{what} is a folder: name a file in it") from exc
    except UnicodeDecodeError as exc:
        line = _undecodable_line(path)
        raise InvalidSweep(f"{what}, line {line:,}, is not UTF-8: save it as UTF-8 text") from exc
    except (OSError, ValueError) as exc:
        raise InvalidSweep(f"{what} can't be read: {exc}") from exc


def no_column(what: str, name: str, header: Sequence[str]) -> InvalidSweep:
    """The error of a column that a file has not."""
    return InvalidSweep(f"{what} has no column {shown(name)}: {nearest(name, list(header))}")


def empty(what: str) -> InvalidSweep:
    """The error of a file with nothing in it."""
    return InvalidSweep(f"{what} is empty: write at least one row")


def _lines(file: IO[str], what: str) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE_CHARS):
        number += 1
        if len(line) == MAX_LINE_CHARS and not line.endswith("\n"):
            raise InvalidSweep(
                f"{what}, line {number:,}, has over {MAX_LINE_CHARS:,} characters: is it a text?"
            )
        yield line


def _undecodable_line(path: Path) -> int:
    number = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):  # noqa: B007
            try:
                line.decode()
            except UnicodeDecodeError:
                break
    return number


def _once(names: list[str], what: str) -> Sequence[str]:
    for name in names:
        if names.count(name) > 1:
            raise InvalidSweep(f"{what} has two columns {shown(name)}: keep one")
    return names


def _misfit(cells: list[str], names: Sequence[str]) -> Fault:
    if len(cells) < len(names):
        return Fault(f"{' and '.join(names[len(cells) :])} is missing")
    return Fault(f"{shown(cells[len(names)])} is extra, the header has {len(names)} columns")


def _object(line: str) -> dict[str, object] | Fault:
    """A line of JSON with numbers as their text, or what is wrong with it."""
    twice: list[str] = []
    try:
        row = json.loads(
            line,
            object_pairs_hook=lambda pairs: _members(pairs, twice),
            parse_int=str,
            parse_float=str,
            parse_constant=str,
        )
    except (ValueError, RecursionError) as exc:
        return Fault(f"not JSON ({exc})")
    if twice:
        return Fault(f"{shown(twice[0])} is given twice")
    return row if isinstance(row, dict) else Fault(f"{shown(row)} is not an object")


def _members(pairs: list[tuple[str, object]], twice: list[str]) -> dict[str, object]:
    members: dict[str, object] = {}
    for name, value in pairs:
        if name in members:
            twice.append(name)
        members[name] = value
    return members
