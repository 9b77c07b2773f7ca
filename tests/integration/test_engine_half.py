"""In half precision: rows as the stock pipeline makes them, and a float32 VAE for overflows."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from shared.errors import NonFiniteImage
from tests.pictures import (
    all_rendered,
    difference,
    hooked,
    mixed_jobs,
    quick_job,
    stock_picture,
)
from worker.engine import Rendered, StockEngine
from worker.loading import LoadedModel, ModelSource, load_pipeline

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def half(demo_folder: Any) -> LoadedModel:
    source = ModelSource(model=str(demo_folder))
    return load_pipeline(source, device=torch.device("cpu"), dtype=torch.bfloat16)


@pytest.mark.parametrize("ruin", [float("nan"), float("inf"), -1.0])
def test_an_overflown_image_is_decoded_again_in_float32(half: LoadedModel, ruin: float) -> None:
    jobs = [quick_job(seed=seed) for seed in (0, 1, 2)]
    good = all_rendered(StockEngine(half).render(jobs))
    decoded = 0

    def overflow(_: Any, arguments: Any, output: Any) -> Any:
        nonlocal decoded
        decoded += 1  # VAE slicing: one call an image
        if output.dtype == torch.bfloat16 and decoded == 2:
            return torch.full_like(output, ruin)
        return output

    with hooked(half.pipeline.vae.decoder, overflow):
        outcomes = all_rendered(StockEngine(half).render(jobs))

    assert half.pipeline.vae.dtype == torch.bfloat16, "put back as it was"
    assert [outcome.notes for outcome in outcomes] == [
        (),
        ("decoded again in float32",),
        (),
    ]
    assert outcomes[0].image.tobytes() == good[0].image.tobytes()
    assert outcomes[2].image.tobytes() == good[2].image.tobytes()
    levels, _ = difference(good[1].image, outcomes[1].image)
    assert 0 < levels < 16, "float32 sees a little more than bfloat16"


def test_an_image_that_overflows_in_float32_too_fails_alone(half: LoadedModel) -> None:
    decoded = 0

    def overflow(_: Any, arguments: Any, output: Any) -> Any:
        nonlocal decoded
        decoded += 1
        return output * float("nan") if decoded in (2, 4) else output

    with hooked(half.pipeline.vae.decoder, overflow):
        first, second, third = StockEngine(half).render(
            [quick_job(seed=seed) for seed in (0, 1, 2)]
        )

    # the second image is decoded as call 2, the third as call 3, the second again as call 4
    assert isinstance(first, Rendered)
    assert isinstance(second, NonFiniteImage)
    assert isinstance(third, Rendered)


def test_bfloat16_rows_equal_the_stock_pipeline_called_alone(
    half: LoadedModel, demo_folder: Any
) -> None:
    import diffusers

    stock = diffusers.DiffusionPipeline.from_pretrained(demo_folder, dtype=torch.bfloat16)
    stock.set_progress_bar_config(disable=True)
    jobs = mixed_jobs()

    outcomes = all_rendered(StockEngine(half).render(jobs))

    for job, outcome in zip(jobs, outcomes, strict=True):
        assert outcome.image.tobytes() == stock_picture(stock, job).tobytes(), job
