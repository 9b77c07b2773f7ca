"""When a batch fails: split it or find the culprit, so that every other image is still made."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from shared.errors import Cancelled, OutOfMemory, RenderError, UnsupportedJob
from shared.job import Job
from worker.allocators import bytes_asked_for, bytes_text
from worker.faults import translate

logger = logging.getLogger(__name__)

T = TypeVar("T")
A = TypeVar("A")


class RowCap:
    """How many rows fit, as learnt from what ran and what did not.

    Attributes:
        good: Most rows that were seen to fit.
        bad: Fewest rows that were seen not to; None before the first failure.
        splits: Batches that did not fit and were split, so far.
    """

    def __init__(self) -> None:
        self.good = 0
        self.bad: int | None = None
        self.splits = 0

    def rows_to_try(self, wanted: int) -> int:
        """All that is wanted, or halfway between known good and known bad; at least one."""
        if self.bad is None or wanted <= self.good:
            return wanted
        return max(1, min(wanted, (self.good + self.bad) // 2))

    def fitted(self, rows: int) -> None:
        """``rows`` rows ran."""
        self.good = max(self.good, rows)
        if self.bad is not None and self.bad <= rows:
            self.bad = None  # something else had taken the memory, and gave it back

    def overflowed(self, rows: int) -> None:
        """``rows`` rows did not fit."""
        self.splits += rows > 1
        self.bad = rows if self.bad is None else min(self.bad, rows)
        if self.good >= rows:
            self.good = 0  # there is less memory than there was: nothing is known any more


def release_memory() -> None:
    """Collect garbage and give cached device memory back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def render_rows(
    jobs: Sequence[Job],
    run: Callable[[Sequence[Job]], Sequence[T | RenderError]],
    cap: RowCap,
    *,
    size: tuple[int, int] | None = None,
    always: int | None = None,
    release: Callable[[], None] = release_memory,
) -> list[T | RenderError]:
    """Run a batch; where it fails, run its parts, until every job has an image or its own error.

    Args:
        jobs: What one pipeline call could render together.
        run: Renders some of them, one outcome each; raises when the call as a whole fails.
        cap: Learns how many rows fit.
        size: Height and width of their images, for the message of one that does not fit alone.
        always: Images that every call makes room for, however many jobs it is for: splitting
            one that does not fit would be no help.
        release: Gives memory back before a smaller batch is tried.

    Returns:
        One outcome for each job, in order.

    Raises:
        ModelError: The device is broken; nothing more can be rendered in this process.
    """
    outcomes: list[T | RenderError] = []
    while len(outcomes) < len(jobs):
        left = jobs[len(outcomes) :]
        part = left[: cap.rows_to_try(len(left))]
        result = attempt(run, part)
        if not isinstance(result, RenderError):
            cap.fitted(len(part))
            outcomes += result
        elif isinstance(result, Cancelled | UnsupportedJob):
            # Nobody wants the batch; or what it asks for in common can't be done.
            outcomes += [result] * len(left)
        elif isinstance(result, OutOfMemory) and always is not None:
            release()
            outcomes += [_does_not_fit(size, result, always)] * len(left)
        elif isinstance(result, OutOfMemory):
            cap.overflowed(len(part))
            release()
            if len(part) == 1:
                outcomes.append(_does_not_fit(size, result))
            else:
                logger.warning("batch does not fit, splitting it", extra={"rows": len(part)})
        elif len(part) == 1:
            outcomes.append(result)
        else:
            logger.warning("batch failed, looking for the culprit", extra={"rows": len(part)})
            middle = len(part) // 2
            for half in (part[:middle], part[middle:]):
                outcomes += render_rows(half, run, cap, size=size, always=always, release=release)
    return outcomes


def attempt(run: Callable[[A], T], argument: A) -> T | RenderError:
    """What a call to the device returns, or why it returns nothing."""
    try:
        return run(argument)
    except Exception as caught:  # noqa: BLE001 - one job's fault must not fail its mates
        # Leaving the block drops the traceback, whose frames hold every activation.
        return translate(caught)


def _does_not_fit(
    size: tuple[int, int] | None, error: OutOfMemory, always: int | None = None
) -> OutOfMemory:
    pixels = f" of {size[1]}x{size[0]}" if size else ""
    asked = bytes_asked_for(str(error))
    needed = "" if asked is None else f", it needed {bytes_text(asked)} more at once"
    if always is not None:
        return OutOfMemory(
            f"a reproducible batch has room for {always} images{pixels}, however few it makes, and "
            f"does not fit in this worker's memory{needed} ({error}): use a smaller height and "
            "width, a worker with more memory, or leave reproducible out"
        )
    return OutOfMemory(
        f"one image{pixels} does not fit in this worker's memory{needed} ({error}): "
        "use a smaller height and width, or a worker with more memory"
    )
