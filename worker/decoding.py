"""A second try in float32 for images that overflow a half-precision VAE."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import torch

HALVES = (torch.float16, torch.bfloat16)

logger = logging.getLogger(__name__)


@dataclass
class Decoded:
    """What was seen of a batch on its way through the VAE.

    Attributes:
        started: ``monotonic()`` when the latents were ready; None if nothing was decoded.
        ended: ``monotonic()`` when the last image was.
        again: Rows decoded a second time.
        lost: Rows that are not finite even so.
    """

    started: float | None = None
    ended: float | None = None
    again: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)


@contextmanager
def watched_decoding(pipeline: Any, rows: int) -> Iterator[Decoded]:
    """While it lasts, the pipeline's VAE decodes overflown rows again in float32.

    Sitting at the VAE, this leaves scaling, safety checker and post-processing to the pipeline:
    what it returns is what it would have returned, with the rescued rows put right.

    Args:
        rows: Of the batch that somebody wants; those behind them are not looked at.
    """
    seen = Decoded()
    vae = getattr(pipeline, "vae", None)
    if vae is None:
        yield seen
        return
    decode = vae.decode
    own = vars(vae).get("decode")

    def decode_watched(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if latents.is_cuda:
            torch.cuda.synchronize(latents.device)
        seen.started = seen.started or monotonic()
        output = decode(latents, *args, **kwargs)
        images = output[0]
        half = getattr(vae, "dtype", None) in HALVES or torch.is_autocast_enabled(
            latents.device.type
        )
        for row in _overflown(images[:rows], count_black=half):
            if half and bool(torch.isfinite(latents[row]).all()):
                seen.again.append(row)
                images[row] = _decode_in_float32(vae, decode, latents[row : row + 1], kwargs)
            if not bool(torch.isfinite(images[row]).all()):
                seen.lost.append(row)
        seen.ended = monotonic()
        return output

    vae.decode = decode_watched
    try:
        yield seen
    finally:
        del vae.decode
        if own is not None:
            vae.decode = own


def _overflown(images: torch.Tensor, *, count_black: bool) -> list[int]:
    """Rows with NaN or infinity, or black from edge to edge.

    Args:
        images: (rows, channels, height, width), black at -1.
        count_black: Count black ones: half precision that overflows may end there.
    """
    flat = images.flatten(1)
    suspect = ~torch.isfinite(flat).all(1)
    if count_black:
        suspect |= (flat <= -1).all(1)
    return [int(row) for row in suspect.nonzero().flatten()]


def _decode_in_float32(
    vae: Any, decode: Any, latents: torch.Tensor, kwargs: dict[str, Any]
) -> torch.Tensor:
    """One row, (1, channels, height, width) in latent pixels, to (channels, height, width)."""
    logger.warning("image overflowed, decoding it again in float32")
    dtype = vae.dtype
    generatorless = {name: value for name, value in kwargs.items() if name != "generator"}
    vae.to(dtype=torch.float32)
    try:
        with torch.autocast(latents.device.type, enabled=False):
            image: torch.Tensor = decode(latents.float(), **generatorless)[0][0]
    finally:
        vae.to(dtype=dtype)
    return image
