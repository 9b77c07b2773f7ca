"""A program to run, and its running process."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from shared.errors import ServiceError

TAIL_BYTES = 8192
TAIL_LINES = 15
"""How much of a log goes into an error message."""

MAX_LOG_BYTES = 16 << 20
"""A longer log is set aside as ``.1`` when its service starts."""

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Service:
    """What to start.

    Attributes:
        name: Of the service and of its log file.
        command: Program and arguments; nothing secret, since every user can list processes.
        environ: The whole environment.
        folder: Working directory.
        log: Where its output goes.
        ready: Whether it answers; None: nobody waits for it.
        stop_seconds: From SIGTERM to SIGKILL.
    """

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    folder: Path
    log: Path
    ready: Callable[[], bool] | None
    stop_seconds: float


class Child:
    """A started service. It is in a session of its own, so a terminal's Ctrl-C passes it by."""

    def __init__(self, service: Service) -> None:
        """Start it.

        Call it from a process with one thread: on Linux the kernel kills the child when the
        thread that made it ends, and code between fork and exec must not meet a held lock.

        Raises:
            ServiceError: The program or the log can't be opened.
        """
        self.service = service
        try:
            _set_aside(service.log)
            with service.log.open("ab") as log:
                self._log_start = log.tell()
                self.process = subprocess.Popen(
                    service.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=service.folder,
                    env=dict(service.environ),
                    start_new_session=True,
                    preexec_fn=_die_with(os.getpid()) if sys.platform == "linux" else None,
                )
        except OSError as exc:
            raise ServiceError(f"cannot start {service.name}: {exc}") from exc
        self.since = time.monotonic()

    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return self.process.poll()

    def send(self, number: signal.Signals) -> None:
        """Signal the process alone on SIGTERM, with all it started on SIGKILL."""
        with suppress(ProcessLookupError, PermissionError):
            if number == signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)

    def log_tail(self) -> str:
        """The last lines it wrote since it was started."""
        with suppress(OSError), self.service.log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, end - TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
            return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])
        return ""

    def said(self, words: bytes) -> bool:
        """Whether its output since it was started has these words."""
        with suppress(OSError), self.service.log.open("rb") as log:
            log.seek(self._log_start)
            return any(words in line for line in log)
        return False

    def how_it_ended(self) -> str:
        """For a message: the exit code or signal."""
        code = self.exit_code()
        if code is None:
            return "still runs"
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def exchange(port: int, question: bytes, *, until: bytes) -> bytes:
    """Ask a server on 127.0.0.1 and read until ``until``, 4 KiB or its end; b"" if it is mute."""
    answer = b""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0) as server:
        server.sendall(question)
        while until not in answer and len(answer) < 4096:
            piece = server.recv(4096)
            if not piece:
                break
            answer += piece
    return answer


def _die_with(parent: int) -> Callable[[], None]:
    """What a child runs before exec, so that not even SIGKILL of its parent leaves it behind."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel was asked
            os._exit(1)

    return ask


def _set_aside(log: Path) -> None:
    with suppress(FileNotFoundError):
        if log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_name(log.name + ".1"))
