"""Indexes that were read before, by their SHA-256: a version never changes."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import InvalidSettings, ObjectMissing, StorageError
from shared.sweep_index import IndexPointer, pointer_key

if TYPE_CHECKING:
    from shared.storage import Storage

MAX_BYTES = 4 * 2**30
"""The cache is cut to this, the longest unused first; the newest file always stays."""


def read_pointer(storage: Storage, sweep_id: str) -> IndexPointer | None:
    """Which index the sweep has, or None.

    Raises:
        StorageError: Storage does not answer, or the pointer can't be read.
    """
    try:
        text = storage.get(pointer_key(sweep_id)).decode(errors="replace")
    except ObjectMissing:
        return None
    return IndexPointer.from_text(text)


def cached_index(storage: Storage, pointer: IndexPointer) -> Path:
    """The index's Parquet file on this machine, whole.

    Raises:
        StorageError: Storage does not answer, or holds something else.
        InvalidSettings: The cache can't be written.
    """
    folder = _folder()
    wanted = pointer.parquet
    path = folder / f"{wanted.sha256}.parquet"
    try:
        if path.exists() and path.stat().st_size == wanted.bytes:
            os.utime(path)
            return path
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{wanted.sha256}.{os.getpid()}.part"
        try:
            storage.get_file(wanted.key, part)
            with part.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if sha256 != wanted.sha256:
                raise StorageError(f"{storage.uri(wanted.key)} is not what its pointer says")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _trim(folder, keep=path)
    except OSError as exc:
        raise InvalidSettings(
            f"cannot write to {str(folder)!r}: {exc.strerror or exc}; set XDG_CACHE_HOME to a "
            f"folder with room"
        ) from exc
    return path


def _folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return (cache / "seedbed" / "indexes").absolute()


def _trim(folder: Path, *, keep: Path) -> None:
    found = [(path.stat().st_mtime, path.stat().st_size, path) for path in folder.glob("*.parquet")]
    room = MAX_BYTES
    for _, size, path in sorted(found, reverse=True):
        room -= size
        if room < 0 and path != keep:
            with suppress(OSError):  # another process is reading it, or was quicker
                path.unlink()
