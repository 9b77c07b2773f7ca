"""Where Redis, the bucket and the data folder are: flag, then environment, then default."""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from urllib.parse import urlsplit

from shared.errors import InvalidSettings
from shared.mistakes import shown

VARIABLES: dict[str, str] = {
    "redis_url": "SEEDBED_REDIS_URL",
    "broker_url": "SEEDBED_BROKER_URL",
    "pool": "SEEDBED_POOL",
    "bucket": "SEEDBED_BUCKET",
    "prefix": "SEEDBED_PREFIX",
    "s3_endpoint_url": "SEEDBED_S3_ENDPOINT_URL",
    "s3_region": "SEEDBED_S3_REGION",
    "owner": "SEEDBED_OWNER",
    "data_dir": "SEEDBED_DATA",
}
"""Setting to the environment variable that gives it; ``--help`` prints the same table."""

REDIS_FORMS = {
    "redis": "redis://HOST:PORT/0",
    "rediss": "rediss://HOST:PORT/0",
    "unix": "unix:///PATH",
}
S3_FORMS = {"http": "http://HOST:PORT", "https": "https://HOST"}
POOL_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,64}")
BUCKET_PATTERN = re.compile(r"[A-Za-z0-9_.-]{3,255}")
"""What boto3 accepts; AWS' own rules are stricter, other servers' are not."""
MAX_OWNER_CHARS = 128
MAX_PREFIX_BYTES = 500
"""An S3 key has 1024 at most, and an image's own part of it 512."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a producer or worker needs to find the pool.

    Attributes:
        redis_url: Queue state, ``redis://``, ``rediss://`` or ``unix://``; None: not configured.
        broker_url: Celery's broker; None is the same Redis.
        pool: Name of the pool: its queue state shares one Redis Cluster hash tag.
        bucket: S3 bucket, which must exist.
        prefix: Key prefix inside the bucket; slashes at its ends don't count.
        s3_endpoint_url: S3-compatible endpoint; None is AWS' own (or AWS_ENDPOINT_URL).
        s3_region: Region name; None is the AWS chain's.
        owner: Whose sweeps these are, for fair sharing.
        data_dir: Folder of the embedded stack.
        access_key: Only for the embedded stack, whose credentials are generated;
            None is the standard AWS credential chain.
        secret_key: Goes with ``access_key``.
    """

    redis_url: str | None = field(default=None, repr=False)
    broker_url: str | None = field(default=None, repr=False)
    pool: str = "default"
    bucket: str = "seedbed"
    prefix: str = ""
    s3_endpoint_url: str | None = None
    s3_region: str | None = None
    owner: str = "nobody"
    data_dir: Path = Path("seedbed-data")
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)

    @classmethod
    def resolve(cls, flags: Mapping[str, str | None], environ: Mapping[str, str]) -> Settings:
        """Build settings from command-line flags, then ``environ``, then defaults.

        Raises:
            InvalidSettings: A value cannot be right.
        """
        values: dict[str, str | Path] = {"owner": _login(environ)}
        for name, variable in VARIABLES.items():
            given = flags.get(name)
            if given is None:
                given = environ.get(variable) or None
            if given is not None:
                values[name] = Path(given) if name == "data_dir" else given
        settings = cls(**values)  # type: ignore[arg-type]
        settings.check()
        return settings

    def check(self) -> None:
        """Raise InvalidSettings, naming the variable, for a value that cannot be right."""
        if self.redis_url is not None:
            _check_url("redis_url", self.redis_url, REDIS_FORMS)
        if self.broker_url is not None:
            _check_url("broker_url", self.broker_url, REDIS_FORMS, any_scheme=True)
        if self.s3_endpoint_url is not None:
            _check_url("s3_endpoint_url", self.s3_endpoint_url, S3_FORMS)
        if not POOL_PATTERN.fullmatch(self.pool):
            raise InvalidSettings(
                f"SEEDBED_POOL is {shown(self.pool)}: "
                f"write 1 to 64 letters, digits, '.', '_' or '-' (no braces)"
            )
        if not BUCKET_PATTERN.fullmatch(self.bucket):
            raise InvalidSettings(
                f"SEEDBED_BUCKET is {shown(self.bucket)}: write the name of an S3 bucket, "
                f"3 to 255 letters, digits, '.', '_' or '-'"
            )
        folders = self.prefix.strip("/").split("/") if self.prefix.strip("/") else []
        if len(self.prefix.encode(errors="replace")) > MAX_PREFIX_BYTES:
            raise InvalidSettings(
                f"SEEDBED_PREFIX has {len(self.prefix.encode(errors='replace'))} bytes: "
                f"at most {MAX_PREFIX_BYTES} are allowed, write a shorter one"
            )
        if not self.prefix.isprintable() or any(name in ("", ".", "..") for name in folders):
            raise InvalidSettings(
                f"SEEDBED_PREFIX is {shown(self.prefix)}: write plain folders such as team/shapes"
            )
        if not 0 < len(self.owner) <= MAX_OWNER_CHARS or not self.owner.isprintable():
            raise InvalidSettings(
                f"SEEDBED_OWNER is {shown(self.owner)}: "
                f"write a name of 1 to {MAX_OWNER_CHARS} printable characters"
            )

    def with_values(self, **values: object) -> Settings:
        """A copy with some fields replaced."""
        return replace(self, **values)  # type: ignore[arg-type]

    def to_environ(self) -> dict[str, str]:
        """The environment that gives a child process these settings."""
        environ = {
            VARIABLES[item.name]: str(getattr(self, item.name))
            for item in fields(self)
            if item.name in VARIABLES and getattr(self, item.name) is not None
        }
        if self.access_key is not None and self.secret_key is not None:
            environ["AWS_ACCESS_KEY_ID"] = self.access_key
            environ["AWS_SECRET_ACCESS_KEY"] = self.secret_key
        return environ


def _login(environ: Mapping[str, str]) -> str:
    try:
        return environ.get("USER") or getpass.getuser()
    except (KeyError, OSError):
        return "nobody"


def _check_url(name: str, url: str, forms: Mapping[str, str], *, any_scheme: bool = False) -> None:
    """Raise InvalidSettings for a URL of no known scheme, without a host, or with a bad port."""
    scheme, separator, _ = url.partition("://")
    if not separator or (scheme.lower() not in forms and not any_scheme):
        fault = "is not a URL of a kind it takes"
    elif scheme.lower() not in forms:
        return
    else:
        fault = _fault(url)
    if fault:
        raise InvalidSettings(
            f"{VARIABLES[name]} is {shown(hidden(url))}, which {fault}: "
            f"write {' or '.join(forms.values())}"
        )


def _fault(url: str) -> str:
    """What can't be about the place a URL names; empty if nothing."""
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return "" if parts.path else "names no path"
        if "@" in parts.path + parts.query + parts.fragment:
            return "has a password whose '/', '?' or '#' is not written %2F, %3F or %23"
        return "" if parts.hostname and parts.port != 0 else "names no host"
    except ValueError:  # its port is no number, or its IPv6 brackets don't match
        return "has a host or port that can't be"


def hidden(url: str) -> str:
    """The URL without what may be a password, fit for a message or a log."""
    secret, at, place = url.rpartition("@")
    if at:
        scheme, separator, _ = secret.partition("://")
        url = f"{scheme}://***@{place}" if separator else f"***@{place}"
    return url.partition("?")[0]
