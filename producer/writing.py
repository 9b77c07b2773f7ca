"""Places that people name for files: refused in a sentence, before or when one can't be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from shared.errors import InvalidSettings


def check_folder(folder: Path) -> None:
    """Refuse a folder that can't be made or written to; writes nothing.

    Raises:
        InvalidSettings: It can't.
    """
    there = folder.absolute()
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise unwritable(folder, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(there, os.W_OK | os.X_OK):
        raise unwritable(folder, OSError(errno.EACCES, os.strerror(errno.EACCES)))


def unwritable(place: Path, exc: OSError, *, again: str = "do it again") -> InvalidSettings:
    """Why a file or folder could not be written.

    Args:
        again: What to do when there is room on the disk.
    """
    where = f"cannot write to {str(place)!r}"
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return InvalidSettings(f"{where}: the disk is full; make room and {again}")
    if exc.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        what = "a folder" if place.is_dir() else "a file"
        return InvalidSettings(f"{where}: {what} is in the way; name another place")
    return InvalidSettings(f"{where}: {exc.strerror or exc}; name another place")
