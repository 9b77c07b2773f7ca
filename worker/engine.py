"""The stock engine: one call of the checkpoint's own pipeline renders a whole batch of jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
import torch
from PIL import Image

from shared.errors import Cancelled, NonFiniteImage, RenderError, UnsupportedJob
from shared.job import Job
from worker.cut_prompts import CutPrompts
from worker.decoding import Decoded, watched_decoding
from worker.embeddings import PromptEmbeddings
from worker.guidance import RowGuidance
from worker.loading import LoadedModel
from worker.packer import Traits, pack
from worker.rescue import RowCap, render_rows


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
        self._cut_prompts = CutPrompts(loaded.pipeline)
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
    ) -> list[Rendered | RenderError]:
        """Render jobs of any recipes, together as far as the pipeline lets them.

        Args:
            jobs: All of the loaded model.
            cancelled: Asked at every denoising step; once true, what is not done is Cancelled.

        Returns:
            One outcome for each job, in order. A job's error is its own: OutOfMemory if it does
            not fit even alone, NonFiniteImage, or RenderError with the pipeline's reason.

        Raises:
            ModelError: The device is broken: this process can't go on.
        """
        outcomes: dict[int, Rendered | RenderError] = {}
        for batch in pack(jobs, traits=self.traits, max_rows=max(1, len(jobs))):
            with self.loaded.tuning.arithmetic(self.loaded.device):
                results = render_rows(
                    [jobs[index] for index in batch],
                    lambda rows: self._render_batch(rows, cancelled),
                    self.cap(jobs[batch[0]]),
                )
            outcomes.update(zip(batch, results, strict=True))
        return [outcomes[index] for index in range(len(jobs))]

    def cap(self, job: Job) -> RowCap:
        """What is known about how many jobs like this one fit in memory together."""
        return self._caps.setdefault((*self._size(job), job.guided), RowCap())

    def _size(self, job: Job) -> tuple[int, int]:
        """Height and width in pixels; the checkpoint's own where the job leaves it open."""
        return (
            job.height or self.loaded.native_height,
            job.width or self.loaded.native_width,
        )

    def _render_batch(
        self, jobs: Sequence[Job], cancelled: Callable[[], bool]
    ) -> list[Rendered | RenderError]:
        """One call of the pipeline for jobs that the packer put together."""
        if cancelled():
            raise Cancelled("cancelled before its first step")
        pipeline = self.loaded.pipeline
        steps = _Steps(cancelled)
        started = monotonic()
        pipeline.scheduler = self.loaded.scheduling.make(
            jobs[0].scheduler, seeds=[job.seed for job in jobs]
        )
        arguments = self._arguments(jobs)
        if "callback_on_step_end" in self.loaded.accepts:
            arguments["callback_on_step_end"] = steps
        embedded = monotonic()
        with watched_decoding(pipeline) as decoded:
            output = pipeline(output_type="np", **arguments)
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
                notes=self._cuts(jobs[row]) + again.get(row, ()),
            )
            for row, image in enumerate(images)
        ]

    def _arguments(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """The pipeline's call arguments for a batch."""
        first = jobs[0]
        height, width = self._size(first)
        wanted: dict[str, Any] = {
            "height": height,
            "width": width,
            "num_inference_steps": first.num_inference_steps,
            "guidance_scale": self._guidance(jobs),
            "generator": [_generator(job, self.loaded.device) for job in jobs],
        }
        guided = self._has_two_halves(first)
        if guided and first.guidance_rescale > 0:
            wanted["guidance_rescale"] = first.guidance_rescale
        if (first.scheduler or self.loaded.native_scheduler) in self.loaded.scheduling.taking_eta:
            wanted["eta"] = first.eta
        if self.embeddings.supported:
            wanted |= self.embeddings.rows(jobs, guided=guided)
        else:
            wanted["prompt"] = [job.prompt for job in jobs]
            if guided and first.negative_prompt is not None:
                wanted["negative_prompt"] = [job.negative_prompt for job in jobs]
        return self._accepted(wanted)

    def _has_two_halves(self, job: Job) -> bool:
        """A model that embeds the scale has no unguided half: what acts on that is left out."""
        return job.guided and not self.loaded.embeds_guidance

    def _cuts(self, job: Job) -> tuple[str, ...]:
        """What of the job's texts the model did not read."""
        texts = {"prompt": job.prompt}
        if self._has_two_halves(job) and job.negative_prompt is not None:
            texts["negative prompt"] = job.negative_prompt
        notes = {what: self._cut_prompts.note(text) for what, text in texts.items()}
        return tuple(f"{what} {note}" for what, note in notes.items() if note)

    def _guidance(self, jobs: Sequence[Job]) -> Any:
        """One number, or one for each row where the pipeline can be given that."""
        scales = [job.guidance_scale for job in jobs]
        if len(set(scales)) == 1 or not jobs[0].guided:
            return scales[0]
        return RowGuidance(scales, self.loaded.device)

    def _accepted(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Leave out what the pipeline does not take and does not need to be told.

        Raises:
            UnsupportedJob: The pipeline's call has no such argument.
        """
        idle = {
            "eta": 0.0,
            "height": self.loaded.native_height,
            "width": self.loaded.native_width,
        }
        refused = [
            name
            for name, value in wanted.items()
            if name not in self.loaded.accepts and not (name in idle and value == idle[name])
        ]
        if refused:
            raise UnsupportedJob(
                f"{type(self.loaded.pipeline).__name__} does not take {', '.join(refused)}; "
                f"it takes {', '.join(sorted(self.loaded.accepts))}"
            )
        return {name: value for name, value in wanted.items() if name in self.loaded.accepts}


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
