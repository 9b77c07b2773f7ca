"""The keeper as whoever starts it sees it: a process to talk to and to let go of."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from producer.services.plan import Plan
from shared.errors import InvalidSettings, SeedbedError, ServiceError

STOP_SECONDS = 120.0
"""For a stack to end: its worker's 30, added workers' 35, Redis' 10, S3's 5, and some patience."""

HURRY_SECONDS = 10.0
"""To end it after a second Ctrl-C."""

LOOK_SECONDS = 0.25


class KeeperProcess:
    """One keeper, which ends with its stack when we close its standard input or die.

    Attributes:
        failure: What it has told us went wrong; None: nothing.
        ended_in_order: Somebody else has ended it.
    """

    def __init__(self, plan: Plan) -> None:
        """Start it; ``hear`` tells how that goes."""
        self.failure: SeedbedError | None = None
        self.ended_in_order = False
        self._data_dir = plan.settings.data_dir
        self._log = self._data_dir / "logs" / "stack.log"
        self._unread = b""
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                # It reads the folder from the plan; people read it in the process list.
                [sys.executable, "-P", "-m", "producer.services.keeper", str(self._data_dir)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
                bufsize=0,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input = self._process.stdin
        self._output = self._process.stdout
        words = plan.line()
        with suppress(BrokenPipeError):  # it has ended; ``hear`` says how
            while words:
                words = words[self._input.write(words) or 0 :]

    def hear(self, *, timeout: float) -> str | None:
        """Its next word, failures noted; None: nothing new within ``timeout`` seconds."""
        if b"\n" not in self._unread:
            ready, _, _ = select.select([self._output], [], [], timeout)
            if not ready:
                return None
            piece = self._output.read(65536) or b""
            if not piece and self.failure is None:
                self._note_end(self._process.wait())
            self._unread += piece
            if b"\n" not in self._unread:
                return None
        line, _, self._unread = self._unread.partition(b"\n")
        news = json.loads(line)
        if news["event"] in ("failed", "worker_failed"):
            self.failure = failure(news["message"], refused=news["refused"])
        return str(news["event"])

    def let_stay(self) -> None:
        """Forget that we have started it: it lives until somebody shuts it down."""
        self._process.send_signal(signal.SIGUSR1)
        self._forget()

    def end(self) -> bool:
        """Let go of it and wait until it has gone; False: others use the stack, so it stays.

        A Ctrl-C meanwhile hurries it, and is raised again when it has gone.
        """
        try:
            return self._end()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of it without waiting."""
        for pipe in (self._input, self._output):
            with suppress(OSError):
                pipe.close()

    def _end(self) -> bool:
        with suppress(OSError):
            self._input.close()
        interrupted = False
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            try:
                ready, _, _ = select.select([self._output], [], [], LOOK_SECONDS)
                said = self._output.read(65536) if ready else None
                if said and b'"shared"' in said and not interrupted:
                    self._forget()
                    return False
                if said == b"":
                    break
                if time.monotonic() > deadline:
                    self._process.send_signal(signal.SIGTERM)
                    break
            except KeyboardInterrupt:
                interrupted = True
                self._process.send_signal(signal.SIGTERM)
                deadline = time.monotonic() + HURRY_SECONDS
        try:
            self._process.wait(HURRY_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()  # a child hangs in the kernel; on Linux the others die with it
            self._process.wait()
        if interrupted:
            raise KeyboardInterrupt
        return True

    def _forget(self) -> None:
        self.close()
        self._process.returncode = 0  # not ours to wait for any more

    def _note_end(self, code: int) -> None:
        self.ended_in_order = code == 0
        self.failure = ServiceError(
            f"the stack in {self._data_dir} was stopped by someone else"
            if self.ended_in_order
            else f"the stack's keeper ended with exit code {code}: look at {self._log}"
        )


def failure(message: str, *, refused: bool) -> SeedbedError:
    """What a keeper has reported, as the error to raise."""
    return InvalidSettings(message) if refused else ServiceError(message)
