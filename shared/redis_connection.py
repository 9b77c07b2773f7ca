"""How to reach Redis, and what its errors mean to us: the one place they are translated."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import redis
from redis import exceptions
from redis.backoff import FullJitterBackoff
from redis.retry import Retry

from shared.errors import InvalidSettings, QueueError, QueueRefused, QueueUnavailable
from shared.network_faults import NetworkFault, network_fault
from shared.settings import VARIABLES

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

ACL_DENIED = "user executing the script can't"
"""Redis 7's words for a command or key that the user of a script has no right to."""

HELLO_FIRST = "HELLO must be called with the client already authenticated"
"""Its words for a client that names neither user nor password."""

HUNG_UP = ("closed by server", "reset by peer", "EOF occurred", "Broken pipe")
"""What is left to read where a server takes the connection and ends it at the first words."""

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


SETTING = VARIABLES["redis_url"]


def connect(url: str) -> redis.Redis:
    """A client for ``url``; no connection is made yet.

    Raises:
        InvalidSettings: The URL can't be one, or names files of TLS that can't be used.
    """
    options: dict[str, Any] = {
        "socket_timeout": SOCKET_SECONDS,
        "health_check_interval": HEALTH_CHECK_SECONDS,
        "retry": Retry(FullJitterBackoff(cap=RETRY_CAP_SECONDS, base=RETRY_BASE_SECONDS), RETRIES),
        # a name in Redis that is no text comes and goes unchanged, instead of breaking its reader
        "encoding_errors": "surrogateescape",
    }
    if urlsplit(url).scheme != "unix":
        options |= {"socket_connect_timeout": CONNECT_SECONDS, "socket_keepalive": True}
    tls_options(url)
    try:
        client = redis.Redis.from_url(url, **options)
        client.connection_pool.make_connection()  # not connected: only its options are looked at
    except (ValueError, TypeError) as error:
        raise InvalidSettings(
            f"{SETTING} is {hide_password(url)!r}: {error}; write redis://HOST:PORT/0"
        ) from error
    return client


def tls_options(url: str, *, setting: str = SETTING) -> dict[str, Any]:
    """What a ``rediss://`` URL's query says of TLS, as redis-py's connections take it.

    A server's certificate is always looked at, unless the query says ``ssl_cert_reqs=none``.

    Returns:
        Empty for other schemes.

    Raises:
        InvalidSettings: A file it names can't be used, or a value can't be.
    """
    if urlsplit(url).scheme != "rediss":
        return {}
    try:
        parsed = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise InvalidSettings(f"{setting} is {hide_password(url)!r}: {error}") from error
    options = {name: value for name, value in parsed.items() if name.startswith("ssl_")}
    options.setdefault("ssl_cert_reqs", "required")
    if options["ssl_cert_reqs"] not in ("required", "optional", "none"):
        raise InvalidSettings(
            f"{setting} has ssl_cert_reqs={options['ssl_cert_reqs']}: write required or none"
        )
    _check_tls_files(options, setting)
    return options


def _check_tls_files(options: Mapping[str, Any], setting: str) -> None:
    context = ssl.create_default_context()
    try:
        name = "ssl_ca_certs"
        if name in options:
            context.load_verify_locations(cafile=options[name])
        name = "ssl_ca_path"
        if name in options:
            context.load_verify_locations(capath=options[name])
        name = "ssl_certfile"
        if name in options or "ssl_keyfile" in options:
            context.load_cert_chain(
                options[name], options.get("ssl_keyfile"), options.get("ssl_password", "")
            )
    except (OSError, KeyError) as error:
        what = getattr(error, "strerror", None) or getattr(error, "reason", None)
        raise InvalidSettings(
            f"{setting} has {name}={options.get(name, '')}, which can't be used ({what}): "
            "write the path of a PEM file"
        ) from error


def text_of(name: bytes) -> str:
    """A name in Redis as text; what is no text goes back to Redis as the bytes it was."""
    return name.decode(errors="surrogateescape")


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


def translate(error: exceptions.RedisError, *, setting: str = SETTING) -> QueueError:
    """Who acts next: the user (settings), time (unavailable), or nobody we know (QueueError).

    Args:
        setting: The variable that names the server.
    """
    text = str(error) or type(error).__name__
    code = error_code(text)
    refused = _refused(error, text, code, setting)
    if refused is not None:
        return refused
    if isinstance(error, exceptions.OutOfMemoryError) or code == "OOM":
        return QueueUnavailable(
            "Redis has reached its maxmemory and takes no writes: raise maxmemory, "
            "or delete finished sweeps with 'seedbed delete'"
        )
    if isinstance(error, exceptions.InvalidResponse) or "unknown command" in text.lower():
        return QueueRefused(
            f"what answers at {setting} is not a Redis 6.2 or later ({text[:120]}): "
            "check host and port"
        )
    if code == "WRONGTYPE":
        return QueueRefused(
            "a key of this pool holds another program's data (WRONGTYPE): choose another "
            f"SEEDBED_POOL, or another database in {setting}"
        )
    if "DB index" in text:
        return QueueRefused(
            f"Redis has no such database ({text}): check the number at the end of {setting}"
        )
    if isinstance(error, exceptions.MovedError):
        return QueueRefused(
            f"this node of a Redis Cluster does not have the pool's hash slot {error.slot_id}: "
            f"name the node that has it in {setting}, now {error.host}:{error.port}"
        )
    if isinstance(error, AWAY) or code in AWAY_CODES:
        return _away(text, network_fault(error), setting)
    return QueueError(f"Redis refused a command: {text}")


def _refused(
    error: exceptions.RedisError, text: str, code: str, setting: str
) -> QueueRefused | None:
    """Of credentials that Redis does not take, or that may do too little."""
    if isinstance(error, exceptions.NoPermissionError) or code == "NOPERM" or ACL_DENIED in text:
        return QueueRefused(
            f"Redis' user may not do what is needed ({text[:200]}): give the user in {setting} the "
            "rights that docs/security.md lists, and check SEEDBED_POOL"
        )
    if code == "NOAUTH" or "authentication required" in text.lower() or HELLO_FIRST in text:
        return QueueRefused(
            f"Redis wants a password: write redis://USER:PASSWORD@HOST:PORT/0 in {setting}"
        )
    if isinstance(error, REFUSED) or code == "WRONGPASS":
        return QueueRefused(
            f"Redis refused the credentials ({text[:200]}): check user and password in {setting}"
        )
    return None


def _away(text: str, fault: NetworkFault | None, setting: str) -> QueueError:
    """Of a server that was not reached, or does not serve now."""
    kind = fault.kind if fault is not None else None
    detail = fault.detail if fault is not None else ""
    if kind == "untrusted":
        return QueueRefused(
            f"Redis' certificate is not trusted here ({detail}): name its authority's file in "
            f"{setting}, as rediss://HOST:PORT/0?ssl_ca_certs=FILE"
        )
    if kind == "plain":
        return QueueRefused(
            f"what answers at {setting} does not speak TLS: write redis:// instead of rediss://, "
            "or the port on which it does"
        )
    if kind == "client certificate":
        return QueueRefused(
            f"Redis wants a client's certificate that it knows ({detail}): add "
            f"ssl_certfile=FILE&ssl_keyfile=FILE to the query of {setting}"
        )
    if kind == "host":
        return QueueUnavailable(f"Redis' host is not found ({detail}): check {setting}")
    if kind == "refused":
        return QueueUnavailable(
            f"Redis does not serve: {text.rstrip('.')}: nobody listens there; start it, or mend "
            f"{setting}"
        )
    if kind == "silent":
        return QueueUnavailable(
            f"Redis does not serve: {detail}; if there is no TLS at {setting}, write redis://"
        )
    if any(words in text for words in HUNG_UP):
        text += (
            "; if it speaks TLS, write rediss://, and if it wants a client's certificate, "
            "ssl_certfile=FILE&ssl_keyfile=FILE in the query"
        )
    return QueueUnavailable(f"Redis does not serve: {text}")


def error_code(text: str) -> str:
    """Redis' own word for an error; 6.2 buries that of a script in prose."""
    found = re.search(r"(?:^|: -)([A-Z]{3,})\b", text)
    return found.group(1) if found else ""
