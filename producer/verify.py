"""Renders a sample of a sweep's images again, each alone, and tells how far they are apart.

The rendering is done by a process of the worker's, since the producer has no torch.
"""

from __future__ import annotations

import logging
import math
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

from producer.show import HUB_WEIGHTS
from shared.errors import InvalidSettings, SeedbedError, ServiceError
from shared.verifying import Compared, Wanted, read_answer, write_request

if TYPE_CHECKING:
    from producer.results import SweepResults

PEAK = 255.0
SAYS = "error: "
"""What its sentence begins with when it gives up."""
REFUSED = 2
"""Its exit code for what the user can mend."""
TAIL_LINES = 15
"""How much of a log goes into an error message."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What a sample came to.

    Attributes:
        sweep_id: The sweep.
        done: Its images, of which the sample was drawn.
        images: One for each of the sample, by index.
        max_levels: How far they might be apart.
    """

    sweep_id: str
    done: int
    images: tuple[Compared, ...]
    max_levels: int

    @property
    def levels(self) -> int:
        """The largest difference of all."""
        return max((image.levels for image in self.images), default=0)

    @property
    def psnr(self) -> float:
        """Of all compared pixels together, dB; infinite where all are equal."""
        values = sum(image.values for image in self.images)
        error = sum(image.square_error * image.values for image in self.images)
        return psnr(error / values) if values else math.inf

    @property
    def identical(self) -> int:
        """Images that are equal to the bit."""
        return sum(image.fault is None and image.levels == 0 for image in self.images)

    def failed(self, image: Compared) -> bool:
        """Whether it is further apart than it may be, or could not be compared."""
        return image.fault is not None or image.levels > self.max_levels

    @property
    def passed(self) -> bool:
        """Whether there are some, and none has failed."""
        return bool(self.images) and not any(map(self.failed, self.images))


def psnr(square_error: float) -> float:
    """Peak signal to noise of 8-bit pictures, dB; infinite for equal ones."""
    return math.inf if square_error == 0 else 10 * math.log10(PEAK**2 / square_error)


def choose(indices: Iterable[int], count: int, sample: int, seed: int) -> list[int]:
    """A sample of ``count`` indices, each as likely as any other; the same for the same seed.

    Args:
        indices: Read once, and no further than need be.
        sample: How many; all where there are no more.
    """
    ranks = sorted(random.Random(seed).sample(range(count), min(sample, count)))
    chosen: list[int] = []
    at, source = 0, iter(indices)
    for rank in ranks:
        chosen += islice(source, rank - at, rank - at + 1)
        at = rank + 1
    return sorted(chosen)


def wanted_images(results: SweepResults, indices: Iterable[int]) -> list[Wanted]:
    """The request for these images; weights of a hub repository are named by their commit."""
    wanted = []
    for index in indices:
        job, place = results.layout.job(index), results.address_of(index)
        pin = results.pins.get(results.layout.block_of(results.layout.position_of(index)).model)
        if place is None or pin is None:
            continue  # nobody has rendered for this model
        commit = HUB_WEIGHTS.fullmatch(pin.weights)
        wanted.append(
            Wanted(
                index=index,
                key=place.key,
                digest=place.digest,
                job=replace(job, revision=commit[1]) if commit else job,
                pin=pin,
            )
        )
    return wanted


def render_again(
    images: Sequence[Wanted],
    environ: Mapping[str, str],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    command: Sequence[str] = (sys.executable, "-P", "-m", "worker", "verify"),
) -> tuple[Compared, ...]:
    """Have a worker's process render the images and compare them, by index.

    Args:
        environ: With the pool's settings and the worker's options.
        progress: Called with images compared and images in all.
        command: The process.

    Raises:
        InvalidSettings: It refuses: other weights, a device that is not there.
        ServiceError: Storage does not answer, or it has ended before it was through.
    """
    if not images:
        return ()
    found: list[Compared] = []
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=dict(environ),
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # it has ended; its last words say why
            process.stdin.write(write_request(images))
            process.stdin.close()
        for line in process.stdout:
            found.append(read_answer(line))
            progress(len(found), len(images))
        code = process.wait()
        log.seek(0)
        words = log.read().splitlines()
    if code or len(found) < len(images):
        raise _failure(code, words)
    for line in words:
        logger.warning("%s", line)
    return tuple(sorted(found, key=lambda image: image.index))


def _failure(code: int, words: Sequence[str]) -> SeedbedError:
    """Its own sentence where it has said one."""
    said = [line.removeprefix(SAYS) for line in words if line.startswith(SAYS)]
    if said:
        return InvalidSettings(said[-1]) if code == REFUSED else ServiceError(said[-1])
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    tail = "\n".join(words[-TAIL_LINES:])
    return ServiceError(f"the process that renders {how}\n{tail}".rstrip())
