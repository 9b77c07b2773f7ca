"""Which kind of pipeline a job needs, told from its fields alone, and what that asks of them."""

from __future__ import annotations

from typing import Literal

from shared.errors import InvalidSweep
from shared.fields import Value
from shared.job import Job
from shared.sampling import planned_steps

Kind = Literal["text-to-image", "image-to-image", "inpainting"]

DEFAULT_STRENGTH: dict[Kind, float] = {"image-to-image": 0.8, "inpainting": 1.0}
"""What diffusers' Stable Diffusion pipelines take when they are not told; its others differ."""


def kind_of(job: Job) -> Kind:
    """A mask makes it inpainting, an image to start from image-to-image."""
    if job.init_image is None:
        return "text-to-image"
    return "image-to-image" if job.mask_image is None else "inpainting"


def strength_of(job: Job) -> float | None:
    """How far the job goes from its init image; None where there is none to go from."""
    return DEFAULT_STRENGTH.get(kind_of(job)) if job.strength is None else _acting(job)


def _acting(job: Job) -> float | None:
    return None if job.init_image is None else job.strength


def lane_part(job: Job) -> dict[str, Value]:
    """What of its kind is in the job's lane key: nothing for text-to-image."""
    kind = kind_of(job)
    return {"kind": None if kind == "text-to-image" else kind}


def recipe_part(job: Job) -> dict[str, Value]:
    """What of its start is in the job's recipe key: nothing where it is the seed's noise."""
    return {"strength": strength_of(job), "latents": None if job.latents is None else "given"}


def steps_run(job: Job) -> int:
    """Denoising steps that are run: an init image skips the first of them."""
    strength = strength_of(job)
    steps = planned_steps(job)
    return steps if strength is None else min(int(steps * strength), steps)


def check_together(job: Job) -> None:
    """Refuse fields of a job that need each other, or can't go together.

    Raises:
        InvalidSweep: One sentence with field, value and remedy.
    """
    if job.mask_image is not None and job.init_image is None:
        raise _without_image("mask_image", job.mask_image)
    if job.latents is not None and job.init_image is not None:
        raise InvalidSweep(
            "latents are the whole starting noise, but with an init_image the pipeline starts "
            "from that: leave one of them out",
            field="latents",
            value=job.latents,
        )
    if steps_run(job) < 1:
        raise InvalidSweep(
            f"strength {strength_of(job):g} of {planned_steps(job)} num_inference_steps "
            f"leaves no step to run: raise one of them",
            field="strength",
            value=job.strength,
        )


def strength_without_image(strength: Value) -> InvalidSweep:
    """The error of a sweep with a strength in which no job has an init image."""
    return _without_image("strength", strength)


def _without_image(field: str, value: Value) -> InvalidSweep:
    return InvalidSweep(
        f"{field} needs an init_image: give one, or leave {field} out (null)",
        field=field,
        value=value,
    )
