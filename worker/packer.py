"""Split a claim's jobs into batches that one pipeline call can run: values in, values out."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from shared.job import Job
from shared.kinds import kind_of, strength_of

FIXED_ROWS = 8
"""Of the denoising model in every call of a reproducible batch, guided rows counting twice: what a
small GPU holds at 512 x 512. Another number would draw other bits: it would be a new renderer."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a loaded pipeline lets differ from row to row of a batch.

    Attributes:
        native_height: Pixels, for jobs that leave it to the checkpoint.
        native_width: Pixels.
        native_scheduler: Class name, likewise.
        guidance_per_row: Guidance is applied outside the model, so rows may differ in it.
        negative_per_row: Rows with and without a negative prompt go together.
        eta_schedulers: Class names whose step takes ``eta``; elsewhere it does not act.
        two_halves: A guided job takes two rows of the model.
        own_texts: Every row's text is embedded alone, whatever the others' are.
    """

    native_height: int
    native_width: int
    native_scheduler: str
    guidance_per_row: bool
    negative_per_row: bool
    eta_schedulers: frozenset[str] = frozenset()
    two_halves: bool = True
    own_texts: bool = True

    def size(self, job: Job) -> tuple[int, int]:
        """Height and width in pixels; the checkpoint's own where the job leaves it open."""
        return job.height or self.native_height, job.width or self.native_width

    def scheduler(self, job: Job) -> str:
        """Class name."""
        return job.scheduler or self.native_scheduler

    def takes_eta(self, job: Job) -> bool:
        """Whether ``eta`` acts on it."""
        return self.scheduler(job) in self.eta_schedulers

    def has_two_halves(self, job: Job) -> bool:
        """Whether it is rendered guided and unguided; else what acts on the difference can't."""
        return job.guided and self.two_halves


def pack(jobs: Sequence[Job], *, traits: Traits, max_rows: int) -> list[list[int]]:
    """Group jobs by all that a batch shares, in order, at most ``max_rows`` to a batch.

    Reproducible jobs come in batches of `fixed_jobs` at most.

    Returns:
        Batches of indices into ``jobs``; each index is in exactly one.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, job in enumerate(jobs):
        groups.setdefault(shared_by_a_batch(job, traits), []).append(index)
    batches = []
    for group in groups.values():
        first = jobs[group[0]]
        most = min(max_rows, fixed_jobs(first, traits)) if first.reproducible else max_rows
        batches += [group[start : start + most] for start in range(0, len(group), most)]
    return batches


def fixed_jobs(job: Job, traits: Traits) -> int:
    """How many jobs every call with a reproducible one has, copies of the last of them included.

    One where the pipeline embeds its texts together, so that it is called for each job alone.
    """
    if not traits.own_texts:
        return 1
    return FIXED_ROWS // (2 if traits.has_two_halves(job) else 1)


def shared_by_a_batch(job: Job, traits: Traits) -> Hashable:
    """The fields of a job that its whole batch must agree on; those that can't act are left out."""
    any_guidance = traits.guidance_per_row
    two_halves = traits.has_two_halves(job)
    return (
        traits.size(job),
        traits.scheduler(job),
        job.scheduler_config,
        job.timesteps or job.sigmas or job.num_inference_steps,
        job.timesteps is None,
        job.guided,
        None if any_guidance else job.guidance_scale,
        job.guidance_rescale if two_halves else 0.0,
        job.eta if traits.takes_eta(job) else 0.0,
        job.generator_device,
        kind_of(job),
        strength_of(job),
        job.latents is None,
        (job.loras, job.safety_checker, job.clip_skip, job.reproducible),
        traits.negative_per_row or not two_halves or job.negative_prompt is None,
    )
