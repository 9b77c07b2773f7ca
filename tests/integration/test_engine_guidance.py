"""A guidance scale for each row, to the bit, wherever the pipeline applies it outside the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import diffusers
import torch

from tests.pictures import LIBRARY_WARNINGS, all_rendered, mixed_jobs, stock_picture
from tests.tiny_models import save_sd3, save_sdxl
from worker.engine import StockEngine
from worker.loading import ModelSource, embeds_guidance, load_pipeline

pytestmark = [*LIBRARY_WARNINGS, pytest.mark.usefixtures("one_thread")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("kinds")
    save_sdxl(root / "sdxl")
    save_sd3(root / "sd3")
    return {"sd": demo_folder, "sdxl": root / "sdxl", "sd3": root / "sd3"}


@contextmanager
def row_by_row(pipeline: Any) -> Iterator[None]:
    """While it lasts, the denoising model is called once a row: no kernel sees the batch's size."""
    model = getattr(pipeline, "unet", None) or pipeline.transformer
    forward = model.forward

    def one(value: Any, row: int, rows: int) -> Any:
        if isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == rows:
            return value[row : row + 1]
        if isinstance(value, dict):
            return {name: one(item, row, rows) for name, item in value.items()}
        return value

    def forward_rows(*args: Any, **kwargs: Any) -> Any:
        latents = args[0] if args else kwargs["hidden_states"]
        rows = latents.shape[0]
        outputs = [
            forward(
                *[one(value, row, rows) for value in args],
                **{name: one(value, row, rows) for name, value in kwargs.items()},
            )[0]
            for row in range(rows)
        ]
        return (torch.cat(outputs),)

    model.forward = forward_rows
    try:
        yield
    finally:
        del model.forward


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["sd", "sdxl", "sd3"])
def test_each_row_is_to_the_bit_what_its_job_alone_would_be(
    folders: dict[str, Path], kind: str, dtype: torch.dtype
) -> None:
    source = ModelSource(model=str(folders[kind]))
    loaded = load_pipeline(source, device=torch.device("cpu"), dtype=dtype)
    left_out = {"text_encoder_3": None, "tokenizer_3": None} if kind == "sd3" else {}
    stock = diffusers.DiffusionPipeline.from_pretrained(folders[kind], dtype=dtype, **left_out)
    stock.set_progress_bar_config(disable=True)
    jobs = mixed_jobs()
    assert len({job.guidance_scale for job in jobs}) > 5

    with row_by_row(loaded.pipeline):
        outcomes = all_rendered(StockEngine(loaded).render(jobs))

    assert {outcome.rows for outcome in outcomes} == {len(jobs)}
    with row_by_row(stock):
        for job, outcome in zip(jobs, outcomes, strict=True):
            assert outcome.image.tobytes() == stock_picture(stock, job).tobytes(), job


@pytest.mark.parametrize("embeds", [True, False])
def test_flux_says_itself_whether_it_embeds_guidance(embeds: bool) -> None:
    transformer = diffusers.FluxTransformer2DModel(
        guidance_embeds=embeds,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    )
    assert embeds_guidance(SimpleNamespace(transformer=transformer)) is embeds
