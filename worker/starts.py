"""What a batch starts from besides its seeds: init images, masks and noise, as call arguments."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from shared.errors import UnsupportedJob
from shared.job import Job
from shared.kinds import strength_of
from worker.inputs import Inputs

SAMPLE_KEY = "inputs/" + "0" * 64
"""Stands for an image that is made up, of jobs that are rendered for their time alone."""

WANTED: dict[str, type] = {
    "init_image": Image.Image,
    "mask_image": Image.Image,
    "latents": torch.Tensor,
}
"""What each field's file is read as."""


def sample_image(height: int, width: int) -> Image.Image:
    """A made-up image, brighter to the right; as a mask, half of it is painted anew."""
    return Image.linear_gradient("L").rotate(90).resize((width, height)).convert("RGB")


def job_fault(job: Job, inputs: Inputs) -> UnsupportedJob | None:
    """Why the job's inputs can't be rendered with, if so."""
    for field, kind in WANTED.items():
        key = getattr(job, field)
        if key is None:
            continue
        found = inputs[key]
        if isinstance(found, UnsupportedJob):
            return found
        if not isinstance(found, kind):
            return UnsupportedJob(f"{field} {key} is an image to one job and noise to another")
    if job.init_image is not None and job.mask_image is not None:
        image, mask = inputs[job.init_image], inputs[job.mask_image]
        assert isinstance(image, Image.Image)
        assert isinstance(mask, Image.Image)
        if image.size != mask.size:
            return UnsupportedJob(
                f"mask_image {job.mask_image} is {mask.width} x {mask.height} pixels but "
                f"init_image {job.init_image} {image.width} x {image.height}: "
                "a mask has the size of its init image"
            )
    return None


def image_arguments(
    jobs: Sequence[Job], inputs: Inputs, *, height: int, width: int
) -> dict[str, Any]:
    """Init images at the batch's size, their masks, and the strength.

    Images are stretched to the size with Lanczos, as diffusers' inpainting pipelines do it.
    """
    first = jobs[0]
    if first.init_image is None:
        return {}
    wanted: dict[str, Any] = {"strength": strength_of(first)}
    images = [_image(inputs, job.init_image) for job in jobs]
    wanted["image"] = [_resized(image, height, width) for image in images]
    if first.mask_image is not None:
        masks = [_image(inputs, job.mask_image) for job in jobs]
        wanted["mask_image"] = [_resized(mask, height, width) for mask in masks]
    return wanted


def resize_notes(job: Job, inputs: Inputs, size: tuple[int, int]) -> tuple[str, ...]:
    """That the init image was stretched, if it was.

    Args:
        size: (height, width) of the job.
    """
    if job.init_image is None:
        return ()
    image, (height, width) = _image(inputs, job.init_image), size
    if image.size == (width, height):
        return ()
    return (f"init image resized from {image.width}x{image.height} to {width}x{height}",)


def noise_fault(job: Job, inputs: Inputs, wanted: tuple[int, ...]) -> UnsupportedJob | None:
    """Why the job's noise does not suit a model whose latents have the ``wanted`` shape, if so."""
    if job.latents is None:
        return None
    shape = tuple(_noise(inputs, job.latents).shape)
    if shape in (wanted, (1, *wanted)):
        return None
    return UnsupportedJob(
        f"latents {job.latents} have the shape {_shape(shape)}: this model at this size starts "
        f"from {_shape(wanted)}"
    )


def noise_arguments(
    jobs: Sequence[Job],
    inputs: Inputs,
    shape: tuple[int, ...],
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> dict[str, Any]:
    """The noise that jobs come with, one row each, as diffusers' own calls take it."""
    if jobs[0].latents is None:
        return {}
    # latents: (rows, *shape)
    rows = [_noise(inputs, job.latents).reshape(shape) for job in jobs]
    return {"latents": torch.stack(rows).to(device=device, dtype=dtype)}


def noise_shape_of(pipeline: Any, *, height: int, width: int) -> tuple[int, ...] | None:
    """The shape of one row of the noise that a pipeline draws; None where that can't be told."""
    prepare = getattr(pipeline, "prepare_latents", None)
    vae = getattr(pipeline, "vae", None)
    channels = getattr(getattr(vae, "config", None), "latent_channels", None)
    if prepare is None or channels is None:
        return None
    given = {
        "batch_size": 1,
        "num_channels_latents": channels,
        "height": height,
        "width": width,
        "dtype": torch.float32,
        "device": torch.device("cpu"),
        "generator": torch.Generator("cpu").manual_seed(0),
    }
    if not set(given) <= set(inspect.signature(prepare).parameters):
        return None
    prepared = prepare(**given)
    drawn = prepared[0] if isinstance(prepared, tuple) else prepared  # Flux adds its positions
    return tuple(drawn.shape[1:])


def _image(inputs: Inputs, key: str | None) -> Image.Image:
    image = inputs[str(key)]
    assert isinstance(image, Image.Image)
    return image


def _noise(inputs: Inputs, key: str | None) -> torch.Tensor:
    noise = inputs[str(key)]
    assert isinstance(noise, torch.Tensor)
    return noise


def _resized(image: Image.Image, height: int, width: int) -> Image.Image:
    if image.size == (width, height):
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "of a single number"
