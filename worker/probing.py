"""Runs batches of a loaded model to see what they take: the denoiser's rows, the VAE's images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import torch

from shared.capacity import Curve, Point
from shared.errors import RenderError
from shared.job import Job
from worker.capacity import Room, find_curve
from worker.engine import Rendered, StockEngine
from worker.memory import memory_of
from worker.rescue import attempt, release_memory

MOST_ROWS = 128
"""Bounds a batch of the denoising model: 64 images with guidance. Beyond it, gains are small."""

PROBE_STEPS = 4
"""Denoising steps of a probe: enough for what a step costs to show."""

BUDGET_SECONDS = 10.0
"""Wall time of a probe on a CPU, its first batches aside."""

GPU_BUDGET_SECONDS = 40.0
"""The same on a GPU, where every new number of rows first picks and loads its kernels: on an H200,
10 seconds were over at four rows."""

DENOISING_SHARE = 0.7
"""Of the budget: steps are most of an image's time."""

RUNS = 3
"""Of a quick batch; the quickest counts."""

QUICK_SECONDS = 1.0
"""A batch that has been run for so long is not run again; its first run on a GPU aside."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What was measured.

    Attributes:
        steps: Calls of the denoising model in each timed batch.
        memory_bytes: What the device could give in all; None where nobody can tell.
        denoise: By rows of the denoising model.
        decode: By images of the VAE; None for a pipeline without one.
    """

    steps: int
    memory_bytes: int | None
    denoise: Curve
    decode: Curve | None


def probe(
    engine: StockEngine,
    job: Job,
    *,
    most_rows: int = MOST_ROWS,
    budget_seconds: float | None = None,
) -> Probe:
    """Measure both curves for jobs of one size.

    Args:
        engine: What will render; it learns nothing of this.
        job: Of the wanted size. It is run without guidance, so that an image is a row of the
            denoising model, and with few steps.
        most_rows: Most rows to try; of images, no more than the denoiser is quick with.
        budget_seconds: Wall time, the first batches aside; None is what suits the device.

    Raises:
        OutOfMemory: Not even one image fits.
        RenderError: The pipeline can't render such a job.
    """
    job = replace(
        job,
        guidance_scale=1.0,
        num_inference_steps=min(job.num_inference_steps, PROBE_STEPS),
    )
    on_cpu = engine.loaded.device.type == "cpu"
    if budget_seconds is None:
        budget_seconds = BUDGET_SECONDS if on_cpu else GPU_BUDGET_SECONDS
    device = _Device(engine, job, cold_runs=0 if on_cpu else 1)
    memory_bytes = device.memory.available()

    def curve(measure: Callable[[int], Point], rows: int, share: float) -> Curve:
        room = Room(memory_bytes=memory_bytes, rows=rows, seconds=share * budget_seconds)
        return find_curve(measure, room)

    denoise = curve(device.denoise, most_rows, DENOISING_SHARE)
    decode = None
    if device.latents is not None:
        with device.as_decoded():
            decode = curve(device.decode, denoise.knee, 1 - DENOISING_SHARE)
    release_memory()  # what the largest batch took is cached, and no smaller one needs it
    return Probe(steps=device.steps, memory_bytes=memory_bytes, denoise=denoise, decode=decode)


class _Device:
    """Runs one stage of a pipeline at a time and weighs it.

    Attributes:
        latents: One row as the pipeline gave it to its VAE, (1, channels, height, width).
        steps: Calls of the denoising model in the last batch.
    """

    def __init__(self, engine: StockEngine, job: Job, *, cold_runs: int) -> None:
        self._engine = engine
        self._job = job
        self._cold_runs = cold_runs
        self._vae: Any = getattr(engine.loaded.pipeline, "vae", None)
        self._vae_dtype: torch.dtype | None = None
        self.memory = memory_of(engine.loaded.device)
        self.latents: torch.Tensor | None = None
        self.steps = 0

    def denoise(self, rows: int) -> Point:
        """The pipeline with so many jobs, of which the VAE decodes the first alone."""
        jobs = [replace(self._job, seed=seed) for seed in range(rows)]
        return _quickest(rows, lambda: self._denoise(jobs), self._cold_runs)

    def decode(self, images: int) -> Point:
        """The VAE alone, with so many copies of an image."""
        assert self.latents is not None
        latents = self.latents.repeat(images, 1, 1, 1)
        return _quickest(images, lambda: self._decode(latents), self._cold_runs)

    @contextmanager
    def as_decoded(self) -> Iterator[None]:
        """The VAE in the number format that the pipeline decodes in, such as SDXL's float32."""
        own = self._vae.dtype
        if own == self._vae_dtype:
            yield
            return
        self._vae.to(dtype=self._vae_dtype)
        try:
            yield
        finally:
            self._vae.to(dtype=own)

    def _denoise(self, jobs: list[Job]) -> tuple[float, int | None]:
        peaks: list[int | None] = []
        self.memory.start()
        with self._one_decoded(lambda: peaks.append(self.memory.stop())):
            outcomes = self._engine.attempt(jobs)
        peaks.append(self.memory.stop())
        if isinstance(outcomes, RenderError):
            release_memory()
            raise outcomes
        last = outcomes[-1]
        if not isinstance(last, Rendered):
            raise last
        self.steps = last.forwards
        return last.seconds["denoise"], peaks[0]

    def _decode(self, latents: torch.Tensor) -> tuple[float, int | None]:
        self.memory.start()
        started = perf_counter()
        outcome = attempt(self._decoded, latents)
        peak = self.memory.stop()  # waits for the device
        seconds = perf_counter() - started
        if isinstance(outcome, RenderError):
            release_memory()
            raise outcome
        return seconds, peak

    @torch.no_grad()
    def _decoded(self, latents: torch.Tensor) -> None:
        self._vae.decode(latents, return_dict=False)
        if latents.is_mps:
            torch.mps.synchronize()

    @contextmanager
    def _one_decoded(self, denoised: Callable[[], None]) -> Iterator[None]:
        """While it lasts, the VAE decodes one row, and that is everybody's image.

        Args:
            denoised: Called when the latents are ready.
        """
        if self._vae is None:
            yield
            return
        decode = self._vae.decode
        own = vars(self._vae).get("decode")

        def decode_one(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            denoised()
            self.latents = latents[:1].clone()
            self._vae_dtype = self._vae.dtype
            output = decode(latents[:1], *args, **kwargs)
            images = output[0].repeat(len(latents), 1, 1, 1)
            return (images,) if isinstance(output, tuple) else type(output)(sample=images)

        self._vae.decode = decode_one
        try:
            yield
        finally:
            del self._vae.decode
            if own is not None:
                self._vae.decode = own


def _quickest(rows: int, run: Callable[[], tuple[float, int | None]], cold_runs: int) -> Point:
    """Run once, and again where it is quick, since noise weighs more then.

    Args:
        cold_runs: First runs that say nothing of how quick it is.
    """
    runs = [run()]
    while len(runs) < RUNS and sum(seconds for seconds, _ in runs[cold_runs:]) < QUICK_SECONDS:
        runs.append(run())
    peaks = [peak for _, peak in runs if peak is not None]
    seconds = min(seconds for seconds, _ in runs)
    return Point(rows=rows, seconds=max(seconds, 1e-9), peak_bytes=max(peaks, default=None))
