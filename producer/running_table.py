"""The table of a sweep that has no index yet: its manifest, the queue's bits, and the receipts.

Jobs are not enumerated here either: an axis is a small table, and the engine joins them by the
digits of the index, and the index to its position among the queue's bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from producer.done import done_positions
from producer.job_table import JobTable, locked_connection
from producer.parallel import in_parallel
from shared.records import image_seconds, read_receipts, receipts_prefix
from shared.sweep_index import (
    COLUMNS,
    DEAD,
    DONE,
    TRAILING,
    ColumnType,
    field_cell,
    field_type,
)

if TYPE_CHECKING:
    from producer.results import SweepResults
    from shared.queue import JobQueue

READERS = 16
"""Receipts fetched at once."""
POSITIONS_AT_ONCE = 1 << 20
OF_RECEIPTS = tuple(name for name in TRAILING if name != "reason")
"""Columns that only receipts know of, as long as there is no index."""
SQL_TYPES: dict[ColumnType, str] = {
    "integer": "BIGINT",
    "number": "DOUBLE",
    "text": "VARCHAR",
    "boolean": "BOOLEAN",
}


def running_table(queue: JobQueue, results: SweepResults, *, receipts: bool) -> JobTable:
    """A row for each job that is done or given up at this moment.

    Args:
        receipts: Read them as well, which takes a request for each of the sweep's claims;
            without, their columns are null.

    Raises:
        UnknownSweep: The queue does not know it.
    """
    tables: dict[str, object] = {"states": _states(queue, results)}
    tables["fixed"] = _fixed(results)
    tables |= {f"axis{n}": _axis(results, n) for n in range(len(results.manifest.axes))}
    tables["blocks"] = _blocks(results)
    if receipts:
        tables["receipts"] = _receipts(results)
    return JobTable(locked_connection(tables), _source(results, receipts=receipts))


def _source(results: SweepResults, *, receipts: bool) -> str:
    """SQL over the tables: from every index to its values, its position and its state."""
    axes, groups = results.manifest.axes, results.layout.groups
    home = {name: f"axis{n}" for n, axis in enumerate(axes) for name in axis.fields}
    names = {"index": "j.i", "state": "states.state", "reason": "states.reason"}
    columns = []
    for name, kind in COLUMNS.items():
        if name in names:
            sql = names[name]
        elif name in OF_RECEIPTS:
            sql = f'receipts."{name}"' if receipts else f"CAST(NULL AS {SQL_TYPES[kind]})"
        else:
            sql = f'{home.get(name, "fixed")}."{name}"'
        columns.append(f'{sql} AS "{name}"')
    joins = []
    block, place = "0", "0"
    for number in range(len(axes)):
        stride = math.prod(len(axis) for axis in axes[number + 1 :])
        joins.append(
            f"JOIN axis{number} ON axis{number}.n = (j.i // {stride}) % {len(axes[number])}"
        )
        block = f"({block} * {len(groups[number])} + axis{number}.g)"
        place = f"({place} * axis{number}.s + axis{number}.r)"
    receipt_join = 'LEFT JOIN receipts ON receipts."index" = j.i' if receipts else ""
    return (
        f"SELECT {', '.join(columns)} "
        f"FROM (SELECT range AS i FROM range({results.total})) AS j {' '.join(joins)} "
        f"JOIN blocks ON blocks.number = {block} "
        f"JOIN states ON states.position = blocks.first + {place} "
        f"CROSS JOIN fixed {receipt_join}"
    )


def _arrow_type(kind: ColumnType) -> Any:
    import pyarrow as pa

    return {
        "integer": pa.int64(),
        "number": pa.float64(),
        "text": pa.string(),
        "boolean": pa.bool_(),
    }[kind]


def _cell(results: SweepResults, name: str, value: object) -> object:
    """A field's value; the checkpoint's own size and scheduler where there is one checkpoint."""
    if value is None and name in ("height", "width", "scheduler") and len(results.pins) == 1:
        (pin,) = results.pins.values()
        return getattr(pin, name)
    return field_cell(name, value)


def _fixed(results: SweepResults) -> Any:
    import pyarrow as pa

    fixed = results.manifest.fixed
    return pa.table(
        {
            "one": pa.array([1]),
            **{
                name: pa.array([_cell(results, name, value)], _arrow_type(field_type(name)))
                for name, value in fixed.items()
            },
        }
    )


def _axis(results: SweepResults, number: int) -> Any:
    """Of each value: its number, its fields, its group with that one's size, its rank there."""
    import pyarrow as pa

    axis, groups = results.manifest.axes[number], results.layout.groups[number]
    size = len(axis)
    group, rank, length = [0] * size, [0] * size, [0] * size
    for g, numbers in enumerate(groups):
        for r, n in enumerate(numbers):
            group[n], rank[n], length[n] = g, r, len(numbers)
    columns: dict[str, list[object]] = {name: [] for name in axis.fields}
    for n in range(size):
        for name, value in axis.values(n).items():
            columns[name].append(_cell(results, name, value))
    return pa.table(
        {
            "n": pa.array(range(size), pa.int64()),
            "g": pa.array(group, pa.int64()),
            "r": pa.array(rank, pa.int64()),
            "s": pa.array(length, pa.int64()),
            **{
                name: pa.array(values, _arrow_type(field_type(name)))
                for name, values in columns.items()
            },
        }
    )


def _blocks(results: SweepResults) -> Any:
    import pyarrow as pa

    first = [block.offset for block in results.layout.blocks]
    return pa.table(
        {"number": pa.array(range(len(first)), pa.int64()), "first": pa.array(first, pa.int64())}
    )


def _states(queue: JobQueue, results: SweepResults) -> Any:
    """Position, state and reason of every job that is done or given up."""
    import pyarrow as pa

    schema = pa.schema([("position", pa.int64()), ("state", pa.string()), ("reason", pa.string())])
    sweep_id = results.manifest.sweep_id
    status = queue.status(sweep_id)
    batches = []

    def add(positions: Sequence[int], state: str, reasons: Sequence[str | None]) -> None:
        states = pa.repeat(pa.scalar(state), len(positions))
        columns = [pa.array(positions, pa.int64()), states, pa.array(reasons, pa.string())]
        batches.append(pa.record_batch(columns, schema=schema))

    done = done_positions(queue, sweep_id, results.total)
    while chunk := list(islice(done, POSITIONS_AT_ONCE)):
        add(chunk, DONE, [None] * len(chunk))
    if status.dead:
        dead = {f.position: f.reason for f in queue.each_failure(sweep_id) if f.dead}
        add(list(dead), DEAD, list(dead.values()))
    return pa.Table.from_batches(batches, schema=schema)


def _receipts(results: SweepResults) -> Any:
    """What the receipts say of each index: a rendering beats a reuse, a later one an earlier."""
    import pyarrow as pa

    latest: dict[int, tuple[tuple[bool, str], dict[str, object]]] = {}
    for key, receipt in _all_receipts(results):
        index = receipt.get("index")
        rank = (not receipt.get("reused"), str(receipt.get("at")))
        if not isinstance(index, int) or (index in latest and latest[index][0] >= rank):
            continue
        latest[index] = rank, _receipt_row(key, receipt)
    return pa.table(
        {
            "index": pa.array(list(latest), pa.int64()),
            **{
                name: pa.array(
                    [row[name] for _, row in latest.values()], _arrow_type(COLUMNS[name])
                )
                for name in OF_RECEIPTS
            },
        }
    )


def _receipt_row(key: str, receipt: Mapping[str, object]) -> dict[str, object]:
    size = receipt.get("bytes")
    return {
        "key": str(receipt.get("key")),
        "digest": str(receipt.get("digest")),
        "bytes": size if isinstance(size, int) else None,
        "reused": bool(receipt.get("reused")),
        "flagged": bool(receipt.get("flagged")),
        "seconds": image_seconds(receipt),
        "worker": str(receipt.get("worker")),
        "receipt": key,
    }


def _all_receipts(results: SweepResults) -> Iterator[tuple[str, dict[str, object]]]:
    storage = results.storage
    keys = (found.key for found in storage.list(receipts_prefix(results.manifest.sweep_id)))

    def read(key: str) -> tuple[str, bytes]:
        return key, storage.get(key)

    for key, body in in_parallel(read, keys, READERS):
        for receipt in read_receipts(body):
            yield key, receipt
