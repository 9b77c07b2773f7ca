"""Dates S3 requests by the server's clock where this machine's is wrong; used by storage.py only.

S3 refuses requests whose date is more than 15 minutes off. botocore dates them by the machine's
clock and gives up; here the refusal's own ``Date`` is learnt from, and the request is sent again.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import botocore.auth
from botocore.compat import get_current_datetime

NOTICED_SECONDS = 240.0
"""How far off a clock has to be to be the reason of a refusal: S3 bears 15 minutes, some less."""

SIGNER = "seedbed-s3v4"
"""Our signature, among botocore's own: theirs with another date."""
THEIRS = ("s3v4", "v4")
CONTEXT = "seedbed_seconds_ahead"

logger = logging.getLogger(__name__)


class _DatedByTheServer(botocore.auth.S3SigV4Auth):
    """Signature V4 whose date is the server's."""

    def _modify_request_before_signing(self, request: Any) -> None:
        at = datetime.strptime(request.context["timestamp"], botocore.auth.SIGV4_TIMESTAMP)
        at -= timedelta(seconds=request.context[CONTEXT])
        request.context["timestamp"] = at.strftime(botocore.auth.SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)  # type: ignore[misc]


class StorageClock:
    """How far this machine's clock is from one server's.

    Attributes:
        seconds_ahead: Of this machine; negative if it is behind, 0 as long as nobody complains.
    """

    def __init__(self) -> None:
        self.seconds_ahead = 0.0

    def watch(self, client: Any) -> None:
        """Date this S3 client's requests by its server, once that finds the clock wrong."""
        botocore.auth.AUTH_TYPE_MAPS.setdefault(SIGNER, _DatedByTheServer)
        events = client.meta.events
        events.register("needs-retry.s3", self._learn)
        events.register("choose-signer.s3", self._choose)
        events.register("before-sign.s3", self._tell)

    def _learn(self, response: Any, **_: Any) -> float | None:
        """Seconds to wait before the request is sent again; None: this was not the reason."""
        if response is None:
            return None
        seen = response[1].get("ResponseMetadata", {})
        if seen.get("HTTPStatusCode") != 403:  # a refused HEAD has no code
            return None
        try:
            server = parsedate_to_datetime(seen["HTTPHeaders"]["date"])
        except (KeyError, ValueError):
            return None
        if server.tzinfo is None:
            server = server.replace(tzinfo=UTC)
        ahead = (get_current_datetime(remove_tzinfo=False) - server).total_seconds()
        if abs(ahead - self.seconds_ahead) < NOTICED_SECONDS:
            return None
        self.seconds_ahead = ahead if abs(ahead) >= NOTICED_SECONDS else 0.0
        logger.warning(
            "this machine's clock is wrong: storage requests are dated by the server's",
            extra={"seconds_ahead": round(ahead)},
        )
        return 0.0

    def _choose(self, signature_version: Any, **_: Any) -> str | None:
        return SIGNER if self.seconds_ahead and signature_version in THEIRS else None

    def _tell(self, request: Any, **_: Any) -> None:
        request.context[CONTEXT] = self.seconds_ahead
