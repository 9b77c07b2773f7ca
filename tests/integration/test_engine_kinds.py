"""Other kinds of pipeline: rows equal the stock pipeline's, and split where they can't differ."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from tests.pictures import (
    LIBRARY_WARNINGS,
    all_rendered,
    assert_same_picture,
    mixed_jobs,
    quick_job,
    stock_picture,
)
from tests.tiny_models import save_lcm, save_sd3, save_sdxl
from worker.engine import StockEngine
from worker.loading import LoadedModel, ModelSource, load_pipeline

pytestmark = [*LIBRARY_WARNINGS, pytest.mark.usefixtures("one_thread")]

SAVERS = {"sdxl": save_sdxl, "sd3": save_sd3, "lcm": save_lcm}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("kinds")
    for name, save in SAVERS.items():
        save(root / name)
    return {name: root / name for name in SAVERS}


def load(folder: Path) -> LoadedModel:
    return load_pipeline(ModelSource(model=str(folder)), device=torch.device("cpu"))


def load_stock(folder: Path) -> Any:
    import diffusers

    left_out = {"text_encoder_3": None, "tokenizer_3": None} if folder.name == "sd3" else {}
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, **left_out)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("kind", ["sdxl", "sd3"])
def test_rows_differ_in_prompt_negative_seed_and_guidance_as_if_alone(
    folders: dict[str, Path], kind: str
) -> None:
    engine = StockEngine(load(folders[kind]))
    stock = load_stock(folders[kind])
    jobs = mixed_jobs(height=128, width=128)

    outcomes = all_rendered(engine.render(jobs))

    assert {outcome.rows for outcome in outcomes} == {len(jobs)}
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert_same_picture(outcome.image, stock_picture(stock, job), what=job)


def test_no_negative_prompt_and_an_empty_one_differ_with_sdxl(folders: dict[str, Path]) -> None:
    engine = StockEngine(load(folders["sdxl"]))

    none, empty = all_rendered(
        engine.render([quick_job(negative_prompt=None), quick_job(negative_prompt="")])
    )

    assert none.rows == 2
    assert none.image.tobytes() != empty.image.tobytes()


def test_a_model_that_embeds_guidance_gets_one_scale_a_batch(folders: dict[str, Path]) -> None:
    loaded = load(folders["lcm"])
    assert loaded.embeds_guidance
    assert '"embeds_guidance":true' in loaded.pin
    stock = load_stock(folders["lcm"])
    jobs = [
        quick_job(guidance_scale=scale, seed=seed, height=128, width=128)
        for seed in (0, 1, 2)
        for scale in (1.0, 4.0, 8.5)
    ]

    outcomes = all_rendered(StockEngine(loaded).render(jobs))

    assert {outcome.rows for outcome in outcomes} == {3}
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert_same_picture(outcome.image, stock_picture(stock, job), what=job)
    assert len({outcome.image.tobytes() for outcome in outcomes}) == len(jobs)


def test_a_negative_prompt_cannot_act_on_a_model_that_embeds_guidance(
    folders: dict[str, Path],
) -> None:
    engine = StockEngine(load(folders["lcm"]))

    plain, negative = all_rendered(
        engine.render([quick_job(), quick_job(negative_prompt="blurry")])
    )

    assert plain.image.tobytes() == negative.image.tobytes()


def test_a_safety_checkers_flag_is_told_and_its_black_image_kept(demo_folder: Path) -> None:
    import diffusers
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPConfig, CLIPImageProcessor

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config=small | {"num_attention_heads": 2},
        vision_config=small | {"num_attention_heads": 2, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    loaded = load(demo_folder)
    pipeline = diffusers.StableDiffusionPipeline(
        **loaded.pipeline.components
        | {
            "safety_checker": StableDiffusionSafetyChecker(config).eval(),
            "feature_extractor": CLIPImageProcessor(
                size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
            ),
        }
    )
    pipeline.set_progress_bar_config(disable=True)
    # given: every picture is beyond the pale
    pipeline.safety_checker.concept_embeds_weights.fill_(-2)

    outcomes = all_rendered(
        StockEngine(replace(loaded, pipeline=pipeline)).render(
            [quick_job(seed=seed) for seed in (0, 1)]
        )
    )

    assert [outcome.flagged for outcome in outcomes] == [True, True]
    assert all(outcome.image.getextrema() == ((0, 0),) * 3 for outcome in outcomes)
    assert all(outcome.notes == () for outcome in outcomes), "not decoded again"
