"""The stack's exporter: `seedbed metrics` on 127.0.0.1, which the stack can do without."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from producer.services.service import Service, free_port
from producer.services.worker_process import worker_environ
from shared.errors import InvalidSettings
from shared.metrics_server import DEFAULT_HOST, POOL_PORT
from shared.settings import Settings

NAME = "metrics"
STOP_SECONDS = 5.0

COMMAND = (sys.executable, "-P", "-m", "producer.cli.main", "metrics")


def metrics_service(
    data_dir: Path, settings: Settings, *, port: int, folder: Path, environ: Mapping[str, str]
) -> Service:
    """An exporter of ``settings``' pool."""
    return Service(
        name=NAME,
        command=(*COMMAND, f"--host={DEFAULT_HOST}", f"--port={port}"),
        environ=worker_environ(environ, settings),
        folder=folder,
        log=data_dir / "logs" / f"{NAME}.log",
        ready=None,
        stop_seconds=STOP_SECONDS,
    )


def pick_port(asked: int | None) -> int:
    """The port asked for; else the usual one, or any free one where that is taken.

    Raises:
        InvalidSettings: The port asked for is taken.
    """
    if asked == 0:
        return free_port()
    wanted = POOL_PORT if asked is None else asked
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((DEFAULT_HOST, wanted))
    except OSError as exc:
        if asked is None:
            return free_port()
        raise InvalidSettings(
            f"--metrics-port {asked} can't be had ({exc}): choose another, or 0 for any free one"
        ) from exc
    return wanted
