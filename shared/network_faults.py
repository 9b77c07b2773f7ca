"""What a failed connection died of: the libraries of Redis and S3 bury it in their own errors."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["host", "refused", "untrusted", "plain", "silent", "client certificate", "tls"]

PLAIN_REASONS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
"""OpenSSL's words for an answer that is no TLS."""
WANTED_REASONS = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
"""Its words for a server that wants a client's certificate: of TLS 1.3, and of 1.2."""


@dataclass(frozen=True, kw_only=True)
class NetworkFault:
    """Why there is no connection.

    Attributes:
        kind: ``host``: no such name; ``refused``: nobody listens there; ``untrusted``: nobody
            vouches for the server's certificate; ``plain``: it does not speak TLS; ``silent``: it
            does not go on with the handshake; ``client certificate``: it wants one, or another;
            ``tls``: anything else of TLS.
        detail: What the system says of it.
    """

    kind: Kind
    detail: str


def network_fault(error: BaseException) -> NetworkFault | None:
    """The first cause of ``error`` that says more than that there was no connection."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NetworkFault(kind="untrusted", detail=cause.verify_message.rstrip("."))
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            continue  # it hung up, for whatever reason
        if isinstance(cause, ssl.SSLError):
            return NetworkFault(kind=_tls_kind(cause), detail=cause.reason or str(cause))
        if isinstance(cause, TimeoutError) and "handshake" in str(cause):
            return NetworkFault(kind="silent", detail="the TLS handshake timed out")
        if isinstance(cause, socket.gaierror):
            return NetworkFault(kind="host", detail=cause.strerror or str(cause))
        if isinstance(cause, ConnectionRefusedError | FileNotFoundError):
            return NetworkFault(kind="refused", detail=cause.strerror or str(cause))
    return None


def _tls_kind(error: ssl.SSLError) -> Kind:
    reason = error.reason or ""
    if any(word in reason for word in PLAIN_REASONS):
        return "plain"
    return "client certificate" if any(word in reason for word in WANTED_REASONS) else "tls"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it was made from, nearest first."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        here = waiting.pop(0)
        if id(here) in seen:
            continue
        seen.add(id(here))
        yield here
        within = (
            here.__cause__,
            here.__context__,
            getattr(here, "reason", None),  # urllib3's
            getattr(here, "kwargs", {}).get("error"),  # botocore's
            *here.args,
        )
        waiting += [item for item in within if isinstance(item, BaseException)]
