"""A sweep's jobs as a table that conditions are asked of: DuckDB, shut off from everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from producer.where import Condition
from shared.errors import InvalidInput

if TYPE_CHECKING:
    import duckdb

MEMORY = "1GB"
"""Of the engine; a million rows take some tens of megabytes."""
ROWS_AT_ONCE = 10_000


class JobTable:
    """Rows of jobs by the user's index, under the columns of `shared.sweep_index.COLUMNS`."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        source: str,
        parameters: tuple[object, ...] = (),
    ) -> None:
        """Take a connection over.

        Args:
            source: SQL that selects the columns.
        """
        self._connection = connection
        self._source = source
        self._parameters = parameters

    @classmethod
    def of_parquet(cls, path: Path) -> JobTable:
        """The rows of an index, the only file that the engine may read."""
        quoted = str(path.absolute()).replace("'", "''")
        connection = locked_connection({}, allowed=f"['{quoted}']")
        return cls(connection, f"SELECT * FROM read_parquet('{quoted}')")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def count(self, condition: Condition) -> int:
        """How many rows meet the condition."""
        for (count,) in self._rows("count(*)", condition, "", ()):
            return int(count)
        raise AssertionError("unreachable")

    def select(
        self, columns: tuple[str, ...], condition: Condition, limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Rows that meet the condition, by index; read while they are asked for."""
        names = ", ".join(f'"{name}"' for name in columns)
        tail = ' ORDER BY "index"' + ("" if limit is None else " LIMIT ?")
        last = () if limit is None else (limit,)
        for row in self._rows(names, condition, tail, last):
            yield dict(zip(columns, row, strict=True))

    def _rows(
        self, what: str, condition: Condition, tail: str, last: tuple[object, ...]
    ) -> Iterator[tuple[Any, ...]]:
        import duckdb

        sql = f"SELECT {what} FROM ({self._source}) AS jobs WHERE {condition.sql}{tail}"
        parameters = [*self._parameters, *condition.parameters, *last]
        try:
            cursor = self._connection.cursor().execute(sql, parameters)
            while rows := cursor.fetchmany(ROWS_AT_ONCE):
                yield from rows
        except duckdb.Error as exc:
            line = str(exc).strip().partition("\n")[0]
            raise InvalidInput(f"--where can't be asked of this sweep: {line}") from exc


def locked_connection(
    tables: Mapping[str, object], *, allowed: str = "[]"
) -> duckdb.DuckDBPyConnection:
    """An empty database in memory that sees these Arrow tables and, maybe, one file."""
    import duckdb

    connection = duckdb.connect(":memory:", config={"memory_limit": MEMORY})
    for name, table in tables.items():
        connection.register("given", table)  # only this connection sees it, its cursors do not
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
        connection.unregister("given")
    for setting in (
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "temp_directory = ''",
        f"allowed_paths = {allowed}",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")
    return connection
