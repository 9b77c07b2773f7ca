"""Weights whose loading ends one worker after another are let alone: no lease tells of such ends.

Loading comes before any claim, so no job is charged with it, and a pool of other workers may well
have the memory for these weights. The sweep waits, and its status says why.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import ModelError, QueueError
from shared.queue import JobQueue

ENOUGH = 3
"""Workers in a row that did not live through it, of those on one kind of device."""
REST_SECONDS = 3600.0
"""How long they are then let alone, before one worker tries again."""

logger = logging.getLogger(__name__)


class Loads:
    """The pool's count of loadings that have begun and not ended.

    Args:
        device: On whose memory it depends.
    """

    def __init__(self, queue: JobQueue, *, device: str) -> None:
        self._queue = queue
        self._device = device

    @contextmanager
    def counted(self, key: str, *, name: str) -> Iterator[None]:
        """A block that loads weights: counted until it ends, in whatever way but the process'.

        Args:
            key: The queue's name for the weights.
            name: People's name for them.

        Raises:
            ModelError: They are to be let alone.
            QueueError: The queue does not answer.
        """
        what = f"{key} {self._device}"
        if ended := self._queue.begin_load(what, enough=ENOUGH, rest_seconds=REST_SECONDS):
            raise ModelError(
                f"loading {name} ended {ended} workers in a row on {self._device}, for want of "
                f"memory as a rule: it is tried once in {REST_SECONDS / 60:g} minutes; serve it "
                "with workers that have more"
            )
        try:
            yield
        finally:
            try:
                self._queue.end_load(what)
            except QueueError as exc:  # counted as an end, until it is loaded again
                logger.info("end of loading not recorded", extra={"error": str(exc)})
