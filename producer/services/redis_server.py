"""Redis for one machine: append-only file, nothing evicted, a password, 127.0.0.1."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from producer.services.binaries import OLDEST_REDIS, find_redis_server
from producer.services.service import Service, exchange
from producer.services.state import write_private

STOP_SECONDS = 10.0
"""Redis writes its append-only file out first; on a full or slow disk that takes a moment."""

CONFIG = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir .
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
tcp-backlog 128
daemonize no
"""
# dir is the working directory, so that no path has to be quoted.


def redis_service(data_dir: Path, *, port: int, environ: Mapping[str, str]) -> tuple[Service, str]:
    """Write ``data_dir/redis/redis.conf`` and return the service and the URL that reaches it.

    Raises:
        ServiceError: There is no redis-server that can read this folder.
    """
    folder = data_dir / "redis"
    # Redis 7 keeps its file in parts, which 6.2 does not see: it would start empty.
    oldest = (7,) if (folder / "appendonlydir").exists() else OLDEST_REDIS
    binary = find_redis_server(oldest=oldest)
    password = secrets.token_hex(24)
    write_private(folder / "redis.conf", CONFIG.format(port=port, password=password))
    service = Service(
        name="redis",
        command=(str(binary), "redis.conf"),
        environ={**environ, "LC_ALL": "C"},
        folder=folder,
        log=data_dir / "logs" / "redis.log",
        ready=lambda: _answers(port, password),
        stop_seconds=STOP_SECONDS,
    )
    return service, f"redis://:{password}@127.0.0.1:{port}/0"


def _answers(port: int, password: str) -> bool:
    """Also false while it reads its file in (-LOADING) and where another's Redis has the port."""
    question = f"AUTH {password}{os.linesep}PING{os.linesep}".encode()
    return b"+PONG" in exchange(port, question, until=b"+PONG")
