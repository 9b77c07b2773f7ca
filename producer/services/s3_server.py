"""S3 for one machine: ``rclone serve s3`` over a folder, whose objects are plain files."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path

from producer.services.binaries import find_rclone
from producer.services.service import Service, exchange

BUCKET = "seedbed"
STOP_SECONDS = 5.0

TEMPORARY_PATTERN = ".rclone_temp_*"
"""What rclone leaves when it is killed during a PUT; nothing in it was ever acknowledged."""


def s3_service(
    data_dir: Path, *, port: int, environ: Mapping[str, str]
) -> tuple[Service, str, str, str]:
    """Prepare ``data_dir/objects`` and return service, endpoint URL, access key and secret key.

    Raises:
        ServiceError: There is no rclone that is recent enough.
    """
    binary = find_rclone()
    folder = data_dir / "objects"
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    access_key, secret_key = secrets.token_hex(10), secrets.token_hex(20)
    service = Service(
        name="s3",
        command=rclone_command(binary, folder, port=port),
        environ=rclone_environ(environ, access_key=access_key, secret_key=secret_key),
        folder=folder,
        log=data_dir / "logs" / "s3.log",
        ready=lambda: _answers(port),
        stop_seconds=STOP_SECONDS,
    )
    return service, f"http://127.0.0.1:{port}", access_key, secret_key


def rclone_command(binary: Path, folder: Path, *, port: int) -> tuple[str, ...]:
    """The command line; each folder in ``folder`` is a bucket."""
    return (
        *(str(binary), "serve", "s3", "--addr", f"127.0.0.1:{port}"),
        *("--config", ""),  # nobody's rclone.conf
        # ETags are MD5 sums, made by reading every file that a listing names. We don't use them.
        *("--etag-hash", ""),
        # Files that people delete or add by hand are noticed after this. With 0 every request
        # reads its folder again: 40 times slower at 600 objects.
        *("--dir-cache-time", "2s"),
        str(folder),
    )


def rclone_environ(
    environ: Mapping[str, str], *, access_key: str, secret_key: str
) -> dict[str, str]:
    """The environment without anybody's rclone options, and with the keys, which `ps` won't show.

    The value is CSV, hence the quotes.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith("RCLONE_")}
    return {**kept, "RCLONE_AUTH_KEY": f'"{access_key},{secret_key}"'}


def remove_leftovers(data_dir: Path) -> int:
    """Delete what a killed rclone left half-written; returns how many files.

    Only while no rclone runs. It walks every object's folder, so it is for unclean ends.
    """
    count = 0
    for path in (data_dir / "objects").rglob(TEMPORARY_PATTERN):
        path.unlink(missing_ok=True)
        count += 1
    return count


def _answers(port: int) -> bool:
    """An unsigned request is refused, in S3's way and at once."""
    return b"<Error>" in exchange(port, b"GET / HTTP/1.0\r\n\r\n", until=b"<Error>")
