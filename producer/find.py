"""Finding jobs of a sweep by what made them, over its index or, while it runs, without one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from producer.index_cache import cached_index, read_pointer
from producer.job_table import JobTable
from producer.results import line_of
from producer.running_table import OF_RECEIPTS, running_table
from producer.where import EVERYTHING, Condition, parse_where
from shared.errors import InvalidInput, UnknownSweep
from shared.fields import Value
from shared.sweep_index import COLUMNS, DONE

if TYPE_CHECKING:
    from producer.fetch import Fetched
    from producer.grid import DrawnGrid
    from producer.results import SweepResults
    from shared.queue import JobQueue

Source = Literal["index", "queue"]
DRAWN = 20_000
"""Images of one grid; more can't be looked at."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One job that was found.

    Attributes:
        index: The user's.
        state: ``done`` or ``dead``.
        key: Its image's object; None for a job that was given up.
        title: A line that tells it from its siblings.
        reason: What it died of.
        values: Its values of the fields that vary.
    """

    index: int
    state: str
    key: str | None
    title: str
    reason: str | None = None
    values: dict[str, Value] = field(default_factory=dict)


class Finding:
    """The answer to one question, read as it is asked for.

    Attributes:
        results: The sweep.
        source: ``index``, or ``queue`` for a sweep that has not ended: what is done so far.
    """

    def __init__(
        self, results: SweepResults, table: JobTable, condition: Condition, source: Source
    ) -> None:
        self.results = results
        self.source = source
        self._table = table
        self._condition = condition

    @classmethod
    def ask(cls, queue: JobQueue, results: SweepResults, where: str | None) -> Finding:
        """Look a condition up.

        Args:
            where: See `producer.where.parse_where`; None finds every job.

        Raises:
            InvalidInput: The condition does more than compare.
            UnknownSweep: There is neither an index nor a queue that knows the sweep.
            StorageError: Storage does not answer.
        """
        condition = EVERYTHING if where is None else parse_where(where, COLUMNS)
        sweep_id = results.manifest.sweep_id
        try:
            status = queue.status(sweep_id)
        except UnknownSweep:
            status = None
        if status is None or status.state in ("done", "cancelled"):
            pointer = read_pointer(results.storage, sweep_id)
            if pointer is not None and (status is None or pointer.epoch == status.epoch):
                table = JobTable.of_parquet(cached_index(results.storage, pointer))
                return cls(results, table, condition, "index")
        receipts = bool(condition.columns & set(OF_RECEIPTS))
        return cls(results, running_table(queue, results, receipts=receipts), condition, "queue")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._table.__exit__()

    def count(self) -> int:
        """How many jobs there are."""
        return self._table.count(self._condition)

    def images(self) -> int:
        """How many of them have an image."""
        return self._table.count(self._done())

    def hits(self, limit: int | None = None) -> Iterator[Hit]:
        """The jobs by index, the first ``limit`` of them."""
        varying = self.results.manifest.fields_by_axis
        columns = ("index", "state", "key", "reason", *varying)
        for row in self._table.select(columns, self._condition, limit):
            values = {name: row[name] for name in varying}
            made = row["state"] == DONE
            yield Hit(
                index=row["index"],
                state=row["state"],
                key=(row["key"] or self.results.key_of(row["index"])) if made else None,
                title=line_of(row["index"], values),
                reason=row["reason"],
                values=values,
            )

    def indices(self, limit: int | None = None) -> Iterator[int]:
        """The user's indices of those that have an image, in order."""
        for row in self._table.select(("index",), self._done(), limit):
            yield row["index"]

    def fetch(
        self,
        folder: Path,
        *,
        name: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Fetched:
        """Download the images, see `producer.fetch.fetch`.

        Args:
            progress: Called with images looked at and images in all.
        """
        from producer.fetch import fetch

        total = self.images()

        def moved(found: Fetched) -> None:
            if progress is not None:
                progress(found.total, total)

        return fetch(self.results, self.indices(), folder, name=name, progress=moved)

    def grid(self, path: Path, *, progress: Callable[[int, int], None] | None = None) -> DrawnGrid:
        """Draw the first DRAWN images, see `producer.grid.draw_grid`.

        Raises:
            InvalidInput: There are no images to draw.
        """
        from producer.grid import draw_grid

        indices = frozenset(self.indices(DRAWN))
        if not indices:
            raise InvalidInput("--where finds no image: there is nothing to draw")
        return draw_grid(self.results, path, only=indices, progress=progress)

    def _done(self) -> Condition:
        condition = self._condition
        return Condition(
            sql=f"({condition.sql}) AND state = ?",
            parameters=(*condition.parameters, DONE),
            columns=condition.columns | {"state"},
        )
