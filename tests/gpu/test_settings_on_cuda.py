"""What only a GPU can show: weights brought to it when they are needed, and compiled kernels."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from tests.pictures import LIBRARY_WARNINGS, all_rendered, difference, quick_job
from worker.compiling import compile_denoiser
from worker.engine import StockEngine
from worker.loading import LoadedModel, ModelSource, load_pipeline
from worker.tuning import Tuning

pytestmark = [
    *LIBRARY_WARNINGS,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offloading_changes_where_weights_are_and_not_the_picture(
    demo_folder: Path, on_gpu: LoadedModel, offload: str
) -> None:
    jobs = [quick_job(seed=seed) for seed in range(3)]
    expected = all_rendered(StockEngine(on_gpu).render(jobs))
    loaded = load_pipeline(
        ModelSource(model=str(demo_folder)),
        device=torch.device("cuda"),
        tuning=Tuning(offload=offload),
    )
    engine = StockEngine(loaded)

    for _ in range(2):
        found = all_rendered(engine.render(jobs))
        for one, other in zip(found, expected, strict=True):
            assert difference(one.image, other.image)[0] <= 2


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offloaded_weights_take_less_of_the_gpu(demo_folder: Path, offload: str) -> None:
    def allocated(tuning: Tuning) -> int:
        gc.collect()
        before = torch.cuda.memory_allocated()
        loaded = load_pipeline(
            ModelSource(model=str(demo_folder)), device=torch.device("cuda"), tuning=tuning
        )
        taken = torch.cuda.memory_allocated() - before
        del loaded
        return taken

    assert allocated(Tuning(offload=offload)) < allocated(Tuning()) / 10


@pytest.mark.slow
def test_compiled_kernels_draw_what_plain_ones_do(demo_folder: Path, on_gpu: LoadedModel) -> None:
    jobs = [quick_job(seed=seed) for seed in range(3)]
    expected = all_rendered(StockEngine(on_gpu).render(jobs))
    engine = StockEngine(
        load_pipeline(ModelSource(model=str(demo_folder)), device=torch.device("cuda"))
    )

    compiled = compile_denoiser(engine, jobs[0], 4)
    found = all_rendered(engine.render(jobs))

    assert compiled.compiled > 0
    assert compiled.uncompiled == 0
    for one, other in zip(found, expected, strict=True):
        assert difference(one.image, other.image)[0] <= 8
