"""When a batch fails: split it or find the culprit, so that every other image is still made."""

from __future__ import annotations

import gc
import logging
import traceback
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from shared.errors import Cancelled, ModelError, OutOfMemory, RenderError, UnsupportedJob
from shared.job import Job
from worker.allocators import bytes_asked_for, bytes_text, says_out_of_memory

logger = logging.getLogger(__name__)

T = TypeVar("T")
A = TypeVar("A")

REASON_LENGTH = 500
"""Characters of a library's message that a failed job keeps."""

BROKEN_DEVICE = ("cuda error", "device-side assert", "cudnn_status_execution_failed")
"""Messages after which a process' CUDA context is of no more use to any job."""


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


def translate(caught: Exception) -> RenderError:
    """A fresh RenderError, without traceback, for whatever a pipeline call raised.

    Raises:
        ModelError: It was one, or it means that the device is broken.
    """
    if isinstance(caught, RenderError):
        return type(caught)(*caught.args)
    if isinstance(caught, ModelError):
        raise caught
    lines = [line.strip() for line in str(caught).splitlines() if line.strip()]
    reason = f"{type(caught).__name__}: {lines[0] if lines else 'no message'}"[:REASON_LENGTH]
    if isinstance(caught, torch.OutOfMemoryError | MemoryError):
        return OutOfMemory(reason)
    if isinstance(caught, RuntimeError):
        text = str(caught).lower()
        if says_out_of_memory(text):
            return OutOfMemory(reason)
        if any(words in text for words in BROKEN_DEVICE):
            raise ModelError(f"this worker's device failed, restart the worker: {reason}")
    return RenderError(reason)


def settings_fault(caught: TypeError | ValueError, denoiser: object) -> UnsupportedJob | None:
    """The error as one that no retry would change, if it came before the first denoising step.

    What pipelines and schedulers check there are the job's own settings; numbers on the device
    have no part in it yet.

    Args:
        denoiser: The model that is called at every step; None if it is not known.
    """
    frames = (frame for frame, _ in traceback.walk_tb(caught.__traceback__))
    if denoiser is None or any(frame.f_locals.get("self") is denoiser for frame in frames):
        return None
    return UnsupportedJob(*translate(caught).args)


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
