"""Which jobs of a sweep are done, read from the queue's bits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from shared.errors import UnknownSweep

if TYPE_CHECKING:
    from producer.results import SweepResults
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


def done_indices(queue: JobQueue, results: SweepResults) -> tuple[int, Iterable[int]]:
    """How many images the queue calls done, and which; all may be, where it has lost the sweep."""
    sweep_id = results.manifest.sweep_id
    try:
        count = queue.status(sweep_id).done
    except UnknownSweep:
        return results.total, range(results.total)
    positions = done_positions(queue, sweep_id, results.total)
    return count, map(results.layout.index_of, positions)
