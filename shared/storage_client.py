"""Makes the S3 client that storage.py speaks through, from the settings and the AWS chain."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ProfileNotFound

from shared.errors import InvalidSettings
from shared.storage_clock import StorageClock
from shared.storage_faults import one_line

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from shared.settings import Settings

CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 60.0
MAX_ATTEMPTS = 3
"""Tries of one request, the first included; boto3's standard mode waits 0-1 and 0-2 s between."""

MAX_POOL_CONNECTIONS = 32
"""Sockets kept open to the endpoint; more threads than this wait for one another."""


def make_client(settings: Settings) -> tuple[S3Client, bool]:
    """A client that has sent nothing yet, and whether settings or AWS chain gave credentials.

    Raises:
        InvalidSettings: The endpoint, region, profile or certificates cannot be right.
    """
    url = settings.s3_endpoint_url
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
        max_pool_connections=MAX_POOL_CONNECTIONS,
        # AWS wants virtual hosts for new regions; everyone else's endpoint is a plain host.
        s3={"addressing_style": "path" if url else "auto"},
        # Since 1.36 boto3 adds CRC trailers to every PUT and checks them on every GET, which
        # several S3-compatible servers refuse or mangle. `put` sends Content-MD5 instead,
        # which all of them know.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # A proxy from the environment cannot reach this machine's own loopback.
        proxies={} if url and _is_loopback(url) else None,
    )
    try:
        session = boto3.Session(
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            region_name=settings.s3_region,
        )
        region = settings.s3_region or session.region_name or ("us-east-1" if url else None)
        client = session.client("s3", endpoint_url=url, region_name=region, config=config)
        StorageClock().watch(client)
        has_credentials = session.get_credentials() is not None
        _check_bundle(session)
    except ProfileNotFound as exc:
        raise InvalidSettings(
            "AWS_PROFILE names a profile that is in no AWS configuration file: "
            "unset it or write the profile"
        ) from exc
    except ValueError as exc:  # boto3 checks the endpoint's and the region's form this way
        raise InvalidSettings(
            f"SEEDBED_S3_ENDPOINT_URL {shown_endpoint(url)!r} or SEEDBED_S3_REGION "
            f"{settings.s3_region!r} cannot be right: {_hidden(exc, url)}"
        ) from exc
    except BotoCoreError as exc:
        raise InvalidSettings(f"the AWS configuration cannot be used: {one_line(exc)}") from exc
    return client, has_credentials


def shown_endpoint(url: str | None) -> str:
    """The endpoint without user names or passwords, fit for a message."""
    if url is None:
        return "AWS"
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _hidden(exc: Exception, url: str | None) -> str:
    text = one_line(exc)
    return text.replace(url, shown_endpoint(url)) if url else text


def _check_bundle(session: boto3.Session) -> None:
    """Raise InvalidSettings for certificates that boto3 would stumble over at its first request."""
    bundle = session._session.get_config_variable("ca_bundle")
    if not bundle:
        return
    context = ssl.create_default_context()
    try:
        if Path(bundle).is_dir():
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(cafile=bundle)
    except OSError as exc:
        raise InvalidSettings(
            f"AWS_CA_BUNDLE is {bundle!r}, which can't be used "
            f"({exc.strerror or getattr(exc, 'reason', exc)}): write the path of a PEM file"
        ) from exc


def _is_loopback(url: str) -> bool:
    try:
        return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    except ValueError:
        return False
