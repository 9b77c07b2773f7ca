"""A real worker that dies or hangs of certain prompts and files, started again whenever it ends.

``python -m tests.poisoned_worker`` takes what ``python -m worker`` takes.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from PIL import Image

from shared.job import Job
from tests.worker_lives import live_again
from worker import inputs
from worker.engine import StockEngine

KILLER = "a killer"
"""Prompt of jobs that kill the process they are rendered in."""
SLEEPER = "a sleeper"
"""Prompt of jobs that never end."""
KILLING_SIZE = (72, 40)
"""Width and height of images that kill the process they are decoded in."""


def poison(engine: type[StockEngine]) -> None:
    """Have batches with poison in them end their process, or never end."""
    render_batch = engine._render_batch

    def poisoned(self: StockEngine, jobs: Sequence[Job], *rest: Any) -> Any:
        prompts = {job.prompt for job in jobs}
        if KILLER in prompts:
            os.kill(os.getpid(), signal.SIGKILL)
        while SLEEPER in prompts:
            time.sleep(60)
        return render_batch(self, jobs, *rest)

    engine._render_batch = poisoned  # type: ignore[method-assign]


def poison_images() -> None:
    """Have the reading of certain images end its process."""
    read_image = inputs.read_image

    def poisoned(body: bytes) -> Image.Image:
        image = read_image(body)
        if image.size == KILLING_SIZE:
            os.kill(os.getpid(), signal.SIGKILL)
        return image

    inputs.read_image = poisoned


if __name__ == "__main__":
    poison(StockEngine)
    poison_images()
    live_again()
