"""Which positions of a sweep are done, read from the queue's bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.queue import JobQueue

CHUNK_POSITIONS = 1 << 20
"""Done bits asked for at once: 128 KiB, so that a large sweep costs no memory."""


def done_positions(queue: JobQueue, sweep_id: str, total: int) -> Iterator[int]:
    """The queue's positions of the images that are done, in order.

    Raises:
        QueueUnavailable: Redis does not answer.
    """
    for start in range(0, total, CHUNK_POSITIONS):
        count = min(CHUNK_POSITIONS, total - start)
        for number, byte in enumerate(queue.done_mask(sweep_id, start, count)):
            if byte:
                first = start + number * 8
                yield from (first + bit for bit in range(8) if byte & (0x80 >> bit))
