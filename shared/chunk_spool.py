"""Chunks of a sweep that is being written: in memory while they are few, then in a temporary file.

The file has no name, so that it is gone with the process, however that ends.
"""

from __future__ import annotations

import tempfile
import weakref
from threading import Lock

MEMORY_BYTES = 8 * 2**20
"""What is held before the file is made."""


class ChunkSpool:
    """Compressed chunks by digest; any number of threads may read."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115
        weakref.finalize(self, self._file.close)  # a sweep has no end at which to close it
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0
        self._lock = Lock()

    def add(self, digest: str, body: bytes) -> None:
        """Keep a chunk."""
        with self._lock:
            if digest not in self._places:
                self._file.seek(self._end)
                self._file.write(body)
                self._places[digest] = (self._end, len(body))
                self._end += len(body)

    def body(self, digest: str) -> bytes:
        """One chunk, compressed."""
        with self._lock:
            start, size = self._places[digest]
            self._file.seek(start)
            return self._file.read(size)
