"""A job's identity: SHA-256 over every field that affects its pixels."""

from __future__ import annotations

from collections.abc import Mapping

from shared.canonical import canonical_json, sha256_hex
from shared.fields import Value
from shared.job import Job
from shared.kinds import strength_of
from shared.pin import Pin
from shared.sampling import explicit_steps, planned_steps
from shared.schedulers import takes_eta
from shared.structured import lora_weights

_NAMES_OF_WEIGHTS = ("model", "revision", "vae")
"""The pin's fingerprint stands for these: the same weights under another name are the same.
Not for the variant, which picks among the weight files of one commit."""

_SETTINGS = ("autocast", "vae_tiling")
"""Members of the pin for settings of a worker that change pixels, where they are on."""


def acting(job: Job, pin: Pin) -> Job:
    """The job with the checkpoint's own values filled in and fields that can't act dropped."""
    return Job(**acting_values(job, pin))  # type: ignore[arg-type]


def acting_values(job: Job, pin: Pin) -> dict[str, Value]:
    """The fields of `acting`, for those who make a million of them."""
    scheduler = job.scheduler or pin.scheduler
    values = job.to_values()
    values["height"] = job.height or pin.height
    values["width"] = job.width or pin.width
    values["scheduler"] = scheduler
    if pin.unconditional:
        values["prompt"] = ""
    if pin.unconditional or (not job.guided and not pin.embeds_guidance):
        values["guidance_scale"] = 1.0
        values["negative_prompt"] = None
        values["guidance_rescale"] = 0.0
    if not takes_eta(scheduler):
        values["eta"] = 0.0
    values["strength"] = strength_of(job)
    if explicit_steps(job):
        values["num_inference_steps"] = planned_steps(job)
    return values


def job_digest(job: Job, pin: Pin, *, pixel_format: str = "png") -> str:
    """64 hex digits that name the image: equal digests mean equal pixels.

    Fields that are None are left out, and so are settings that are off: what a later version adds
    does not rename every image.
    """
    return values_digest(acting_values(job, pin), pin, pixel_format=pixel_format)


def values_digest(acts: Mapping[str, Value], pin: Pin, *, pixel_format: str) -> str:
    """The digest of `acting_values`."""
    what: dict[str, object] = {
        name: value
        for name, value in acts.items()
        if name not in _NAMES_OF_WEIGHTS and value is not None
    }
    if "loras" in what:  # the fingerprint has the files, in the order of their names
        what["loras"] = [*lora_weights(str(what["loras"])).values()]
    return sha256_hex(
        canonical_json(
            {
                "seedbed": 1,
                "job": what,
                "weights": pin.weights,
                "dtype": pin.dtype,
                "renderer": pin.renderer,
                "format": pixel_format,
            }
            | {name: getattr(pin, name) for name in _SETTINGS if getattr(pin, name)}
        )
    )
