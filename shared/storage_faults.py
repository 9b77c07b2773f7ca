"""Puts what went wrong with S3 into a sentence for whoever can mend it; used by storage.py only."""

from __future__ import annotations

from dataclasses import dataclass

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    SSLError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from shared.errors import InvalidSettings, StorageError
from shared.network_faults import network_fault

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
class StorageFaults:
    """Words for the failures of one bucket.

    Attributes:
        bucket: Its name.
        endpoint: Fit to be shown.
    """

    bucket: str
    endpoint: str

    def failed(self, what: str, exc: Exception) -> StorageError:
        """An operation that did not work out, whose jobs are kept for another try.

        Args:
            what: What can't be done to which object.
        """
        code = code_of(exc)
        if code == SKEWED_CODE:
            return StorageError(
                f"{what}: {self.endpoint} finds this machine's clock wrong, and does not say what "
                f"its own is: set the clock"
            )
        if code is not None:
            return StorageError(f"{what}: {self.endpoint} says {code}")
        if isinstance(exc, SSLError):
            return StorageError(f"{what}: {self._tls_fault(exc)}")
        if isinstance(exc, UNREACHABLE):
            return StorageError(f"{what}: {self._unreachable(exc)}")
        return StorageError(f"{what}: {one_line(exc)}")

    def refused(self, exc: Exception) -> InvalidSettings | None:
        """The setting to mend after a first question failed; None: the server is down or unwell."""
        code = code_of(exc)
        where = f"bucket {self.bucket!r} at {self.endpoint}"
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
            return self.not_s3()
        if code is None and not isinstance(exc, UNREACHABLE):
            return InvalidSettings(
                f"the AWS configuration for {where} cannot be used: {one_line(exc)}"
            )
        return None

    def _tls_fault(self, exc: Exception) -> str:
        fault = network_fault(exc)
        if fault is not None and fault.kind == "plain":
            return (
                f"{self.endpoint} does not speak TLS: write http:// in SEEDBED_S3_ENDPOINT_URL, "
                f"or the port on which it does"
            )
        detail = "the handshake failed" if fault is None else fault.detail
        return (
            f"the certificate of {self.endpoint} is not trusted here ({detail}): name its "
            f"authority's file in AWS_CA_BUNDLE, or mend SEEDBED_S3_ENDPOINT_URL"
        )

    def _unreachable(self, exc: Exception) -> str:
        fault = network_fault(exc)
        if fault is not None and fault.kind == "host":
            return (
                f"the host of {self.endpoint} is not found ({fault.detail}): "
                f"check SEEDBED_S3_ENDPOINT_URL"
            )
        if fault is not None and fault.kind == "refused":
            why = "nobody listens there"
        elif isinstance(exc, ConnectionClosedError) and self.endpoint.startswith("http://"):
            why = "it hangs up at once; if it speaks TLS, write https://"
        else:
            why = type(exc).__name__
        return (
            f"nobody answers at {self.endpoint} ({why}): start it, or mend SEEDBED_S3_ENDPOINT_URL"
        )

    def not_s3(self) -> InvalidSettings:
        """Somebody answers, in another language."""
        return InvalidSettings(
            f"{self.endpoint} answers, but not as S3: set SEEDBED_S3_ENDPOINT_URL to an S3 API"
        )


def code_of(exc: Exception) -> str | None:
    """S3's error code, or the HTTP status where the answer had no body; None: no answer."""
    if not isinstance(exc, ClientError):
        return None
    return exc.response.get("Error", {}).get("Code") or str(
        exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "unknown")
    )


def one_line(exc: Exception) -> str:
    """A library's own words, in one line."""
    return " ".join(str(exc).split())
