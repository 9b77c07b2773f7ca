"""The folder that holds everything of a stack."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

from shared.errors import InvalidSettings, ServiceError

FOLDERS = {"": 0o777, "logs": 0o777, "objects": 0o777, "redis": 0o700}
"""Folder to mode, less the umask: what Redis writes holds prompts."""


def prepare_data_folder(data_dir: Path) -> None:
    """Make it, its parts, and a ``.gitignore`` for whoever keeps it in a repository.

    Raises:
        InvalidSettings: It cannot be one.
        ServiceError: The disk is full.
    """
    where = f"data folder {str(data_dir)!r}"
    try:
        for name, mode in FOLDERS.items():
            folder = data_dir / name
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
            # Making a file is the one true test of a writable folder.
            with tempfile.TemporaryFile(dir=folder) as probe:
                probe.write(b"\n")
        (data_dir / ".gitignore").write_text("*\n", encoding="utf-8")
    except (FileExistsError, NotADirectoryError) as exc:
        raise InvalidSettings(
            f"{where} is, or lies below, a file: set SEEDBED_DATA to a folder"
        ) from exc
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ServiceError(f"{where}: the disk is full; free some space") from exc
        raise InvalidSettings(
            f"{where} cannot be written to ({exc.strerror}): set SEEDBED_DATA to another"
        ) from exc
