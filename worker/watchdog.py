"""Ends the process when the GPU hangs: its jobs are reported and another worker takes over."""

from __future__ import annotations

import faulthandler
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread, Timer

EXIT_CODE = 70
"""EX_SOFTWARE: the process could not go on."""
LAST_WORDS_SECONDS = 5.0
"""How long the report to the queue may take before the process ends without it."""
GRACE_SECONDS = 5.0
"""How much later a process ends in which not even this timer can run."""

logger = logging.getLogger(__name__)


class Watchdog:
    """Times what may hang: one batch on the GPU, and files that are decoded beside it."""

    def __init__(self, seconds: float) -> None:
        """Give every watched block ``seconds`` to finish."""
        self.seconds = seconds

    @property
    def bound_seconds(self) -> float:
        """When a process that is watched has ended for certain, its last words included."""
        return self.seconds + LAST_WORDS_SECONDS + GRACE_SECONDS

    @contextmanager
    def watch(self, last_words: Callable[[], None]) -> Iterator[None]:
        """End the process if the block takes too long.

        Args:
            last_words: Called first, in a thread of its own and only for a few seconds: it
                reports the jobs on a connection that the hung thread does not hold.
        """
        with self.limit(last_words):
            # Code that hangs with the interpreter's lock in its hands lets no thread of Python's
            # run; this one is C's. The lease can't be renewed then, and so runs out.
            faulthandler.dump_traceback_later(
                self.bound_seconds, exit=True, file=sys.__stderr__ or 2
            )
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()

    @contextmanager
    def limit(self, last_words: Callable[[], None]) -> Iterator[None]:
        """The same, of code that gives the interpreter's lock up; of any number at a time."""
        timer = Timer(self.seconds, self._bite, [last_words])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _bite(self, last_words: Callable[[], None]) -> None:
        logger.error("jobs exceeded their time", extra={"seconds": self.seconds})
        faulthandler.dump_traceback(file=sys.__stderr__ or 2, all_threads=True)
        report = Thread(target=last_words, name="last-words", daemon=True)
        report.start()
        report.join(LAST_WORDS_SECONDS)
        os._exit(EXIT_CODE)
