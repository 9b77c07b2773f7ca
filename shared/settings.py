"""Where Redis, the bucket and the data folder are: flag, then environment, then default."""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from urllib.parse import urlsplit

from shared.errors import InvalidSettings

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

POOL_PATTERN = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a producer or worker needs to find the pool.

    Attributes:
        redis_url: Queue state, ``redis://``, ``rediss://`` or ``unix://``; None: not configured.
        broker_url: Celery's broker; None is the same Redis.
        pool: Name of the pool: its queue state shares one Redis Cluster hash tag.
        bucket: S3 bucket, which must exist.
        prefix: Key prefix inside the bucket, without slashes at its ends.
        s3_endpoint_url: S3-compatible endpoint; None is AWS' own (or AWS_ENDPOINT_URL).
        s3_region: Region name; None is the AWS chain's.
        owner: Whose sweeps these are, for fair sharing.
        data_dir: Folder of the embedded stack.
        access_key: Only for the embedded stack, whose credentials are generated;
            None is the standard AWS credential chain.
        secret_key: Goes with ``access_key``.
    """

    redis_url: str | None = None
    broker_url: str | None = None
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
        for name in ("redis_url", "broker_url"):
            url = getattr(self, name)
            if url is None:
                continue
            scheme = urlsplit(url).scheme
            known = ("redis", "rediss", "unix")
            if name == "redis_url" and scheme not in known:
                raise InvalidSettings(
                    f"{VARIABLES[name]} is {_hidden(url)!r}: "
                    f"write redis://HOST:PORT/0, rediss://... or unix:///path"
                )
            if not scheme:
                raise InvalidSettings(f"{VARIABLES[name]} is {_hidden(url)!r}: it needs a scheme")
        if not POOL_PATTERN.fullmatch(self.pool):
            raise InvalidSettings(
                f"pool {self.pool!r}: 1 to 64 letters, digits, '.', '_' or '-' (no braces)"
            )
        if not self.bucket:
            raise InvalidSettings("bucket is empty: set SEEDBED_BUCKET to the name of an S3 bucket")
        if ".." in self.prefix.split("/"):
            raise InvalidSettings(
                f"prefix {self.prefix!r} climbs out with '..': name a plain folder"
            )
        if self.s3_endpoint_url is not None and urlsplit(self.s3_endpoint_url).scheme not in (
            "http",
            "https",
        ):
            raise InvalidSettings(
                f"SEEDBED_S3_ENDPOINT_URL is {self.s3_endpoint_url!r}: write http://HOST:PORT"
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


def _hidden(url: str) -> str:
    """The URL without its password, fit for a message."""
    return re.sub(r"//[^@/]*@", "//***@", url)
