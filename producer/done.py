"""Which positions of a sweep are done, read from the queue's bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.queue import JobQueue

CHUNK_POSITIONS = 1 << 20
"""Done bits asked for at once: 128 KiB, so that a large sweep costs no memory."""


def done_positions(queue: JobQueue, sweep_id: str, total: int, *, start: int = 0) -> Iterator[int]:
    """The queue's positions of the images that are done, in order.

    Args:
        total: Only positions below it.
        start: Only those from it on; a multiple of 8.

    Raises:
        QueueUnavailable: Redis does not answer.
    """
    for begin in range(start, total, CHUNK_POSITIONS):
        count = min(CHUNK_POSITIONS, total - begin)
        for number, byte in enumerate(queue.done_mask(sweep_id, begin, count)):
            if byte:
                first = begin + number * 8
                yield from (first + bit for bit in range(8) if byte & (0x80 >> bit))
