"""Which jobs may share a forward pass, told from their fields alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from shared.canonical import canonical_json
from shared.fields import Value
from shared.job import Job
from shared.kinds import lane_part, recipe_part, steps_run
from shared.sampling import explicit_steps
from shared.schedulers import takes_eta
from shared.structured import lora_weights

NATIVE_PIXELS = 512 * 512
"""What a checkpoint's own size counts for in a job's cost: Stable Diffusion 1.x's."""
_ADDED_TO_RECIPES = (
    *("safety_checker", "scheduler_config", "timesteps", "sigmas", "clip_skip"),
    "reproducible",
)


def model_key(
    model: str,
    revision: str | None,
    variant: str | None,
    *,
    vae: str | None = None,
    loras: Sequence[str] = (),
) -> str:
    """Names a set of weights, and its doorbell queue: 16 hex digits.

    Args:
        loras: Names of the LoRAs; how strongly each acts is no matter of the weights.
    """
    return _short([model, revision, variant, *_added({"vae": vae, "loras": sorted(loras) or None})])


def weights_key(job: Job) -> str:
    """The key of the weights that a job needs."""
    return model_key(
        job.model, job.revision, job.variant, vae=job.vae, loras=tuple(lora_weights(job.loras))
    )


def lane_key(job: Job) -> str:
    """The jobs of one lane could share a forward pass: same weights, kind of pipeline, shape."""
    added = _added({"vae": job.vae, "loras": job.loras, **lane_part(job)})
    return _short([job.model, job.revision, job.variant, job.height, job.width, *added])


def recipe_key(job: Job) -> str:
    """The jobs of one recipe are sampled alike; fields that can't act don't count."""
    return _short(
        [
            job.scheduler,
            None if explicit_steps(job) else job.num_inference_steps,
            job.guided,
            job.guidance_rescale if job.guided else 0,
            job.eta if takes_eta(job.scheduler) else 0,
            job.generator_device,
            *_added({name: getattr(job, name) for name in _ADDED_TO_RECIPES} | recipe_part(job)),
        ]
    )


def cost(job: Job) -> float:
    """Virtual time of one job: steps x pixels x model rows, 1.0 a step at 512 x 512 unguided."""
    height, width = job.height or job.width, job.width or job.height
    pixels = height * width if height and width else NATIVE_PIXELS
    return max(1, steps_run(job)) * (2 if job.guided else 1) * pixels / NATIVE_PIXELS


def _added(values: Mapping[str, Value | Sequence[str]]) -> list[object]:
    """What came to a key after the first version: an object of what is said, if anything is."""
    said = {name: value for name, value in values.items() if value is not None}
    return [said] if said else []


def _short(parts: list[object]) -> str:
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()[:16]
