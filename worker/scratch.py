"""Folders for what is put together on disk; those of processes that died are cleared away."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "seedbed-index-"
LOCK = "lock"
"""Held as long as the folder is in use; the kernel lets go of it when its holder dies."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of one's own, gone afterwards; left-overs of dead processes go first.

    Raises:
        OSError: The disk does not take it.
    """
    _clear_left_overs(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(lock)


def _clear_left_overs(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another's, or another clears it
            lock = os.open(folder / LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
