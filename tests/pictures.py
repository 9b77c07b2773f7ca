"""Pictures compared as the promise about pixels words it, and the stock pipeline's, made alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from shared.job import Job

MOST_LEVELS = 1
"""Of 255: how far one colour of a pixel may be off."""

MOST_PIXELS = 0.001
"""Share of pixels that may be off at all."""


def difference(first: Image.Image, second: Image.Image) -> tuple[int, float]:
    """The largest difference in levels of 255, and the share of pixels that differ."""
    levels = np.abs(np.asarray(first).astype(int) - np.asarray(second).astype(int))
    return int(levels.max()), float((levels.max(axis=-1) > 0).mean())


def assert_same_picture(first: Image.Image, second: Image.Image, *, what: object = "") -> None:
    """Equal but for rounding."""
    assert first.size == second.size, what
    levels, pixels = difference(first, second)
    assert levels <= MOST_LEVELS, f"{levels} of 255 levels apart: {what}"
    assert pixels <= MOST_PIXELS, f"{pixels:.3%} of the pixels differ: {what}"


def stock_output(pipeline: Any, job: Job, **more: Any) -> Any:
    """What the stock pipeline makes of one job alone, called as its own examples call it."""
    import torch

    arguments = {
        "negative_prompt": job.negative_prompt,
        "num_inference_steps": job.num_inference_steps,
        "guidance_scale": job.guidance_scale,
        "height": job.height,
        "width": job.width,
        "generator": torch.Generator("cpu").manual_seed(job.seed),
    }
    return pipeline(job.prompt, **arguments | more)
