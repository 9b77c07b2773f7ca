"""The stock engine: one call of the checkpoint's own pipeline renders a whole batch of jobs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from time import monotonic
from typing import Any

import numpy as np
from PIL import Image

from shared.errors import Cancelled, NonFiniteImage, RenderError, UnsupportedJob
from shared.job import Job
from shared.kinds import kind_of
from worker.arguments import CallArguments
from worker.cut_prompts import CutPrompts
from worker.decoding import Decoded, watched_decoding
from worker.embeddings import PromptEmbeddings
from worker.faults import settings_fault
from worker.inputs import Inputs
from worker.kinds import KindPipelines
from worker.loading import LoadedModel
from worker.packer import Traits, fixed_jobs, pack
from worker.parts import use_adapters
from worker.reproducing import filled, reproducing
from worker.rescue import RowCap, attempt, render_rows
from worker.safety import checked_safety
from worker.scheduling import asked_of_scheduler
from worker.starts import SAMPLE_KEY, resize_notes, sample_image


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
        self._arguments = CallArguments(loaded, self.embeddings)
        self._kinds = KindPipelines(loaded.pipeline, loaded.accepts)
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
            if (fault := self._arguments.fault(job, inputs)) is not None
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
                    size=self.traits.size(first),
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
        return self._caps.setdefault((*self.traits.size(job), job.guided), RowCap())

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
        return {SAMPLE_KEY: sample_image(*self.traits.size(jobs[0])), **inputs}

    def _render_batch(
        self, jobs: Sequence[Job], cancelled: Callable[[], bool], inputs: Inputs
    ) -> list[Rendered | RenderError]:
        """One call of the pipeline for jobs that the packer put together."""
        if cancelled():
            raise Cancelled("cancelled before its first step")
        first = jobs[0]
        kind = self._kinds.of(kind_of(first))
        pipeline = kind.pipeline
        steps = _Steps(cancelled)
        started = monotonic()
        rows = self._rows(jobs)
        pipeline.scheduler = self.loaded.scheduling.for_batch(rows)
        use_adapters(pipeline, self.loaded.adapters, first.loras)
        arguments = self._arguments.of(rows, kind, inputs)
        if "callback_on_step_end" in kind.accepts:
            arguments["callback_on_step_end"] = steps
        embedded = monotonic()
        with (
            checked_safety(pipeline, first.safety_checker),
            reproducing(pipeline, len(jobs)) if first.reproducible else nullcontext(),
            watched_decoding(pipeline, len(jobs)) as decoded,
        ):
            output = _call(pipeline, arguments, jobs, steps)
        images, flags = _images(pipeline, output, len(jobs), decoded)
        ended = monotonic()
        seconds = _stages(started, embedded, decoded, ended)
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

    def _notes(self, job: Job, inputs: Inputs) -> tuple[str, ...]:
        """What a person should know of how the job was read."""
        return self._cuts(job) + resize_notes(job, inputs, self.traits.size(job))

    def _cuts(self, job: Job) -> tuple[str, ...]:
        """What of the job's texts the model did not read."""
        texts = {"prompt": job.prompt}
        if self.traits.has_two_halves(job) and job.negative_prompt is not None:
            texts["negative prompt"] = job.negative_prompt
        notes = {what: self._cut_prompts.note(text) for what, text in texts.items()}
        return tuple(f"{what} {note}" for what, note in notes.items() if note)


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


def _call(pipeline: Any, arguments: dict[str, Any], jobs: Sequence[Job], steps: _Steps) -> Any:
    """The pipeline's output.

    Raises:
        UnsupportedJob: Its only job has settings that fail on every worker.
    """
    try:
        return pipeline(output_type="np", **arguments)
    except Exception as error:
        if len(jobs) > 1:  # a batch is split: the mates may be all right
            raise
        fault = settings_fault(
            error,
            scheduler=pipeline.scheduler,
            settings=asked_of_scheduler(jobs[0]),
            stepped=steps.forwards > 0,
        )
        if fault is None:
            raise
        raise fault from error


def _stages(started: float, embedded: float, decoded: Decoded, ended: float) -> dict[str, float]:
    """Seconds by stage, of a call that began and ended at these times."""
    decode_started = decoded.started or ended
    decode_ended = decoded.ended or ended
    return {
        "embed": embedded - started,
        "denoise": decode_started - embedded,
        "decode": decode_ended - decode_started,
        "finish": ended - decode_ended,
    }


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
