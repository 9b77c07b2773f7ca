"""Chunks in storage: uploaded before a sweep is queued, read by whoever needs a row."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING

from shared.chunks import MAX_CHUNK_BYTES, ChunkSource, chunk_key
from shared.errors import InvalidManifest, ObjectMissing, ObjectTooLarge

if TYPE_CHECKING:
    from shared.storage import Storage

UPLOADS = 8
"""PUTs at a time; each costs a few milliseconds of this machine's time for signing."""
LOOKED_UP = 256
"""Chunks whose presence is asked for at once, and at most held for uploading."""
CONTENT_TYPE = "application/zlib"


class StoredChunks:
    """The chunks of the sweeps in one bucket."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def body(self, digest: str) -> bytes:
        """One chunk, compressed.

        Raises:
            InvalidManifest: Storage answers that there is none, or one of no bearable size.
            StorageError: Storage does not answer.
        """
        try:
            return self._storage.get(chunk_key(digest), most_bytes=MAX_CHUNK_BYTES)
        except ObjectMissing as exc:
            raise InvalidManifest(
                f"chunk {chunk_key(digest)} of its rows is gone from storage: submit the sweep "
                f"again, and resume it"
            ) from exc
        except ObjectTooLarge as exc:
            raise InvalidManifest(f"chunk {digest[:12]} of its rows is none: {exc}") from exc


def upload_chunks(storage: Storage, source: ChunkSource, digests: Iterable[str]) -> int:
    """Put those chunks into storage that it lacks; returns how many.

    Raises:
        StorageError: Storage does not answer.
    """
    wanted = iter(dict.fromkeys(digests))
    sent = 0
    with ThreadPoolExecutor(UPLOADS, thread_name_prefix="chunks") as threads:
        while part := list(islice(wanted, LOOKED_UP)):
            stored = storage.exists_many([chunk_key(digest) for digest in part])
            missing = [digest for digest in part if chunk_key(digest) not in stored]
            list(threads.map(lambda digest: _put(storage, source, digest), missing))
            sent += len(missing)
    return sent


def _put(storage: Storage, source: ChunkSource, digest: str) -> None:
    storage.put(chunk_key(digest), source.body(digest), content_type=CONTENT_TYPE)
