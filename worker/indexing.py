"""Writes the index of a sweep that is through: every image made, every job given up.

One pass over the done bits and the failures, one over storage, one over the receipts, one over the
records they leave on disk. Memory does not grow with the sweep.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

from shared.addressing import address
from shared.digest import acting_values
from shared.errors import ObjectMissing
from shared.fields import FIELDS, Value
from shared.job import Job
from shared.layout import Layout
from shared.object_keys import object_key
from shared.pin import Pin
from shared.queue import JobQueue
from shared.records import image_seconds, pin_key, read_receipts, receipts_prefix
from shared.storage import Storage, StoredObject
from shared.sweep_index import DEAD, DONE, field_cell
from shared.weights import WeightsName
from worker import index_records
from worker.index_objects import ObjectJoin
from worker.index_records import FLAGGED, RECORDED, REUSED, STORED, JobRecord, JobRecords

LOOKED_UP = 4096
"""Sweeps up to this size are compared by HEAD, larger ones by LIST, which costs by the bucket."""
CHUNK = 8192
"""Positions looked at between two checks; a multiple of 8, as the bitmap is read."""
READERS = 16
"""Receipts fetched at once."""
MISSING_AT_ONCE = 1_000_000
"""Lost images that one repair takes; the next finalising finds the rest."""

T = TypeVar("T")
Check = Callable[[], None]
Row = dict[str, Value]


@dataclass(frozen=True, kw_only=True)
class SweepAccount:
    """What a sweep came to, all of it on disk.

    Attributes:
        layout: Of the sweep.
        pins: By model key.
        missing: Positions that are done but have no object, the first MISSING_AT_ONCE of them.
    """

    layout: Layout
    pins: Mapping[str, Pin]
    records: JobRecords
    missing: tuple[int, ...]


class Accountant:
    """Puts together what queue, storage and receipts know of one sweep.

    Args:
        check: Called again and again; what it raises ends the work.
        looked_up: Sweeps up to this size are looked up by HEAD.
    """

    def __init__(
        self, queue: JobQueue, storage: Storage, check: Check, looked_up: int = LOOKED_UP
    ) -> None:
        self._queue = queue
        self._storage = storage
        self._check = check
        self._looked_up = looked_up

    def account(
        self, sweep_id: str, layout: Layout, records: JobRecords, folder: Path
    ) -> SweepAccount:
        """Fill the records.

        Args:
            records: Empty ones.
            folder: For what is spilled on the way.

        Raises:
            UnknownSweep: It has been deleted.
            StorageError: Storage does not answer.
            OSError: The disk is full.
        """
        pins = self._pins(sweep_id, layout)
        self._failures(sweep_id, layout, records)
        if layout.total <= self._looked_up:
            compared = self._look_up(sweep_id, layout, pins, records)
        else:
            join = ObjectJoin(folder, layout.total)
            join.look_for(self._expected(sweep_id, layout, pins, records))
            prefix = layout.manifest.output.key.partition("{")[0]
            compared = join.compare(self._checked(self._storage.list(prefix)))
        missing: list[int] = []
        for index, size in self._checked(compared):
            if size is not None:
                record = records[index]
                records[index] = record._replace(size=size, flags=record.flags | STORED)
            elif len(missing) < MISSING_AT_ONCE:
                missing.append(layout.position_of(index))
        if not missing:
            self._receipts(sweep_id, records)
        return SweepAccount(layout=layout, pins=pins, records=records, missing=tuple(missing))

    def add_receipts(self, sweep_id: str, account: SweepAccount) -> None:
        """Read the receipts of a sweep that has missing images and is indexed all the same."""
        self._receipts(sweep_id, account.records)

    def _pins(self, sweep_id: str, layout: Layout) -> dict[str, Pin]:
        pins = {m: Pin.from_text(text) for m, text in self._queue.status(sweep_id).pins.items()}
        for model in {block.model for block in layout.blocks} - set(pins):
            try:
                text = self._storage.get(pin_key(sweep_id, model)).decode(errors="replace")
            except ObjectMissing:
                continue  # nobody has rendered for it
            pins[model] = Pin.from_text(text)
        return pins

    def _failures(self, sweep_id: str, layout: Layout, records: JobRecords) -> None:
        for failure in self._checked(self._queue.each_failure(sweep_id)):
            if failure.dead and 0 <= failure.position < layout.total:
                records[layout.index_of(failure.position)] = JobRecord(
                    state=index_records.DEAD,
                    reason=records.keep(failure.reason),
                    worker=records.keep(failure.worker),
                )

    def _expected(
        self, sweep_id: str, layout: Layout, pins: Mapping[str, Pin], records: JobRecords
    ) -> Iterator[tuple[str, int]]:
        """Key and index of every done job; writes down that it is done, and its digest."""
        output = layout.manifest.output
        for position in self._checked(self._done(sweep_id, layout.total)):
            index = layout.index_of(position)
            pin = pins.get(layout.block_of(position).model)
            if pin is None:  # committed without a pin: nothing tells where its image is
                records[index] = JobRecord(state=index_records.DONE, flags=STORED)
                continue
            place = address(layout.job_at(position), pin, output)
            records[index] = JobRecord(state=index_records.DONE, digest=bytes.fromhex(place.digest))
            yield place.key, index

    def _look_up(
        self, sweep_id: str, layout: Layout, pins: Mapping[str, Pin], records: JobRecords
    ) -> Iterator[tuple[int, int | None]]:
        expected = self._expected(sweep_id, layout, pins, records)
        while chunk := list(islice(expected, CHUNK)):
            sizes = self._storage.sizes(key for key, _ in chunk)
            yield from ((index, sizes.get(key)) for key, index in chunk)

    def _done(self, sweep_id: str, total: int) -> Iterator[int]:
        for start in range(0, total, CHUNK):
            count = min(CHUNK, total - start)
            mask = self._queue.done_mask(sweep_id, start, count)
            for number, byte in enumerate(mask):
                if byte:
                    first = start + number * 8
                    yield from (first + bit for bit in range(8) if byte & (0x80 >> bit))

    def _receipts(self, sweep_id: str, records: JobRecords) -> None:
        """What the receipts say of the images that are there; a rendering beats a reuse."""
        files = self._storage.list(receipts_prefix(sweep_id))
        for found, body in self._checked(self._bodies(files)):
            for receipt in read_receipts(body):
                index = receipt.get("index")
                if isinstance(index, int) and 0 <= index < records.total:
                    self._note(records, index, receipt, found.key)

    def _note(
        self, records: JobRecords, index: int, receipt: Mapping[str, object], key: str
    ) -> None:
        known = records[index]
        reused = bool(receipt.get("reused"))
        if (
            known.state != index_records.DONE
            or receipt.get("digest") != known.digest.hex()
            or (reused and known.has(RECORDED))
        ):
            return
        flags = known.flags & STORED | RECORDED
        flags |= (REUSED if reused else 0) | (FLAGGED if receipt.get("flagged") else 0)
        size = receipt.get("bytes")
        records[index] = known._replace(
            flags=flags,
            seconds=image_seconds(receipt),
            size=known.size or (size if isinstance(size, int) else 0),
            worker=records.keep(str(receipt.get("worker") or "")),
            receipt=records.keep(key),
        )

    def _bodies(self, objects: Iterable[StoredObject]) -> Iterator[tuple[StoredObject, bytes]]:
        """Objects with their bodies, in the listing's order, some of them fetched ahead."""
        ahead: deque[tuple[StoredObject, Future[bytes]]] = deque()
        with ThreadPoolExecutor(READERS, thread_name_prefix="receipts") as threads:
            try:
                for found in objects:
                    ahead.append((found, threads.submit(self._storage.get, found.key)))
                    if len(ahead) >= 2 * READERS:
                        first, body = ahead.popleft()
                        yield first, body.result()
                while ahead:
                    first, body = ahead.popleft()
                    yield first, body.result()
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    def _checked(self, items: Iterable[T]) -> Iterator[T]:
        for number, item in enumerate(items):
            if number % CHUNK == 0:
                self._check()
            yield item
        self._check()


def index_rows(account: SweepAccount) -> Iterator[Row]:
    """The index's rows, by the user's index: every column of the Parquet file."""
    layout, records = account.layout, account.records
    template = layout.manifest.output.key
    blocks = {}
    for index, record in records.known():
        made = record.state == index_records.DONE
        if made and not record.has(STORED):
            continue
        job = layout.job(index)
        weights = WeightsName.of(job)
        if weights not in blocks:
            blocks[weights] = layout.block_of(layout.position_of(index)).model
        pin = account.pins.get(blocks[weights])
        row: Row = {"index": index, "state": DONE if made else DEAD}
        row |= _fields(job, pin)
        digest = record.digest.hex() if made and any(record.digest) else None
        values = acting_values(job, pin) if digest and pin else {}
        yield row | {
            "reason": records.text(record.reason),
            "key": object_key(template, values, digest=digest) if digest else None,
            "digest": digest,
            "bytes": (record.size or None) if made else None,
            "reused": record.has(REUSED) if record.has(RECORDED) else None,
            "flagged": record.has(FLAGGED) if record.has(RECORDED) else None,
            "seconds": record.seconds if record.has(RECORDED) else None,
            "worker": records.text(record.worker),
            "receipt": records.text(record.receipt),
        }


def _fields(job: Job, pin: Pin | None) -> Row:
    """The job's fields, the checkpoint's own size and scheduler filled in."""
    row = {name: field_cell(name, getattr(job, name)) for name in FIELDS}
    if pin is not None:
        for name in ("height", "width", "scheduler"):
            if row[name] is None:
                row[name] = getattr(pin, name)
    return row
