"""What the fields of sampling mean together: which of them act, and which exclude each other."""

from __future__ import annotations

from shared.errors import InvalidSweep
from shared.job import Job
from shared.mistakes import shown
from shared.schedulers import TAKES_SIGMAS, TAKES_TIMESTEPS
from shared.structured import listed

TAKERS = {"timesteps": TAKES_TIMESTEPS, "sigmas": TAKES_SIGMAS}
"""Fields that say the steps one by one, and the schedulers that let them."""


def explicit_steps(job: Job) -> str | None:
    """Which field says the steps one by one; None where ``num_inference_steps`` counts them."""
    return next((name for name in TAKERS if getattr(job, name) is not None), None)


def planned_steps(job: Job) -> int:
    """Denoising steps, as far as the fields tell; a list of sigmas may count its end as well."""
    name = explicit_steps(job)
    return job.num_inference_steps if name is None else len(listed(getattr(job, name)))


def check_sampling(job: Job) -> None:
    """Refuse fields that can't go together, whatever the checkpoint.

    Raises:
        InvalidSweep: It names both, and the remedy.
    """
    name = explicit_steps(job)
    if name is None:
        return
    if job.timesteps is not None and job.sigmas is not None:
        raise InvalidSweep(
            f"timesteps {shown(job.timesteps)} and sigmas {shown(job.sigmas)} both say the steps "
            f"of one job: keep one of them",
            field="sigmas",
            value=job.sigmas,
        )
    takers = TAKERS[name]
    if job.scheduler is not None and job.scheduler not in takers:
        raise InvalidSweep(
            f"{name} {shown(getattr(job, name))} can't be given to {job.scheduler}: "
            f"use one of {', '.join(sorted(takers))}",
            field=name,
            value=getattr(job, name),
        )
