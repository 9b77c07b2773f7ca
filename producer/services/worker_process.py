"""The stack's worker: a process like any other worker's, on the stack's pool.

Nothing of the worker is imported here: it may need torch, which a producer does without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from producer.services.service import Service
from shared.settings import Settings

STOP_SECONDS = 30.0
"""For the drain: the batch on the GPU is finished and stored, or its jobs given back."""


def worker_service(
    data_dir: Path,
    settings: Settings,
    *,
    command: Sequence[str],
    folder: Path,
    environ: Mapping[str, str],
    name: str = "worker",
) -> Service:
    """A worker on ``settings``' pool.

    Args:
        command: The whole command line.
        folder: Working directory, against which model folders are resolved.
    """
    return Service(
        name=name,
        command=tuple(command),
        environ=worker_environ(environ, settings),
        folder=folder,
        log=data_dir / "logs" / f"{name}.log",
        ready=None,
        stop_seconds=STOP_SECONDS,
    )


def worker_environ(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    """The environment, with our settings instead of whatever pool and bucket it named."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(("AWS_", "SEEDBED_", "RCLONE_"))
    }
    return {**kept, **settings.to_environ(), "PYTHONUNBUFFERED": "1"}
