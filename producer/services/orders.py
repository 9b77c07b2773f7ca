"""What the keeper is told, by standard input and signals, and what it tells whoever started it.

stdin   one line, the plan; its end means: stop, unless others use the stack
stdout  one JSON object a line: see ``Orders.say``
signals SIGUSR1: stay when stdin ends; SIGTERM: stop, a second one: at once;
        SIGINT and SIGHUP are not for it
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress


def read_line() -> bytes | None:
    """The first line of standard input, and not a byte more; None where it ends before."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(sys.stdin.fileno(), 1)
        if not piece:
            return None
        line += piece
    return line


class Orders:
    """The keeper's ear and mouth; to be made in the main thread, once.

    Attributes:
        alone: Standard input has ended: whoever started the keeper is gone.
        stay: It shall stay then.
        terms: How often SIGTERM came.
    """

    def __init__(self) -> None:
        self.alone = False
        self.stay = False
        self.terms = 0
        self._wake = self._take_signals()

    def wait(self, seconds: float) -> None:
        """Until something happens: a signal, a child's end, or news from whoever started us."""
        stdin = sys.stdin.fileno()
        ready, _, _ = select.select(
            [self._wake] if self.alone else [self._wake, stdin], [], [], seconds
        )
        if self._wake in ready:
            with suppress(BlockingIOError):
                os.read(self._wake, 4096)
        if stdin in ready and not os.read(stdin, 4096):
            self.alone = True

    def say(self, event: str, **facts: object) -> None:
        """ready | busy | shared | failed (message, refused) | worker_failed (message, refused)"""
        with suppress(OSError):  # nobody listens any more
            os.write(sys.stdout.fileno(), (json.dumps({"event": event, **facts}) + "\n").encode())

    def _take_signals(self) -> int:
        """Handle them all, so that none kills the keeper; returns what ``select`` wakes on."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        nothing: Callable[[int, object], None] = lambda *_: None  # noqa: E731
        # Handlers, not SIG_IGN: that would be inherited by the children.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, nothing)
        signal.signal(signal.SIGTERM, self._count_term)
        signal.signal(signal.SIGUSR1, self._note_stay)
        return reader

    def _count_term(self, *_: object) -> None:
        self.terms += 1

    def _note_stay(self, *_: object) -> None:
        self.stay = True
