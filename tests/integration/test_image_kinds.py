"""Image-to-image and inpainting: rows equal the stock pipelines', on the weights loaded once."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import numpy as np
import torch
from PIL import Image

from shared.errors import UnsupportedJob
from shared.job import Job
from tests.pictures import (
    LIBRARY_WARNINGS,
    all_rendered,
    assert_same_picture,
    difference,
    mixed_jobs,
    quick_job,
    use_scheduler,
)
from tests.tiny_models import (
    save_depth,
    save_flux,
    save_inpainting,
    save_lcm,
    save_sd3,
    save_sdxl,
)
from worker.engine import StockEngine
from worker.inputs import Inputs
from worker.loading import LoadedModel, ModelSource, load_pipeline
from worker.probing import probe

pytestmark = [*LIBRARY_WARNINGS, pytest.mark.usefixtures("one_thread")]

SAVERS = {
    "sdxl": save_sdxl,
    "sd3": partial(save_sd3, channels=16),
    "flux": save_flux,
    "lcm": save_lcm,
    "inpainting": save_inpainting,
    "depth": save_depth,
}
SIZE = 128
"""Pixels of a side: in smaller pictures one pixel is more than the promise allows to differ."""


def key(number: int) -> str:
    return f"inputs/{number:064x}"


def picture(seed: int, *, size: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    """Soft coloured shapes, another one for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def mask(seed: int, *, size: tuple[int, int] = (SIZE, SIZE)) -> Image.Image:
    """White where the image is painted anew: a band across it."""
    rows = np.zeros(size[::-1], dtype=np.uint8)
    start = size[1] // 8 * (1 + seed % 4)
    rows[start : start + size[1] // 3] = 255
    return Image.fromarray(rows).convert("RGB")


IMAGES: Inputs = {key(number): picture(number) for number in range(4)}
MASKS: Inputs = {key(16 + number): mask(number) for number in range(4)}
INPUTS: Inputs = {**IMAGES, **MASKS}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("kinds")
    for name, save in SAVERS.items():
        save(root / name)
    return {name: root / name for name in SAVERS} | {"sd": demo_folder}


def load(folder: Path, dtype: torch.dtype | None = None) -> LoadedModel:
    return load_pipeline(ModelSource(model=str(folder)), device=torch.device("cpu"), dtype=dtype)


def load_stock(folder: Path, kind: str, **more: Any) -> Any:
    import diffusers

    left_out = {"text_encoder_3": None, "tokenizer_3": None} if folder.name == "sd3" else {}
    maker = {
        "image": diffusers.AutoPipelineForImage2Image,
        "mask": diffusers.AutoPipelineForInpainting,
        "own": diffusers.DiffusionPipeline,
    }[kind]
    pipeline = maker.from_pretrained(folder, **left_out | more)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def alone(stock: Any, job: Job, strength: float, **more: Any) -> Image.Image:
    """What the stock pipeline makes of one job, called as its own examples call it."""
    arguments: dict[str, Any] = {
        "image": INPUTS[str(job.init_image)],
        "strength": strength,
        "num_inference_steps": job.num_inference_steps,
        "guidance_scale": job.guidance_scale,
        "generator": torch.Generator("cpu").manual_seed(job.seed),
    }
    if job.mask_image is not None:
        arguments["mask_image"] = INPUTS[job.mask_image]
    if "height" in inspect.signature(stock.__call__).parameters:
        arguments |= {"height": SIZE, "width": SIZE}
    if job.negative_prompt is not None:
        arguments["negative_prompt"] = job.negative_prompt
    made: Image.Image = stock(job.prompt, **arguments | more).images[0]
    return made


def with_images(jobs: Sequence[Job], *, masks: bool = False, **fields: Any) -> list[Job]:
    """The jobs, each with an init image, and a mask of its own."""
    return [
        Job(
            **job.to_values()
            | {"height": SIZE, "width": SIZE, "init_image": key(number % 4)}
            | ({"mask_image": key(16 + number % 4)} if masks else {})
            | fields
        )
        for number, job in enumerate(jobs)
    ]


def mixed_for(model: str) -> list[Job]:
    """Eight jobs that may share a batch of this model: Flux is told one guidance scale for all."""
    return mixed_jobs(**{"guidance_scale": 4.0} if model == "flux" else {})


@pytest.mark.parametrize("model", ["sd", "sdxl", "sd3", "flux"])
@pytest.mark.parametrize("strength", [None, 0.5])
def test_rows_of_a_batch_start_from_images_of_their_own(
    folders: dict[str, Path], model: str, strength: float | None
) -> None:
    engine = StockEngine(load(folders[model]))
    stock = load_stock(folders[model], "image")
    jobs = with_images(mixed_for(model), strength=strength)

    outcomes = all_rendered(engine.render(jobs, inputs=INPUTS))

    assert {outcome.rows for outcome in outcomes} == {len(jobs)}
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert_same_picture(outcome.image, alone(stock, job, strength or 0.8), what=job)
    assert len({outcome.image.tobytes() for outcome in outcomes}) == len(jobs)


@pytest.mark.parametrize("model", ["sd", "sdxl", "sd3", "flux", "inpainting"])
@pytest.mark.parametrize("strength", [None, 0.5])
def test_rows_of_a_batch_have_masks_of_their_own(
    folders: dict[str, Path], model: str, strength: float | None
) -> None:
    engine = StockEngine(load(folders[model]))
    stock = load_stock(folders[model], "mask")
    jobs = with_images(mixed_for(model), masks=True, strength=strength)

    outcomes = all_rendered(engine.render(jobs, inputs=INPUTS))

    assert {outcome.rows for outcome in outcomes} == {len(jobs)}
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert_same_picture(outcome.image, alone(stock, job, strength or 1.0), what=job)


@pytest.mark.parametrize("masks", [False, True])
def test_bfloat16_rows_equal_the_stock_pipelines(folders: dict[str, Path], masks: bool) -> None:
    half = torch.bfloat16
    engine = StockEngine(load(folders["sd"], half))
    stock = load_stock(folders["sd"], "mask" if masks else "image", dtype=half)
    jobs = with_images(mixed_jobs(), masks=masks)

    for job, outcome in zip(jobs, engine.render(jobs, inputs=INPUTS), strict=True):
        made = all_rendered([outcome])[0].image
        assert made.tobytes() == alone(stock, job, 1.0 if masks else 0.8).tobytes(), job


@pytest.mark.parametrize(
    "name", ["DDIMScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"]
)
def test_other_schedulers_start_from_images_as_well(
    folders: dict[str, Path], engine: StockEngine, name: str
) -> None:
    stock = load_stock(folders["sd"], "image")
    use_scheduler(stock, name, seed=0)
    more = {"eta": 0.5} if name == "DDIMScheduler" else {}
    jobs = with_images(mixed_jobs()[:3], scheduler=name, **more)

    outcomes = all_rendered(engine.render(jobs, inputs=INPUTS))

    for job, outcome in zip(jobs, outcomes, strict=True):
        assert_same_picture(outcome.image, alone(stock, job, 0.8, **more), what=job)


def test_kinds_and_strengths_are_kept_apart_and_come_back_in_order(engine: StockEngine) -> None:
    plain = [quick_job(seed=seed, height=SIZE, width=SIZE) for seed in (0, 1)]
    images = with_images(plain)
    jobs = [
        plain[0], images[0], *with_images(plain[:1], strength=0.5), plain[1],
        *with_images(plain[:1], masks=True), images[1],
    ]  # fmt: skip

    outcomes = all_rendered(engine.render(jobs, inputs=INPUTS))

    assert [outcome.rows for outcome in outcomes] == [2, 2, 1, 2, 1, 2]
    assert [outcome.forwards for outcome in outcomes] == [5, 4, 3, 5, 5, 4]
    for job, outcome in zip(jobs, outcomes, strict=True):
        (again,) = all_rendered(engine.render([job], inputs=INPUTS))
        assert_same_picture(outcome.image, again.image, what=job)


def test_what_the_mask_leaves_is_kept_whatever_the_prompt(engine: StockEngine) -> None:
    jobs = with_images(
        [quick_job(prompt=prompt) for prompt in ("a red circle", "a castle by the sea")],
        masks=True,
        mask_image=key(16),
        init_image=key(0),
    )

    def rendered(colour: str) -> list[Image.Image]:
        inputs = {**INPUTS, key(16): Image.new("RGB", (SIZE, SIZE), colour)}
        return [outcome.image for outcome in all_rendered(engine.render(jobs, inputs=inputs))]

    assert_same_picture(*rendered("black"))
    assert difference(*rendered("white"))[0] > 40


def test_an_image_of_another_size_is_stretched_and_a_note_says_so(
    folders: dict[str, Path], engine: StockEngine
) -> None:
    stock = load_stock(folders["sd"], "image")
    small, tall = picture(1, size=(64, 96)), picture(2, size=(100, 200))
    inputs: Inputs = {key(0): small, key(1): tall, key(2): picture(0)}
    jobs = [
        quick_job(init_image=key(number), height=SIZE, width=SIZE, seed=number)
        for number in range(3)
    ]

    outcomes = all_rendered(engine.render(jobs, inputs=inputs))

    assert {outcome.rows for outcome in outcomes} == {3}
    assert [outcome.notes for outcome in outcomes] == [
        ("init image resized from 64x96 to 128x128",),
        ("init image resized from 100x200 to 128x128",),
        (),
    ]
    for job, outcome in zip(jobs, outcomes, strict=True):
        image = inputs[str(job.init_image)]
        assert isinstance(image, Image.Image)
        resized = stock.image_processor.resize(image, SIZE, SIZE)
        assert_same_picture(outcome.image, alone(stock, job, 0.8, image=resized), what=job)


def test_the_checkpoints_own_size_holds_where_none_is_given(engine: StockEngine) -> None:
    (outcome,) = all_rendered(engine.render([quick_job(init_image=key(0))], inputs=INPUTS))
    assert outcome.image.size == (64, 64)


def test_no_weights_are_loaded_twice_and_settings_go_along(engine: StockEngine) -> None:
    own = engine.loaded.pipeline
    for kind in ("image-to-image", "inpainting"):
        other = engine._kinds.of(kind).pipeline
        assert other is engine._kinds.of(kind).pipeline, "made once"
        for name, component in own.components.items():
            if isinstance(component, torch.nn.Module):
                assert getattr(other, name) is component, name
        assert other.vae.use_slicing
        assert other._progress_bar_config == {"disable": True}


def test_offloading_goes_along(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a GPU could show that it works: here, that a new pipeline knows what the old one did."""
    hooks = [object()]
    monkeypatch.setattr(loaded.pipeline, "_all_hooks", hooks, raising=False)
    monkeypatch.setattr(loaded.pipeline, "_offload_device", torch.device("cpu"), raising=False)
    other = StockEngine(loaded)._kinds.of("image-to-image").pipeline
    assert (other._all_hooks, other._offload_device) == (hooks, torch.device("cpu"))


def test_rendering_one_kind_leaves_the_others_scheduler_alone(engine: StockEngine) -> None:
    text, image = quick_job(height=SIZE, width=SIZE), quick_job(init_image=key(0))
    (before,) = all_rendered(engine.render([text]))
    all_rendered(
        engine.render(
            [Job(**image.to_values() | {"scheduler": "EulerDiscreteScheduler"})], inputs=INPUTS
        )
    )
    (after,) = all_rendered(engine.render([text]))
    assert before.image.tobytes() == after.image.tobytes()


def test_a_mask_of_another_size_is_that_jobs_error_alone(engine: StockEngine) -> None:
    jobs = with_images([quick_job(seed=seed) for seed in (0, 1)], masks=True)
    inputs = {**INPUTS, key(17): mask(1, size=(32, 64))}

    good, bad = engine.render(jobs, inputs=inputs)

    assert not isinstance(good, UnsupportedJob)
    assert isinstance(bad, UnsupportedJob)
    assert str(bad) == (
        f"mask_image {key(17)} is 32 x 64 pixels but init_image {key(1)} 128 x 128: "
        "a mask has the size of its init image"
    )


def test_what_is_wrong_with_an_input_is_that_jobs_error_alone(engine: StockEngine) -> None:
    jobs = with_images([quick_job(seed=seed) for seed in (0, 1, 2)])
    fault = UnsupportedJob("init_image inputs/... is not an image")

    first, second, third = engine.render(jobs, inputs={**INPUTS, key(1): fault})

    assert second is fault
    assert [outcome.rows for outcome in all_rendered([first, third])] == [2, 2]


def test_a_file_in_two_roles_is_that_jobs_error_alone(engine: StockEngine) -> None:
    (good,) = with_images([quick_job()])
    bad = quick_job(latents=good.init_image)
    first, second = engine.render([good, bad], inputs=INPUTS)
    all_rendered([first])
    assert isinstance(second, UnsupportedJob)
    assert str(second) == f"latents {key(0)} is an image to one job and noise to another"


def test_an_argument_that_the_kinds_pipeline_lacks_is_refused_by_name(engine: StockEngine) -> None:
    (outcome,) = engine.render(with_images([quick_job(guidance_rescale=0.5)]), inputs=INPUTS)
    assert isinstance(outcome, UnsupportedJob)
    assert "StableDiffusionImg2ImgPipeline does not take guidance_rescale; it takes" in str(outcome)
    assert "strength" in str(outcome)


def test_a_kind_that_diffusers_has_not_for_a_model_is_refused(folders: dict[str, Path]) -> None:
    loaded = load(folders["lcm"])
    (outcome,) = StockEngine(loaded).render(with_images([quick_job()], masks=True), inputs=INPUTS)
    assert isinstance(outcome, UnsupportedJob)
    assert str(outcome) == (
        "diffusers has no inpainting for this checkpoint's LatentConsistencyModelPipeline: "
        "it takes no init_image"
    )
    assert {"init_image", "strength", "latents"} <= set(loaded.fields)
    assert "mask_image" not in loaded.fields


def test_a_checkpoint_for_inpainting_takes_nothing_else_and_can_be_timed(
    folders: dict[str, Path],
) -> None:
    loaded = load(folders["inpainting"])
    engine = StockEngine(loaded)
    jobs = [quick_job(), *with_images([quick_job()])]
    for outcome in engine.render(jobs, inputs=INPUTS):
        assert isinstance(outcome, UnsupportedJob)
        assert str(outcome) == (
            "this checkpoint's StableDiffusionInpaintPipeline is for inpainting only: "
            "it takes init_image and mask_image"
        )
    assert {"init_image", "mask_image", "strength"} <= set(loaded.fields)
    assert probe(engine, engine.typical_job("m"), most_rows=2).denoise.knee in (1, 2)


# diffusers estimates the depth under autocast, which a CPU in float32 has not
@pytest.mark.filterwarnings("ignore:In CPU autocast, but the target dtype")
def test_a_checkpoint_that_sees_depth_starts_from_images(folders: dict[str, Path]) -> None:
    loaded = load(folders["depth"])
    engine = StockEngine(loaded)
    stock = load_stock(folders["depth"], "own")
    jobs = with_images(mixed_jobs(negative_prompt="blurry", guidance_scale=4.0))

    outcomes = all_rendered(engine.render(jobs, inputs=INPUTS))

    assert {outcome.rows for outcome in outcomes} == {len(jobs)}
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert_same_picture(outcome.image, alone(stock, job, 0.8), what=job)
    (refused,) = engine.render([quick_job()])
    assert isinstance(refused, UnsupportedJob)
    assert "is for image-to-image only: it takes an init_image" in str(refused)
    assert {"init_image", "strength"} <= set(loaded.fields)
    assert "mask_image" not in loaded.fields
