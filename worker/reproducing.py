"""Reproducible batches: always as many rows, images through the VAE one at a time, no compiling.

What a row comes to may depend, in its last bits, on how many rows are computed with it: libraries
choose their kernels by the shape. So the whole pipeline is always called for one number of jobs:
copies of the last one fill what is free, and their images are not even decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from shared.job import Job

_reproducible: ContextVar[bool] = ContextVar("reproducible", default=False)


def filled(jobs: Sequence[Job], count: int) -> Sequence[Job]:
    """The jobs, and copies of the last one up to ``count``."""
    return [*jobs, *[jobs[-1]] * (count - len(jobs))]


def may_run_compiled() -> bool:
    """Whether the batch that this thread renders may run as what torch.compile made."""
    return not _reproducible.get()


@contextmanager
def reproducing(pipeline: Any, rows: int) -> Iterator[None]:
    """While it lasts, the VAE takes images one at a time, and nothing runs compiled.

    Args:
        rows: Images that are wanted; those behind them are given as copies of the last.
    """
    token = _reproducible.set(True)
    try:
        with _sliced(getattr(pipeline, "vae", None), rows):
            yield
    finally:
        _reproducible.reset(token)


@contextmanager
def _sliced(vae: Any, rows: int) -> Iterator[None]:
    if vae is None:
        yield
        return
    decode, own = vae.decode, vars(vae).get("decode")
    slicing = getattr(vae, "use_slicing", None)

    def decode_each(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        count = len(latents)
        outputs = [
            decode(
                latents[row : row + 1],
                *(_row(value, row, count) for value in args),
                **{name: _row(value, row, count) for name, value in kwargs.items()},
            )
            for row in range(min(rows, count))
        ]
        images = [output[0] for output in outputs]
        # images: (count, channels, height, width)
        whole = torch.cat([*images, *[images[-1]] * (count - len(images))])
        last = outputs[-1]
        return (whole, *last[1:]) if isinstance(last, tuple) else type(last)(sample=whole)

    vae.decode = decode_each
    if slicing is not None:
        vae.use_slicing = True  # of what it encodes
    try:
        yield
    finally:
        if slicing is not None:
            vae.use_slicing = slicing
        del vae.decode
        if own is not None:
            vae.decode = own


def _row(value: Any, row: int, count: int) -> Any:
    """Of what is given for each row, that of one of them; what is not stays as it is."""
    if torch.is_tensor(value) and value.ndim and len(value) == count:
        return value[row : row + 1]
    return [value[row]] if isinstance(value, list) and len(value) == count else value
