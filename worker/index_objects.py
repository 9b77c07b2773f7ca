"""Which of millions of keys are in a listing: a join on disk, a bucket at a time in memory."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from shared.storage import StoredObject

ENTRY = struct.Struct("<16sQ")
"""A key's hash, and its job's index or its object's bytes."""
BUCKET_KEYS = 65_536
"""Keys of one bucket, which are in memory together: some 10 MB."""
MAX_BUCKETS = 256
"""Files open at once; a system's usual limit is 1,024."""


class ObjectJoin:
    """Keys that are looked for, and objects that there are, each spilled by the key's hash."""

    def __init__(self, folder: Path, count: int) -> None:
        """Prepare for about this many keys."""
        self._folder = folder
        self._buckets = max(1, min(MAX_BUCKETS, count // BUCKET_KEYS))

    def look_for(self, keys: Iterable[tuple[str, int]]) -> None:
        """Spill keys, each with its job's index; two jobs may have one key."""
        self._spill("wanted", ((_hash(key), index) for key, index in keys))

    def compare(self, objects: Iterable[StoredObject]) -> Iterator[tuple[int, int | None]]:
        """Index and bytes of every key that was looked for; None where there is no object."""
        self._spill("listed", ((_hash(item.key), item.size) for item in objects))
        for bucket in range(self._buckets):
            sizes = dict(self._read("listed", bucket))
            for digest, index in self._read("wanted", bucket):
                yield index, sizes.get(digest)

    def _spill(self, kind: str, entries: Iterable[tuple[bytes, int]]) -> None:
        with ExitStack() as stack:
            files = [
                stack.enter_context(self._path(kind, bucket).open("wb"))
                for bucket in range(self._buckets)
            ]
            for digest, number in entries:
                bucket = int.from_bytes(digest[:4], "little") % self._buckets
                files[bucket].write(ENTRY.pack(digest, number))

    def _read(self, kind: str, bucket: int) -> Iterator[tuple[bytes, int]]:
        with self._path(kind, bucket).open("rb") as file:
            while data := file.read(ENTRY.size * 4096):
                yield from ENTRY.iter_unpack(data)

    def _path(self, kind: str, bucket: int) -> Path:
        return self._folder / f"{kind}-{bucket:03}"


def _hash(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=16).digest()
