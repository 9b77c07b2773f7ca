"""Pictures compared as the promise about pixels words it, and the stock pipeline's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.errors import RenderError
from shared.job import Job
from tests.factories import make_job

LIBRARY_WARNINGS = [
    # Some of diffusers' schedulers hand torch tensors to numpy; these go once torch's __array__
    # and __array_wrap__ have NumPy 2's signatures.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context and return_scalar"),
    # torchsde compares float32 times with float64 ones; gone if diffusers' DPMSolverSDE drops it.
    pytest.mark.filterwarnings("ignore:Should have t[ab][<>]=t[01] but got:UserWarning"),
]
"""Marks for tests that run schedulers: what the libraries below complain of among themselves."""

MOST_LEVELS = 1
"""Of 255: how far one colour of a pixel may be off."""

MOST_PIXELS = 0.001
"""Share of pixels that may be off at all."""

MIXED = (
    ("a red circle", None, 7.5, 0),
    ("a red circle", "", 3.0, 1),
    ("a blue star", "blurry", 1.5, 2),
    ("a castle by the sea, oil painting", "blurry", 9.0, 3),
    ("", None, 4.0, 2**63 - 1),
    ("一只红色的狐狸 🦊", "low quality", 5.5, 4),
    ("a red circle", None, 7.5, 5),
    ("C# code # poster (a:1.2) {json: 1}", None, 2.0, 6),
)
"""Prompt, negative prompt, guidance and seed of eight jobs that may share a batch."""


def quick_job(**fields: Any) -> Job:
    """A job of few steps: what is tested here does not depend on their number."""
    return make_job(**{"num_inference_steps": 4} | fields)


def mixed_jobs(**fields: Any) -> list[Job]:
    names = ("prompt", "negative_prompt", "guidance_scale", "seed")
    return [quick_job(**dict(zip(names, values, strict=True)) | fields) for values in MIXED]


def all_rendered(outcomes: Sequence[Any]) -> list[Any]:
    """The outcomes, none of which is an error."""
    for outcome in outcomes:
        if isinstance(outcome, RenderError):
            raise outcome
    return list(outcomes)


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


def assert_nearly_same(first: Image.Image, second: Image.Image, *, what: object = "") -> None:
    """Equal but for rounding, for pictures of 64 x 64: in them 0.1% is only four pixels."""
    assert first.size == second.size, what
    levels, pixels = difference(first, second)
    assert levels <= MOST_LEVELS, f"{levels} of 255 levels apart: {what}"
    assert pixels <= 3 * MOST_PIXELS, f"{pixels:.3%} of the pixels differ: {what}"


def stock_picture(pipeline: Any, job: Job, **more: Any) -> Image.Image:
    """What the stock pipeline makes of one job alone, called as its own examples call it."""
    import torch

    arguments: dict[str, Any] = {
        "num_inference_steps": job.num_inference_steps,
        "guidance_scale": job.guidance_scale,
        "height": job.height,
        "width": job.width,
        "generator": torch.Generator("cpu").manual_seed(job.seed),
    }
    if job.negative_prompt is not None:
        arguments["negative_prompt"] = job.negative_prompt
    picture: Image.Image = pipeline(job.prompt, **arguments | more).images[0]
    return picture


def use_scheduler(pipeline: Any, name: str, *, seed: int) -> None:
    """Give a stock pipeline another scheduler, as diffusers' own docs do."""
    import diffusers

    if not hasattr(pipeline, "own_scheduler_config"):
        pipeline.own_scheduler_config = pipeline.scheduler.config
    cls = getattr(diffusers, name)
    more = {}
    if name == "DPMSolverSDEScheduler":
        # Without a seed of its own it draws from torch's global generator.
        more["noise_sampler_seed"] = seed
    pipeline.scheduler = cls.from_config(pipeline.own_scheduler_config, **more)


@contextmanager
def hooked(module: Any, hook: Callable[..., Any], *, before: bool = False) -> Iterator[None]:
    """For a while, have torch call ``hook`` at every forward of a module."""
    register = module.register_forward_pre_hook if before else module.register_forward_hook
    handle = register(hook)
    try:
        yield
    finally:
        handle.remove()
