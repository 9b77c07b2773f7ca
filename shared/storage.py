"""Objects in one S3 bucket, under one prefix: with storage_clock.py, what knows boto3.

Only ``connect`` and ``check`` raise InvalidSettings. Everything else that goes wrong is a
StorageError: a worker with images in its hands keeps them and tries again, whatever the reason.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    ProfileNotFound,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from shared.errors import InvalidInput, InvalidSettings, ObjectMissing, ObjectTooLarge, StorageError
from shared.network_faults import network_fault
from shared.storage_clock import StorageClock

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from shared.settings import Settings

CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 60.0
MAX_ATTEMPTS = 3
"""Tries of one request, the first included; boto3's standard mode waits 0-1 and 0-2 s between."""

MAX_POOL_CONNECTIONS = 32
"""Sockets kept open to the endpoint; more threads than this wait for one another."""

PARALLEL_REQUESTS = 16
"""Threads of ``exists_many``: a HEAD is mostly waiting, but signing it costs about 1 ms of CPU."""

TRANSFER = TransferConfig(
    multipart_threshold=64 * 2**20, multipart_chunksize=64 * 2**20, max_concurrency=2
)
"""How files go: in parts from 64 MiB on, two at a time, so that 10,000 parts are 625 GiB."""

PIECE_BYTES = 2**20
"""Of a file that is read, held in memory at once."""

MAX_KEY_BYTES = 1024
"""S3's own limit, prefix included."""

BOTO_ERRORS = (BotoCoreError, ClientError, ResponseParserError)
"""All that a boto3 call raises; the three have no common root."""

UNREACHABLE = (BotoConnectionError, HTTPClientError, IncompleteReadError)
"""The network's fault, or a server that is down; botocore's other errors are made on this side."""

MISSING_CODES = frozenset({"404", "NoSuchKey", "NotFound"})
EMPTY_CODES = frozenset({"416", "InvalidRange"})
"""What is asked for lies beyond the object's end."""
REFUSED_CODES = {
    "InvalidAccessKeyId": "does not know this access key: check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "does not accept the secret of this access key: check "
    "AWS_SECRET_ACCESS_KEY",
    "AccessDenied": "knows this access key and lets it do too little: allow it to list, read and "
    "write the bucket, or use another in AWS_ACCESS_KEY_ID",
} | dict.fromkeys(
    ("403", "401", "Forbidden"),
    "refuses these credentials: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that they "
    "may list, read and write the bucket",
)
"""S3's error code to what it means for whoever set the credentials."""
EXPIRED_CODES = frozenset({"ExpiredToken", "InvalidToken", "TokenRefreshRequired"})
SKEWED_CODE = "RequestTimeTooSkewed"
REGION_CODES = frozenset(
    {
        "301",
        "PermanentRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """One entry of a listing.

    Attributes:
        key: Relative to the settings' prefix.
        size: Bytes.
    """

    key: str
    size: int


class Storage:
    """The pool's bucket. One instance serves any number of threads.

    Attributes:
        has_credentials: Whether the settings or the AWS chain gave any.
    """

    def __init__(
        self,
        client: S3Client,
        *,
        bucket: str,
        prefix: str,
        endpoint: str,
        has_credentials: bool,
    ) -> None:
        self.has_credentials = has_credentials
        self._client = client
        self._bucket = bucket
        self._root = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint = endpoint

    @classmethod
    def connect(cls, settings: Settings) -> Storage:
        """Prepare a client; nothing is sent before the first call.

        Raises:
            InvalidSettings: The endpoint, region or profile cannot be right.
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
                f"SEEDBED_S3_ENDPOINT_URL {_shown(url)!r} or SEEDBED_S3_REGION "
                f"{settings.s3_region!r} cannot be right: {_line(exc, hide=url)}"
            ) from exc
        except BotoCoreError as exc:
            raise InvalidSettings(f"the AWS configuration cannot be used: {_line(exc)}") from exc
        return cls(
            client,
            bucket=settings.bucket,
            prefix=settings.prefix,
            endpoint=_shown(url or client.meta.endpoint_url),
            has_credentials=has_credentials,
        )

    def close(self) -> None:
        """Close the sockets that are kept open."""
        self._client.close()

    def put(
        self,
        key: str,
        body: bytes,
        *,
        content_type: str,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Store ``body`` under ``key``, replacing what is there.

        The server refuses a body that was damaged on its way (Content-MD5), and a reader sees
        the old object or the new one, never a part of either.

        Args:
            metadata: ASCII names and values, for people who look at the bucket: rclone forgets
                them when it ends.
        """
        full = self._full(key)
        checksum = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=full,
                Body=body,
                ContentType=content_type,
                ContentMD5=checksum,
                Metadata=dict(metadata or {}),
            )
        except BOTO_ERRORS as exc:
            raise self._failed("store", key, exc) from exc

    def get(self, key: str, *, most_bytes: int | None = None) -> bytes:
        """The whole object.

        Raises:
            ObjectMissing: There is none.
            ObjectTooLarge: It has more than ``most_bytes``.
        """
        full = self._full(key)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=full)
                # not `with answer["Body"]`: that yields urllib3's stream, with urllib3's errors
                with closing(answer["Body"]) as stream:
                    if (
                        most_bytes is not None
                        and (size := answer.get("ContentLength", 0)) > most_bytes
                    ):
                        raise ObjectTooLarge(key, size, most_bytes)
                    return stream.read()
            except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError) as exc:
                # boto3 retries requests, not bodies that break off half-way.
                if attempt == MAX_ATTEMPTS:
                    raise self._failed("read", key, exc) from exc
            except BOTO_ERRORS as exc:
                raise self._failed("read", key, exc) from exc
        raise AssertionError("unreachable")

    def put_file(self, key: str, path: Path, *, content_type: str) -> None:
        """Store a file of any size, in parts where it is large.

        A reader sees the old object or the new one, as with ``put``.

        Raises:
            OSError: The file can't be read.
        """
        full = self._full(key)
        try:
            self._client.upload_file(
                str(path),
                self._bucket,
                full,
                ExtraArgs={"ContentType": content_type},
                Config=TRANSFER,
            )
        except S3UploadFailedError as exc:
            cause = exc.__cause__ or exc.__context__  # boto3 makes a text of the real one
            failed = cause if isinstance(cause, Exception) else exc
            raise self._failed("store", key, failed) from exc
        except BOTO_ERRORS as exc:
            raise self._failed("store", key, exc) from exc

    def get_file(self, key: str, path: Path) -> None:
        """Write an object of any size into a file.

        Raises:
            ObjectMissing: There is none.
            OSError: The file can't be written.
        """
        full = self._full(key)
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=full)
            with closing(answer["Body"]) as stream, path.open("wb") as file:
                for piece in stream.iter_chunks(PIECE_BYTES):
                    file.write(piece)
        except BOTO_ERRORS as exc:
            raise self._failed("read", key, exc) from exc

    def size(self, key: str) -> int | None:
        """Bytes of the object, or None where there is none."""
        full = self._full(key)
        try:
            return self._client.head_object(Bucket=self._bucket, Key=full)["ContentLength"]
        except BOTO_ERRORS as exc:
            if _code(exc) in MISSING_CODES:
                return None
            raise self._failed("look up", key, exc) from exc

    def exists(self, key: str) -> bool:
        """Whether there is an object under ``key``."""
        return self.size(key) is not None

    def sizes(self, keys: Iterable[str]) -> dict[str, int]:
        """Bytes of those of ``keys`` that are stored, looked up in parallel.

        For the keys of a batch or two; for all of a sweep, ``list`` asks once per 1,000 keys.
        """
        return self._in_parallel(self.size, keys)

    def holding(self, keys: Iterable[str], *, first: bytes) -> dict[str, int]:
        """Bytes of those of ``keys`` whose objects begin with ``first``, looked up as by ``sizes``.

        A HEAD is not taken at its word: gateways and caches have been known to answer 200 for
        what is not there, and an image believed to be stored is never made.
        """
        return self._in_parallel(lambda key: self._size_if_begins(key, first), keys)

    def _size_if_begins(self, key: str, first: bytes) -> int | None:
        if self.size(key) is None:
            return None
        full = self._full(key)
        try:
            answer = self._client.get_object(
                Bucket=self._bucket, Key=full, Range=f"bytes=0-{len(first) - 1}"
            )
            with closing(answer["Body"]) as stream:
                if stream.read(len(first)) != first:
                    return None
        except BOTO_ERRORS as exc:
            if _code(exc) in MISSING_CODES or _code(exc) in EMPTY_CODES:
                return None
            raise self._failed("look up", key, exc) from exc
        whole = answer.get("ContentRange", "").rpartition("/")[2]
        return int(whole) if whole.isdecimal() else answer["ContentLength"]

    def _in_parallel(
        self, look_up: Callable[[str], int | None], keys: Iterable[str]
    ) -> dict[str, int]:
        wanted = tuple(dict.fromkeys(keys))
        if len(wanted) <= 1:
            found: Iterable[int | None] = tuple(look_up(key) for key in wanted)
        else:
            with ThreadPoolExecutor(
                min(PARALLEL_REQUESTS, len(wanted)), thread_name_prefix="storage"
            ) as threads:
                try:
                    found = tuple(threads.map(look_up, wanted))
                except BaseException:
                    threads.shutdown(wait=False, cancel_futures=True)
                    raise
        return {key: size for key, size in zip(wanted, found, strict=True) if size is not None}

    def exists_many(self, keys: Iterable[str]) -> set[str]:
        """Those of ``keys`` that are stored, looked up in parallel as by ``sizes``."""
        return set(self.sizes(keys))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Every object whose key begins with ``prefix``, in key order.

        Objects stored while the listing runs may or may not be in it.
        """
        if ".." in prefix.split("/"):
            raise InvalidInput(f"prefix {prefix!r} climbs out with '..': write a plain one")
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._root + prefix
        )
        try:
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield StoredObject(key=entry["Key"][len(self._root) :], size=entry["Size"])
        except BOTO_ERRORS as exc:
            raise self._failed("list", prefix, exc) from exc

    def delete(self, key: str) -> None:
        """Remove the object; one that is not there is no error."""
        full = self._full(key)
        try:
            self._client.delete_object(Bucket=self._bucket, Key=full)
        except BOTO_ERRORS as exc:
            if _code(exc) not in MISSING_CODES:
                raise self._failed("delete", key, exc) from exc

    def uri(self, key: str) -> str:
        """``s3://bucket/prefix/key``, for people and other programs."""
        return f"s3://{self._bucket}/{self._root}{key}"

    def check(self) -> None:
        """Ask whether the endpoint answers, knows the bucket and lets us in.

        Raises:
            InvalidSettings: It answers, but endpoint, bucket, region or credentials are wrong.
            StorageError: It does not answer, or is not well.
        """
        try:
            # One level of one page: HEAD would be cheaper but carries no reason when refused,
            # and any web server answers a HEAD with 200.
            answer = self._client.list_objects_v2(
                Bucket=self._bucket, Prefix=self._root, Delimiter="/", MaxKeys=1
            )
        except BOTO_ERRORS as exc:
            raise self._refused(exc) from exc
        if "MaxKeys" not in answer and "IsTruncated" not in answer and "Name" not in answer:
            raise self._not_s3()

    def _full(self, key: str) -> str:
        """The key in the bucket.

        Raises:
            InvalidInput: The key could leave the prefix, or no file system could hold it.
        """
        full = self._root + key
        if (
            any(part in ("", ".", "..") for part in key.split("/"))
            or any(ord(letter) < 32 or ord(letter) == 127 for letter in key)
            or "\\" in key
        ):
            raise InvalidInput(
                f"object key {key!r}: write plain names joined by '/', "
                f"without '..', empty parts, backslashes or control characters"
            )
        try:
            length = len(full.encode())
        except UnicodeEncodeError as exc:
            raise InvalidInput(f"object key {key!r} is not valid Unicode text") from exc
        if length > MAX_KEY_BYTES:
            raise InvalidInput(
                f"object key {key[:40] + '...'!r} has {length} bytes: the limit is {MAX_KEY_BYTES}"
            )
        return full

    def _failed(self, verb: str, key: str, exc: Exception) -> StorageError:
        code = _code(exc)
        if verb == "read" and code in MISSING_CODES:
            return ObjectMissing(key)
        what = f"cannot {verb} {self.uri(key)}"
        if code == SKEWED_CODE:
            return StorageError(
                f"{what}: {self._endpoint} finds this machine's clock wrong, and does not say what "
                f"its own is: set the clock"
            )
        if code is not None:
            return StorageError(f"{what}: {self._endpoint} says {code}")
        if isinstance(exc, SSLError):
            return StorageError(f"{what}: {self._tls_fault(exc)}")
        if isinstance(exc, UNREACHABLE):
            return StorageError(f"{what}: {self._unreachable(exc)}")
        return StorageError(f"{what}: {_line(exc)}")

    def _refused(self, exc: Exception) -> InvalidSettings | StorageError:
        """What ``check`` says: whose setting it is, or that the server is down."""
        code = _code(exc)
        where = f"bucket {self._bucket!r} at {self._endpoint}"
        if code == "NoSuchBucket" or code in MISSING_CODES:
            return InvalidSettings(
                f"{where} does not exist: create it, or set SEEDBED_BUCKET to one that does"
            )
        if code == "InvalidBucketName" or isinstance(exc, ParamValidationError):
            return InvalidSettings(
                f"{where} has a name S3 does not allow: set SEEDBED_BUCKET to 3 to 63 lower-case "
                f"letters, digits, '.' or '-'"
            )
        if code in REFUSED_CODES:
            return InvalidSettings(f"{where} {REFUSED_CODES[code]} ({code})")
        if code in EXPIRED_CODES:
            return InvalidSettings(f"{where} says the AWS session is over ({code}): sign in again")
        if code in REGION_CODES:
            return InvalidSettings(
                f"{where} is in another region ({code}): set SEEDBED_S3_REGION to the bucket's"
            )
        if code == SKEWED_CODE:
            return InvalidSettings(f"{where} finds this machine's clock wrong: set the clock")
        if isinstance(exc, NoCredentialsError):
            return InvalidSettings(
                f"no credentials for {where}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                f"or AWS_PROFILE"
            )
        if isinstance(exc, SSLError):
            return InvalidSettings(self._tls_fault(exc))
        if isinstance(exc, ResponseParserError):
            return self._not_s3()
        if code is None and not isinstance(exc, UNREACHABLE):
            return InvalidSettings(
                f"the AWS configuration for {where} cannot be used: {_line(exc)}"
            )
        return self._failed("list", "", exc)

    def _tls_fault(self, exc: Exception) -> str:
        fault = network_fault(exc)
        if fault is not None and fault.kind == "plain":
            return (
                f"{self._endpoint} does not speak TLS: write http:// in SEEDBED_S3_ENDPOINT_URL, "
                f"or the port on which it does"
            )
        detail = "the handshake failed" if fault is None else fault.detail
        return (
            f"the certificate of {self._endpoint} is not trusted here ({detail}): name its "
            f"authority's file in AWS_CA_BUNDLE, or mend SEEDBED_S3_ENDPOINT_URL"
        )

    def _unreachable(self, exc: Exception) -> str:
        fault = network_fault(exc)
        if fault is not None and fault.kind == "host":
            return (
                f"the host of {self._endpoint} is not found ({fault.detail}): "
                f"check SEEDBED_S3_ENDPOINT_URL"
            )
        if fault is not None and fault.kind == "refused":
            why = "nobody listens there"
        elif isinstance(exc, ConnectionClosedError) and self._endpoint.startswith("http://"):
            why = "it hangs up at once; if it speaks TLS, write https://"
        else:
            why = type(exc).__name__
        return (
            f"nobody answers at {self._endpoint} ({why}): start it, or mend SEEDBED_S3_ENDPOINT_URL"
        )

    def _not_s3(self) -> InvalidSettings:
        return InvalidSettings(
            f"{self._endpoint} answers, but not as S3: set SEEDBED_S3_ENDPOINT_URL to an S3 API"
        )


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


def _code(exc: Exception) -> str | None:
    """S3's error code, or the HTTP status where the answer had no body; None: no answer."""
    if not isinstance(exc, ClientError):
        return None
    return exc.response.get("Error", {}).get("Code") or str(
        exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "unknown")
    )


def _line(exc: Exception, *, hide: str | None = None) -> str:
    text = " ".join(str(exc).split())
    return text.replace(hide, _shown(hide)) if hide else text


def _shown(url: str | None) -> str:
    """The endpoint without user names or passwords, fit for a message."""
    if url is None:
        return "AWS"
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _is_loopback(url: str) -> bool:
    try:
        return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    except ValueError:
        return False
