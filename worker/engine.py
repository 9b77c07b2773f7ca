"""The stock engine: one call of the checkpoint's own pipeline renders a whole batch of jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
import torch
from PIL import Image

from shared.errors import Cancelled, NonFiniteImage, RenderError, UnsupportedJob
from shared.job import Job
from shared.kinds import kind_of
from shared.sampling import explicit_steps
from shared.structured import listed, parsed
from worker.cut_prompts import CutPrompts
from worker.decoding import Decoded, watched_decoding
from worker.embeddings import PromptEmbeddings
from worker.guidance import RowGuidance
from worker.inputs import Inputs
from worker.kinds import KindPipeline, KindPipelines
from worker.loading import LoadedModel
from worker.packer import Traits, fixed_jobs, pack
from worker.parts import use_adapters
from worker.reproducing import filled, reproducing
from worker.rescue import RowCap, attempt, render_rows, settings_fault, translate
from worker.safety import checked_safety
from worker.starts import (
    SAMPLE_KEY,
    image_arguments,
    job_fault,
    noise_arguments,
    noise_fault,
    noise_shape_of,
    resize_notes,
    sample_image,
)


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """One finished image.

    Attributes:
        image: As the pipeline returned it.
        flagged: The checkpoint's safety checker blacked it out.
        forwards: Calls of the denoising model, the length of the scheduler's time steps.
        rows: Images in its batch, itself included.
        seconds: Wall time of its batch by stage: ``embed``, ``denoise``, ``decode``, ``finish``.
        notes: What a person should know, such as the cut-off end of a prompt.
    """

    image: Image.Image
    flagged: bool
    forwards: int
    rows: int
    seconds: dict[str, float]
    notes: tuple[str, ...]


def _never() -> bool:
    return False


class StockEngine:
    """Renders jobs of one loaded model; not to be used from two threads at once.

    Attributes:
        loaded: The model.
        embeddings: Its prompt embeddings.
    """

    def __init__(self, loaded: LoadedModel, *, embeddings: PromptEmbeddings | None = None) -> None:
        self.loaded = loaded
        self.embeddings = embeddings or PromptEmbeddings(loaded.pipeline)
        self._kinds = KindPipelines(loaded.pipeline, loaded.accepts)
        self._cut_prompts = CutPrompts(loaded.pipeline)
        self._noise_shapes: dict[tuple[int, int], tuple[int, ...] | None] = {}
        self._caps: dict[tuple[int, int, bool], RowCap] = {}

    @property
    def traits(self) -> Traits:
        """What may differ from row to row of a batch: what ``worker.packer.pack`` asks for."""
        return self.loaded.traits

    def render(
        self,
        jobs: Sequence[Job],
        *,
        cancelled: Callable[[], bool] = _never,
        inputs: Inputs | None = None,
    ) -> list[Rendered | RenderError]:
        """Render jobs of any recipes, together as far as the pipeline lets them.

        Args:
            jobs: All of the loaded model.
            cancelled: Asked at every denoising step; once true, what is not done is Cancelled.
            inputs: What the jobs start from, by key, or why that can't be.

        Returns:
            One outcome for each job, in order. A job's error is its own: OutOfMemory if it does
            not fit even alone, NonFiniteImage, or RenderError with the pipeline's reason.

        Raises:
            ModelError: The device is broken: this process can't go on.
        """
        if self.loaded.refusal is not None:
            return [UnsupportedJob(self.loaded.refusal) for _ in jobs]
        inputs = self._with_samples(jobs, inputs or {})
        outcomes: dict[int, Rendered | RenderError] = {
            index: fault
            for index, job in enumerate(jobs)
            if (fault := self._fault(job, inputs)) is not None
        }
        good = [index for index in range(len(jobs)) if index not in outcomes]
        batches = pack([jobs[i] for i in good], traits=self.traits, max_rows=max(1, len(jobs)))
        for batch in [[good[place] for place in places] for places in batches]:
            with self.loaded.tuning.arithmetic(self.loaded.device):
                first = jobs[batch[0]]
                results = render_rows(
                    [jobs[index] for index in batch],
                    lambda rows: self._render_batch(rows, cancelled, inputs),
                    self.cap(first),
                    size=self.size(first),
                    always=fixed_jobs(first, self.traits) if first.reproducible else None,
                )
            outcomes.update(zip(batch, results, strict=True))
        return [outcomes[index] for index in range(len(jobs))]

    def attempt(self, jobs: Sequence[Job]) -> list[Rendered | RenderError] | RenderError:
        """One call of the pipeline for jobs of one recipe, whatever comes of it.

        For measurements: nothing is split, tried again or learnt from.
        """
        inputs = self._with_samples(jobs, {})
        with self.loaded.tuning.arithmetic(self.loaded.device):
            return attempt(lambda rows: self._render_batch(rows, _never, inputs), jobs)

    def cap(self, job: Job) -> RowCap:
        """What is known about how many jobs like this one fit in memory together."""
        if job.reproducible:
            return RowCap()  # its batches are of one size
        return self._caps.setdefault((*self.size(job), job.guided), RowCap())

    @property
    def splits(self) -> int:
        """Batches that did not fit in memory and were split, so far."""
        return sum(cap.splits for cap in list(self._caps.values()))

    def typical_job(self, model: str) -> Job:
        """A job of the kind that the checkpoint names itself, for timing."""
        kind = self._kinds.own_kind
        return Job(
            model=model,
            prompt="a",
            init_image=None if kind == "text-to-image" else SAMPLE_KEY,
            mask_image=SAMPLE_KEY if kind == "inpainting" else None,
        )

    def _with_samples(self, jobs: Sequence[Job], inputs: Inputs) -> Inputs:
        if not any(job.init_image == SAMPLE_KEY for job in jobs):
            return inputs
        return {SAMPLE_KEY: sample_image(*self.size(jobs[0])), **inputs}

    def _fault(self, job: Job, inputs: Inputs) -> RenderError | None:
        """What is wrong with the job's own inputs, which its batch mates must not pay for."""
        fault = job_fault(job, inputs)
        if fault is not None or job.latents is None:
            return fault
        try:
            shape = self._noise_shape(job)
        except Exception as caught:  # noqa: BLE001 - a pipeline's own code, as in a batch
            return translate(caught)
        return None if shape is None else noise_fault(job, inputs, shape)

    def _noise_shape(self, job: Job) -> tuple[int, ...] | None:
        size = self.size(job)
        if size not in self._noise_shapes:
            height, width = size
            shape = noise_shape_of(self.loaded.pipeline, height=height, width=width)
            self._noise_shapes[size] = shape
        return self._noise_shapes[size]

    def size(self, job: Job) -> tuple[int, int]:
        """Height and width in pixels; the checkpoint's own where the job leaves it open."""
        return (
            job.height or self.loaded.native_height,
            job.width or self.loaded.native_width,
        )

    def _render_batch(
        self, jobs: Sequence[Job], cancelled: Callable[[], bool], inputs: Inputs
    ) -> list[Rendered | RenderError]:
        """One call of the pipeline for jobs that the packer put together."""
        if cancelled():
            raise Cancelled("cancelled before its first step")
        kind = self._kinds.of(kind_of(jobs[0]))
        pipeline = kind.pipeline
        steps = _Steps(cancelled)
        started = monotonic()
        rows = self._rows(jobs)
        pipeline.scheduler = self._scheduler(rows)
        use_adapters(pipeline, self.loaded.adapters, jobs[0].loras)
        arguments = self._arguments(rows, kind, inputs)
        if "callback_on_step_end" in kind.accepts:
            arguments["callback_on_step_end"] = steps
        embedded = monotonic()
        with (
            checked_safety(pipeline, jobs[0].safety_checker),
            reproducing(pipeline, len(jobs)) if jobs[0].reproducible else nullcontext(),
            watched_decoding(pipeline, len(jobs)) as decoded,
        ):
            try:
                output = pipeline(output_type="np", **arguments)
            except (TypeError, ValueError) as error:
                fault = settings_fault(error, self.loaded.denoiser) if steps.forwards == 0 else None
                if fault is None or len(jobs) > 1:  # a batch is split: its mates may be all right
                    raise
                raise fault from error
        images, flags = _images(pipeline, output, len(jobs), decoded)
        ended = monotonic()
        decode_started = decoded.started or ended
        decode_ended = decoded.ended or ended
        seconds = {
            "embed": embedded - started,
            "denoise": decode_started - embedded,
            "decode": decode_ended - decode_started,
            "finish": ended - decode_ended,
        }
        again = dict.fromkeys(decoded.again, ("decoded again in float32",))
        return [
            image
            if isinstance(image, RenderError)
            else Rendered(
                image=image,
                flagged=flags[row],
                forwards=steps.forwards or len(pipeline.scheduler.timesteps),
                rows=len(jobs),
                seconds=seconds,
                notes=self._notes(jobs[row], inputs) + again.get(row, ()),
            )
            for row, image in enumerate(images)
        ]

    def _rows(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """What the pipeline is called for: copies of the last job fill a reproducible batch."""
        first = jobs[0]
        return filled(jobs, fixed_jobs(first, self.traits)) if first.reproducible else jobs

    def _arguments(self, jobs: Sequence[Job], kind: KindPipeline, inputs: Inputs) -> dict[str, Any]:
        """The pipeline's call arguments for a batch."""
        first = jobs[0]
        height, width = self.size(first)
        wanted: dict[str, Any] = {
            "height": height,
            "width": width,
            "generator": [_generator(job, self.loaded.device) for job in jobs],
        }
        steps = explicit_steps(first)
        if steps is None:
            wanted["num_inference_steps"] = first.num_inference_steps
        else:
            wanted[steps] = listed(getattr(first, steps))
        wanted |= image_arguments(jobs, inputs, height=height, width=width)
        wanted |= self._noise(jobs, inputs, kind)
        guided = self.has_two_halves(first)
        if guided and first.guidance_rescale > 0:
            wanted["guidance_rescale"] = first.guidance_rescale
        if (first.scheduler or self.loaded.native_scheduler) in self.loaded.scheduling.taking_eta:
            wanted["eta"] = first.eta
        if self.loaded.unconditional:
            return self._accepted(wanted | {"batch_size": len(jobs)}, kind)
        wanted["guidance_scale"] = self._guidance(jobs)
        if self.embeddings.supported:
            wanted |= self.embeddings.rows(jobs, guided=guided)
        else:
            wanted["prompt"] = [job.prompt for job in jobs]
            if first.clip_skip is not None:
                wanted["clip_skip"] = first.clip_skip
            if guided and first.negative_prompt is not None:
                wanted["negative_prompt"] = [job.negative_prompt for job in jobs]
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
            jobs, inputs, shape, dtype=self.loaded.dtype, device=self.loaded.device
        )

    def has_two_halves(self, job: Job) -> bool:
        """A model that embeds the scale has no unguided half: what acts on that is left out."""
        return job.guided and not (self.loaded.embeds_guidance or self.loaded.unconditional)

    def _notes(self, job: Job, inputs: Inputs) -> tuple[str, ...]:
        """What a person should know of how the job was read."""
        return self._cuts(job) + resize_notes(job, inputs, self.size(job))

    def _cuts(self, job: Job) -> tuple[str, ...]:
        """What of the job's texts the model did not read."""
        texts = {"prompt": job.prompt}
        if self.has_two_halves(job) and job.negative_prompt is not None:
            texts["negative prompt"] = job.negative_prompt
        notes = {what: self._cut_prompts.note(text) for what, text in texts.items()}
        return tuple(f"{what} {note}" for what, note in notes.items() if note)

    def _scheduler(self, jobs: Sequence[Job]) -> Any:
        """One for this batch, as its first job wants it."""
        first = jobs[0]
        if (steps := explicit_steps(first)) is not None:
            self.loaded.scheduling.check_explicit(first.scheduler, steps)
        changes = parsed(first.scheduler_config)
        return self.loaded.scheduling.make(
            first.scheduler,
            seeds=[job.seed for job in jobs],
            changes=changes if isinstance(changes, dict) else None,
        )

    def _guidance(self, jobs: Sequence[Job]) -> Any:
        """One number, or one for each row where the pipeline can be given that."""
        scales = [job.guidance_scale for job in jobs]
        first = jobs[0]
        by_row = len(set(scales)) > 1 or (first.reproducible and self.traits.guidance_per_row)
        if not first.guided or not by_row:
            return scales[0]
        return RowGuidance(scales, self.loaded.device)

    def _accepted(self, wanted: dict[str, Any], kind: KindPipeline) -> dict[str, Any]:
        """Leave out what the pipeline does not take and does not need to be told.

        Raises:
            UnsupportedJob: The pipeline's call has no such argument, or wants one that no field
                gives.
        """
        idle = {
            "eta": 0.0,
            "height": self.loaded.native_height,
            "width": self.loaded.native_width,
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


class _Steps:
    """Called by the pipeline after each denoising step: counts them, stops when cancelled."""

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self._cancelled = cancelled
        self.forwards = 0

    def __call__(
        self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        self.forwards += 1
        if self._cancelled():
            raise Cancelled(f"cancelled after {self.forwards} steps")
        return {}


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


def _images(
    pipeline: Any, output: Any, rows: int, decoded: Decoded
) -> tuple[list[Image.Image | RenderError], list[bool]]:
    """Pictures of a pipeline's output, or NonFiniteImage, and the safety checker's flags."""
    # pixels: (rows, height, width, channels), 0..1; what numpy_to_pil rounds as the pipeline would
    pixels = np.asarray(output.images)
    flags = getattr(output, "nsfw_content_detected", None) or [False] * rows
    images: list[Image.Image | RenderError] = []
    for row in range(rows):
        if row in decoded.lost or not np.isfinite(pixels[row]).all():
            images.append(
                NonFiniteImage(
                    "the image has NaN or infinite values, even when decoded in float32: "
                    "try another scheduler, more steps or less guidance"
                )
            )
        else:
            images += pipeline.numpy_to_pil(pixels[row : row + 1])
    return images, [bool(flag) for flag in flags]
