"""How to reach Redis, and what its errors mean to us: the one place they are translated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis
from redis import exceptions
from redis.backoff import FullJitterBackoff
from redis.retry import Retry

from shared.errors import InvalidSettings, QueueError, QueueUnavailable, SeedbedError

SOCKET_SECONDS = 10.0
"""Bounds one reply; a script takes milliseconds."""

CONNECT_SECONDS = 5.0
HEALTH_CHECK_SECONDS = 30

RETRIES = 3
"""Within one call. Every script may be run twice, so a lost reply is simply asked for again."""

RETRY_CAP_SECONDS = 1.0
RETRY_BASE_SECONDS = 0.1

REFUSED = (
    exceptions.AuthenticationError,
    exceptions.AuthenticationWrongNumberOfArgsError,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
)

AWAY = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.ReadOnlyError,
    exceptions.ClusterDownError,
    exceptions.MasterDownError,
    exceptions.TryAgainError,
)
AWAY_CODES = ("MISCONF", "NOREPLICAS", "BUSY", "LOADING", "READONLY", "MASTERDOWN", "UNKILLABLE")
"""Errors that pass by themselves or by an administrator's hand."""


def connect(url: str) -> redis.Redis:
    """A client for ``url``; no connection is made yet.

    Raises:
        InvalidSettings: The URL can't be one.
    """
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_SECONDS,
        "health_check_interval": HEALTH_CHECK_SECONDS,
        "retry": Retry(FullJitterBackoff(cap=RETRY_CAP_SECONDS, base=RETRY_BASE_SECONDS), RETRIES),
    }
    if urlsplit(url).scheme != "unix":
        options |= {"socket_connect_timeout": CONNECT_SECONDS, "socket_keepalive": True}
    try:
        return redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise InvalidSettings(
            f"SEEDBED_REDIS_URL is {hide_password(url)!r}: {error}; write redis://HOST:PORT/0"
        ) from error


def hide_password(url: str) -> str:
    """The URL without its credentials, fit for a message."""
    return re.sub(r"//[^@/]*@", "//***@", url)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn whatever redis-py raises inside into the errors of ``shared.errors``."""
    try:
        yield
    except exceptions.RedisError as error:
        raise translate(error) from error


def translate(error: exceptions.RedisError) -> SeedbedError:
    """Who acts next: the user (settings), time (unavailable), or nobody we know (QueueError)."""
    text = str(error) or type(error).__name__
    code = error_code(text)
    if isinstance(error, REFUSED) or code in ("NOAUTH", "WRONGPASS", "NOPERM"):
        return InvalidSettings(
            f"Redis refused the credentials ({text}): check user and password in SEEDBED_REDIS_URL"
        )
    if isinstance(error, exceptions.OutOfMemoryError) or code == "OOM":
        return QueueUnavailable(
            "Redis has reached its maxmemory and takes no writes: raise maxmemory, "
            "or delete finished sweeps with 'seedbed delete'"
        )
    if isinstance(error, exceptions.InvalidResponse) or "unknown command" in text.lower():
        return InvalidSettings(
            f"what answers at SEEDBED_REDIS_URL is not a Redis 6.2 or later ({text[:120]}): "
            "check host and port"
        )
    if code == "WRONGTYPE":
        return InvalidSettings(
            "a key of this pool holds another program's data (WRONGTYPE): choose another "
            "SEEDBED_POOL, or another database in SEEDBED_REDIS_URL"
        )
    if "DB index" in text:
        return InvalidSettings(
            f"Redis has no such database ({text}): check the number at the end of SEEDBED_REDIS_URL"
        )
    if isinstance(error, exceptions.MovedError):
        return InvalidSettings(
            f"this node of a Redis Cluster does not have the pool's hash slot {error.slot_id}: "
            f"name the node that has it in SEEDBED_REDIS_URL, now {error.host}:{error.port}"
        )
    if isinstance(error, AWAY) or code in AWAY_CODES:
        return QueueUnavailable(f"Redis does not serve: {text}")
    return QueueError(f"Redis refused a command: {text}")


def error_code(text: str) -> str:
    """Redis' own word for an error; 6.2 buries that of a script in prose."""
    found = re.search(r"(?:^|: -)([A-Z]{3,})\b", text)
    return found.group(1) if found else ""
