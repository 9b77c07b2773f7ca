"""In float16 on a CUDA device: rows as the stock pipeline makes them, and real memory limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from shared.errors import OutOfMemory
from tests.pictures import (
    LIBRARY_WARNINGS,
    all_rendered,
    difference,
    mixed_jobs,
    quick_job,
    stock_picture,
    use_scheduler,
)
from worker.engine import StockEngine
from worker.loading import LoadedModel
from worker.probing import probe

pytestmark = [
    *LIBRARY_WARNINGS,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def stock(demo_folder: Path) -> Any:
    import diffusers

    pipeline = diffusers.DiffusionPipeline.from_pretrained(demo_folder, dtype=torch.float16)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to("cuda")


def test_a_gpu_holds_half_precision_with_vae_slicing(on_gpu: LoadedModel) -> None:
    assert on_gpu.dtype == torch.float16
    assert on_gpu.pipeline.unet.dtype == torch.float16
    assert on_gpu.pipeline.vae.use_slicing
    assert '"dtype":"float16"' in on_gpu.pin


@pytest.mark.parametrize(
    "name", ["PNDMScheduler", "DDIMScheduler", "EulerAncestralDiscreteScheduler"]
)
def test_packed_float16_rows_are_close_to_the_stock_pipeline_called_alone(
    on_gpu: LoadedModel, stock: Any, name: str
) -> None:
    jobs = mixed_jobs(scheduler=name, height=128, width=128)

    outcomes = all_rendered(StockEngine(on_gpu).render(jobs))

    assert {outcome.rows for outcome in outcomes} == {len(jobs)}
    for job, outcome in zip(jobs, outcomes, strict=True):
        use_scheduler(stock, name, seed=job.seed)
        levels, _ = difference(outcome.image, stock_picture(stock, job))
        assert levels <= 8, job  # float16 rounds 8192 times as coarsely as float32


def test_reproducible_jobs_are_equal_to_the_bit_in_other_company(on_gpu: LoadedModel) -> None:
    engine = StockEngine(on_gpu)
    jobs = mixed_jobs(reproducible=True, scheduler="EulerAncestralDiscreteScheduler")

    together = [one.image.tobytes() for one in all_rendered(engine.render(jobs))]

    backwards = [one.image.tobytes() for one in all_rendered(engine.render(jobs[::-1]))]
    alone = [one.image.tobytes() for job in jobs for one in all_rendered(engine.render([job]))]
    assert backwards[::-1] == together
    assert alone == together


def test_the_same_seed_gives_a_cpus_noise(on_gpu: LoadedModel) -> None:
    first, again, other = all_rendered(
        StockEngine(on_gpu).render([quick_job(seed=seed) for seed in (1, 1, 2)])
    )

    assert difference(first.image, again.image)[0] <= 8
    assert difference(first.image, other.image)[0] > 40


def test_noise_drawn_on_the_device_is_the_stock_pipelines(on_gpu: LoadedModel, stock: Any) -> None:
    job = quick_job(generator_device="cuda", scheduler="DDIMScheduler", height=64, width=64)
    use_scheduler(stock, "DDIMScheduler", seed=0)

    (outcome,) = all_rendered(StockEngine(on_gpu).render([job]))

    generator = torch.Generator("cuda").manual_seed(job.seed)
    assert difference(outcome.image, stock_picture(stock, job, generator=generator))[0] <= 8


def test_a_batch_that_does_not_fit_is_split_by_the_real_allocator(on_gpu: LoadedModel) -> None:
    engine = StockEngine(on_gpu)
    jobs = [quick_job(seed=seed, height=512, width=512) for seed in range(16)]
    all_rendered(engine.render(jobs[:1]))
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.reset_peak_memory_stats()
    all_rendered(engine.render(jobs[:4]))
    # given: what four images took, and no more
    torch.cuda.set_per_process_memory_fraction(torch.cuda.max_memory_reserved() / total)
    torch.cuda.empty_cache()
    try:
        outcomes = engine.render(jobs)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

    assert not [outcome for outcome in outcomes if isinstance(outcome, OutOfMemory)]
    assert max(outcome.rows for outcome in all_rendered(outcomes)) < len(jobs)


def test_a_probe_reads_the_allocators_peaks(on_gpu: LoadedModel) -> None:
    found = probe(StockEngine(on_gpu), quick_job(height=512, width=512), most_rows=16)

    assert found.memory_bytes is not None
    assert found.decode is not None
    for curve in (found.denoise, found.decode):
        peaks = [point.peak_bytes for point in curve.points]
        assert None not in peaks
        assert all(0 < peak < found.memory_bytes for peak in peaks if peak is not None)
    first, *_, last = [point.peak_bytes or 0 for point in found.denoise.points]
    assert last > first, "rows take memory"
