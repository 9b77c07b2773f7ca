"""What a batch asks of its pipeline: jobs in, the arguments of one call out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from shared.errors import RenderError, UnsupportedJob
from shared.job import Job
from shared.sampling import explicit_steps
from shared.structured import listed
from worker.embeddings import PromptEmbeddings
from worker.faults import translate
from worker.guidance import RowGuidance
from worker.inputs import Inputs
from worker.kinds import KindPipeline
from worker.loading import LoadedModel
from worker.starts import (
    image_arguments,
    job_fault,
    noise_arguments,
    noise_fault,
    noise_shape_of,
)


class CallArguments:
    """The arguments of the calls of one loaded model.

    Attributes:
        embeddings: Its prompt embeddings.
    """

    def __init__(self, loaded: LoadedModel, embeddings: PromptEmbeddings) -> None:
        self.embeddings = embeddings
        self._loaded = loaded
        self._traits = loaded.traits
        self._noise_shapes: dict[tuple[int, int], tuple[int, ...] | None] = {}

    def fault(self, job: Job, inputs: Inputs) -> RenderError | None:
        """What is wrong with the job's own inputs, which its batch mates must not pay for."""
        fault = job_fault(job, inputs)
        if fault is not None or job.latents is None:
            return fault
        try:
            shape = self._noise_shape(job)
        except Exception as caught:  # noqa: BLE001 - a pipeline's own code, as in a batch
            return translate(caught)
        return None if shape is None else noise_fault(job, inputs, shape)

    def of(self, jobs: Sequence[Job], kind: KindPipeline, inputs: Inputs) -> dict[str, Any]:
        """The arguments of one call for all of these jobs.

        Raises:
            UnsupportedJob: The pipeline's call has no such argument, or wants one that no field
                gives.
            RenderError: The noise can't be drawn here.
        """
        first = jobs[0]
        height, width = self._traits.size(first)
        wanted: dict[str, Any] = {
            "height": height,
            "width": width,
            "generator": [_generator(job, self._loaded.device) for job in jobs],
            **_steps(first),
            **image_arguments(jobs, inputs, height=height, width=width),
            **self._noise(jobs, inputs, kind),
        }
        if self._traits.takes_eta(first):
            wanted["eta"] = first.eta
        if self._loaded.unconditional:
            wanted["batch_size"] = len(jobs)
        else:
            wanted |= self._guidance(jobs) | self._texts(jobs)
        return self._accepted(wanted, kind)

    def _noise(self, jobs: Sequence[Job], inputs: Inputs, kind: KindPipeline) -> dict[str, Any]:
        """The noise that the jobs come with, if they do.

        Raises:
            UnsupportedJob: The pipeline takes some, but does not say of which shape.
        """
        if jobs[0].latents is None or "latents" not in kind.accepts:
            return {} if jobs[0].latents is None else {"latents": None}  # refused by its name
        shape = self._noise_shape(jobs[0])
        if shape is None:
            raise UnsupportedJob(f"{kind.name} does not say its noise's shape: leave latents out")
        return noise_arguments(
            jobs, inputs, shape, dtype=self._loaded.dtype, device=self._loaded.device
        )

    def _noise_shape(self, job: Job) -> tuple[int, ...] | None:
        size = self._traits.size(job)
        if size not in self._noise_shapes:
            height, width = size
            shape = noise_shape_of(self._loaded.pipeline, height=height, width=width)
            self._noise_shapes[size] = shape
        return self._noise_shapes[size]

    def _guidance(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """The scale: one number, or one for each row where the pipeline can be given that."""
        scales = [job.guidance_scale for job in jobs]
        first = jobs[0]
        by_row = len(set(scales)) > 1 or (first.reproducible and self._traits.guidance_per_row)
        scale = RowGuidance(scales, self._loaded.device) if first.guided and by_row else scales[0]
        if self._traits.has_two_halves(first) and first.guidance_rescale > 0:
            return {"guidance_scale": scale, "guidance_rescale": first.guidance_rescale}
        return {"guidance_scale": scale}

    def _texts(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """Prompts and negative prompts, embedded where this kind of pipeline takes that."""
        first = jobs[0]
        guided = self._traits.has_two_halves(first)
        if self.embeddings.supported:
            return dict(self.embeddings.rows(jobs, guided=guided))
        texts: dict[str, Any] = {"prompt": [job.prompt for job in jobs]}
        if first.clip_skip is not None:
            texts["clip_skip"] = first.clip_skip
        if guided and first.negative_prompt is not None:
            texts["negative_prompt"] = [job.negative_prompt for job in jobs]
        return texts

    def _accepted(self, wanted: dict[str, Any], kind: KindPipeline) -> dict[str, Any]:
        """Leave out what the pipeline does not take and does not need to be told."""
        idle = {
            "eta": 0.0,
            "height": self._loaded.native_height,
            "width": self._loaded.native_width,
        }
        if "image" in wanted:  # it has the size already
            idle |= {"height": wanted["height"], "width": wanted["width"]}
        refused = [
            name
            for name, value in wanted.items()
            if name not in kind.accepts and not (name in idle and value == idle[name])
        ]
        if refused:
            raise UnsupportedJob(
                f"{kind.name} does not take {', '.join(refused)}; "
                f"it takes {', '.join(sorted(kind.accepts))}"
            )
        missing = sorted(kind.needs - set(wanted))
        if missing:
            raise UnsupportedJob(
                f"{kind.name} needs {', '.join(missing)}, which no field gives: "
                "its checkpoints can't be served"
            )
        return {name: value for name, value in wanted.items() if name in kind.accepts}


def _steps(job: Job) -> dict[str, Any]:
    """How many steps, or which."""
    explicit = explicit_steps(job)
    if explicit is None:
        return {"num_inference_steps": job.num_inference_steps}
    return {explicit: listed(getattr(job, explicit))}


def _generator(job: Job, device: torch.device) -> torch.Generator:
    """The job's own noise, whatever else is in the batch."""
    if job.generator_device == "cpu":
        return torch.Generator("cpu").manual_seed(job.seed)
    if job.generator_device != device.type:
        raise RenderError(
            f"generator_device {job.generator_device!r} needs a worker with that device; "
            f"this one is on {device.type}: use 'cpu', which gives the same noise everywhere"
        )
    return torch.Generator(device).manual_seed(job.seed)
