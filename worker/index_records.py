"""What an index is put together in: a record a job on disk, by index, in no memory to speak of.

Jobs come by position, receipts in any order, objects by key; the index is in the user's order. A
file of fixed-size records takes each of them where it belongs and is then read from end to end.
It is sparse: what nothing is known of costs nothing.
"""

from __future__ import annotations

import os
import struct
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

LAYOUT = struct.Struct("<BBxxfQQQQ32s")
"""state, flags, seconds, bytes, where worker, receipt and reason are in the texts, digest."""
NOTHING, DONE, DEAD = range(3)
REUSED, FLAGGED, RECORDED, STORED = 1, 2, 4, 8
CHUNK_RECORDS = 8192
KNOWN_TEXTS = 1024
"""Texts that are remembered, so that equal ones are kept once: workers, receipts, reasons."""
_LENGTH = struct.Struct("<I")


class JobRecord(NamedTuple):
    """What is known of one job.

    Attributes:
        state: NOTHING, DONE or DEAD.
        flags: REUSED; FLAGGED by the safety checker; RECORDED, it has a receipt; STORED, its
            object was seen.
        seconds: What the image took.
        size: Bytes of its object.
        worker: Place of the worker's name in the texts, as the next two; 0 is none.
        receipt: The receipts' key.
        reason: What the job died of.
        digest: 32 bytes, zeros where it is not known.
    """

    state: int = NOTHING
    flags: int = 0
    seconds: float = 0.0
    size: int = 0
    worker: int = 0
    receipt: int = 0
    reason: int = 0
    digest: bytes = bytes(32)

    def has(self, flag: int) -> bool:
        """Whether a flag is set."""
        return bool(self.flags & flag)


class JobRecords:
    """Records and texts of one sweep, in two files of a folder that is the caller's."""

    def __init__(self, folder: Path, total: int) -> None:
        """Start with nothing known.

        Raises:
            OSError: The disk does not take them.
        """
        self.total = total
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
        self._records = os.open(folder / "records", flags, 0o600)
        self._texts = os.open(folder / "texts", flags, 0o600)
        os.ftruncate(self._records, total * LAYOUT.size)
        self._end = os.pwrite(self._texts, b"\0", 0)  # place 0 is no text
        self._places: OrderedDict[str, int] = OrderedDict()
        self._read: OrderedDict[int, str] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._records)
        os.close(self._texts)

    def __getitem__(self, index: int) -> JobRecord:
        data = os.pread(self._records, LAYOUT.size, index * LAYOUT.size)
        return JobRecord._make(LAYOUT.unpack(data))

    def __setitem__(self, index: int, record: JobRecord) -> None:
        os.pwrite(self._records, LAYOUT.pack(*record), index * LAYOUT.size)

    def known(self, chunk: int = CHUNK_RECORDS) -> Iterator[tuple[int, JobRecord]]:
        """Indices and records of the jobs of which something is known, by index."""
        for start in range(0, self.total, chunk):
            count = min(chunk, self.total - start)
            data = os.pread(self._records, count * LAYOUT.size, start * LAYOUT.size)
            if not any(data):
                continue
            for number, values in enumerate(LAYOUT.iter_unpack(data)):
                if values[0] != NOTHING:
                    yield start + number, JobRecord._make(values)

    def keep(self, text: str) -> int:
        """Keep a text; returns its place, 0 for an empty one."""
        if not text:
            return 0
        if text in self._places:
            self._places.move_to_end(text)
            return self._places[text]
        body = text.encode()
        place = self._end
        self._end += os.pwrite(self._texts, _LENGTH.pack(len(body)) + body, place)
        self._places[text] = place
        if len(self._places) > KNOWN_TEXTS:
            self._places.popitem(last=False)
        return place

    def text(self, place: int) -> str | None:
        """The text at a place; None for none."""
        if not place:
            return None
        if place in self._read:
            self._read.move_to_end(place)
            return self._read[place]
        (length,) = _LENGTH.unpack(os.pread(self._texts, _LENGTH.size, place))
        text = os.pread(self._texts, length, place + _LENGTH.size).decode()
        self._read[place] = text
        if len(self._read) > KNOWN_TEXTS:
            self._read.popitem(last=False)
        return text
