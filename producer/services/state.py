"""What a stack leaves in its folder: who keeps it, how to reach it, and which children it has.

stack.lock     held (flock) by the keeper for as long as it lives
users.lock     shared by each command that joined; the keeper outlives them
workers.lock   shared by the keeper of each worker that a joiner added
stack.json     how to reach the stack; 0600, there only while it can be reached
children.json  the processes to end should the keeper itself be killed
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

VERSION = 1
KILL_SECONDS = 5.0
"""How long an orphan gets to vanish after SIGKILL."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process that can't be mistaken for a later one with the same number.

    Attributes:
        pid: Its number.
        started: When it started, as the system tells it; compared for equality only.
    """

    pid: int
    started: str

    @classmethod
    def current(cls) -> Process:
        """This process."""
        return cls(pid=os.getpid(), started=_started(os.getpid()) or "")

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this number now."""
        return cls(pid=pid, started=_started(pid) or "")

    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return bool(self.started) and _started(self.pid) == self.started

    def send(self, number: signal.Signals) -> None:
        """Signal it, if it is still the same process."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, number)


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything in ``stack.json``.

    Attributes:
        keeper: Who keeps the stack.
        stopping: It is on its way out; nobody joins any more.
        worker_models: What its worker was started for.
        failure: Why there is no worker any more, with the end of its log; None: all is well.
        refused: The failure is the user's to mend.
    """

    keeper: Process
    redis_url: str
    s3_endpoint_url: str
    access_key: str
    secret_key: str
    bucket: str
    pool: str
    prefix: str
    worker_models: tuple[str, ...] = ()
    stopping: bool = False
    failure: str | None = None
    refused: bool = False

    def write(self, data_dir: Path) -> None:
        """Replace ``stack.json`` in one step."""
        write_private(data_dir / "stack.json", json.dumps({"version": VERSION, **asdict(self)}))

    @classmethod
    def read(cls, data_dir: Path) -> State | None:
        """The state of a stack whose keeper lives; None where there is none.

        A file that is not ours to understand counts as none: the next start replaces it.
        """
        try:
            data = json.loads((data_dir / "stack.json").read_text(encoding="utf-8"))
            if data.pop("version") != VERSION or set(data) != {item.name for item in fields(cls)}:
                return None
            keeper = Process(**data.pop("keeper"))
            models = tuple(data.pop("worker_models"))
            state = cls(keeper=keeper, worker_models=models, **data)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None
        return state if state.keeper.alive() else None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with 0600
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


class FolderLock:
    """An flock on a file of the data folder: the kernel lets go of it when its holder dies."""

    def __init__(self, path: Path) -> None:
        self._number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self, *, shared: bool = False) -> bool:
        """Take it without waiting; False: another process has it.

        Raises:
            OSError: This file system has no locks.
        """
        try:
            fcntl.flock(self._number, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let go. A second call does nothing."""
        number, self._number = self._number, -1
        if number >= 0:
            os.close(number)


def write_children(data_dir: Path, children: Mapping[str, int]) -> None:
    """Note the processes (name to pid) that must not outlive the keeper."""
    known = {name: asdict(Process.of(pid)) for name, pid in children.items()}
    write_private(data_dir / "children.json", json.dumps(known))


def end_orphans(data_dir: Path) -> int:
    """Kill what a killed keeper left running; returns how many notes of processes there were.

    On Linux the kernel has done it already. Only for the holder of ``stack.lock``.
    """
    path = data_dir / "children.json"
    try:
        noted = [Process(**item) for item in json.loads(path.read_text()).values()]
    except (OSError, ValueError, TypeError, AttributeError):
        noted = []
    for process in noted:
        process.send(signal.SIGKILL)
    deadline = time.monotonic() + KILL_SECONDS
    while any(process.alive() for process in noted) and time.monotonic() < deadline:
        time.sleep(0.02)
    path.unlink(missing_ok=True)
    return len(noted)


def _started(pid: int) -> str | None:
    """Start time of a live process; None where there is none, or only a zombie."""
    if sys.platform == "linux":
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        # The name is in parentheses and may hold anything; fields 3 (state) and 22 follow it.
        rest = text.rpartition(")")[2].split()
        return None if rest[0] in "ZX" else rest[19]
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split(maxsplit=1)
    return None if len(answer) < 2 or answer[0].startswith("Z") else answer[1].strip()
