"""What starts from noise: noise from a file, Flux's packed one, and images of noise alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch
from PIL import Image

from shared.digest import job_digest
from shared.errors import UnsupportedJob
from shared.job import Job
from shared.pin import Pin
from tests.pictures import (
    LIBRARY_WARNINGS,
    all_rendered,
    assert_nearly_same,
    assert_same_picture,
    mixed_jobs,
    quick_job,
    stock_picture,
    use_scheduler,
)
from tests.tiny_models import save_ddpm, save_flux, save_sd3, save_sdxl
from worker.engine import StockEngine
from worker.inputs import Inputs
from worker.loading import LoadedModel, ModelSource, load_pipeline
from worker.probing import probe

pytestmark = [*LIBRARY_WARNINGS, pytest.mark.usefixtures("one_thread")]

SAVERS = {"sdxl": save_sdxl, "sd3": save_sd3, "flux": save_flux, "ddpm": save_ddpm}
SIZE = 128


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, demo_folder: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("noise")
    for name, save in SAVERS.items():
        save(root / name)
    return {name: root / name for name in SAVERS} | {"sd": demo_folder}


def load(folder: Path) -> LoadedModel:
    return load_pipeline(ModelSource(model=str(folder)), device=torch.device("cpu"))


def load_stock(folder: Path) -> Any:
    import diffusers

    left_out = {"text_encoder_3": None, "tokenizer_3": None} if folder.name == "sd3" else {}
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, **left_out)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def key(number: int) -> str:
    return f"inputs/{number:064x}"


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed))


def with_noise(jobs: Sequence[Job], shape: tuple[int, ...]) -> tuple[list[Job], Inputs]:
    """The jobs at one size, each with noise of its own, every other one with a batch's axis."""
    inputs = {
        key(number): noise(100 + number, *(shape if number % 2 else (1, *shape)))
        for number in range(len(jobs))
    }
    sized = {"height": SIZE, "width": SIZE}
    return [replace(job, latents=key(number), **sized) for number, job in enumerate(jobs)], inputs


@pytest.mark.parametrize(
    ("model", "shape"),
    [("sd", (4, 16, 16)), ("sdxl", (4, 16, 16)), ("sd3", (4, 16, 16)), ("flux", (64, 16))],
)
def test_rows_start_from_noise_of_their_own(
    folders: dict[str, Path], model: str, shape: tuple[int, ...]
) -> None:
    stock = load_stock(folders[model])
    jobs, inputs = with_noise(mixed_jobs(guidance_scale=4.0, negative_prompt=None), shape)

    outcomes = all_rendered(StockEngine(load(folders[model])).render(jobs, inputs=inputs))

    assert {outcome.rows for outcome in outcomes} == {len(jobs)}
    for job, outcome in zip(jobs, outcomes, strict=True):
        own = inputs[str(job.latents)]
        assert isinstance(own, torch.Tensor)
        alone = stock_picture(stock, job, latents=own.reshape(1, *shape))
        assert_same_picture(outcome.image, alone, what=job)


def test_an_ancestral_scheduler_takes_later_noise_from_the_seed(
    folders: dict[str, Path], engine: StockEngine
) -> None:
    stock = load_stock(folders["sd"])
    use_scheduler(stock, "EulerAncestralDiscreteScheduler", seed=0)
    jobs, inputs = with_noise(mixed_jobs()[:3], (4, 16, 16))
    jobs = [replace(job, scheduler="EulerAncestralDiscreteScheduler") for job in jobs]

    for job, outcome in zip(jobs, engine.render(jobs, inputs=inputs), strict=True):
        own = inputs[str(job.latents)]
        assert isinstance(own, torch.Tensor)
        alone = stock_picture(stock, job, latents=own.reshape(1, 4, 16, 16))
        assert_same_picture(all_rendered([outcome])[0].image, alone, what=job)


def test_half_precision_noise_is_taken_as_it_is(engine: StockEngine) -> None:
    job = quick_job(latents=key(0))
    half = noise(0, 4, 8, 8).half()
    (first,) = all_rendered(engine.render([job], inputs={key(0): half}))
    (second,) = all_rendered(engine.render([job], inputs={key(0): half.float()}))
    assert first.image.tobytes() == second.image.tobytes()


def test_the_seeds_own_noise_in_a_file_makes_the_same_image(engine: StockEngine) -> None:
    plain, given = quick_job(seed=3), quick_job(seed=3, latents=key(0))
    (first,) = all_rendered(engine.render([plain]))
    (second,) = all_rendered(engine.render([given], inputs={key(0): noise(3, 4, 8, 8)}))
    assert_nearly_same(first.image, second.image)


@pytest.mark.parametrize("shape", [(4, 8, 16), (3, 8, 8), (4, 64), (2, 4, 8, 8), ()])
def test_noise_of_another_shape_is_refused(engine: StockEngine, shape: tuple[int, ...]) -> None:
    jobs = [quick_job(latents=key(0)), quick_job(latents=key(1))]
    bad, good = engine.render(jobs, inputs={key(0): noise(0, *shape), key(1): noise(0, 4, 8, 8)})
    assert isinstance(bad, UnsupportedJob)
    assert str(bad).startswith(f"latents {key(0)} have the shape ")
    assert str(bad).endswith("this model at this size starts from 4 x 8 x 8")
    all_rendered([good])


def test_flux_takes_prompts_and_an_embedded_scale(folders: dict[str, Path]) -> None:
    loaded = load(folders["flux"])
    assert loaded.embeds_guidance
    stock = load_stock(folders["flux"])
    jobs = [
        quick_job(prompt=prompt, seed=seed, guidance_scale=scale, height=SIZE, width=SIZE)
        for seed, prompt in enumerate(("a red circle", "a blue star"))
        for scale in (1.0, 3.5)
    ]

    outcomes = all_rendered(StockEngine(loaded).render(jobs))

    assert {outcome.rows for outcome in outcomes} == {2}, "one scale a batch"
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert_same_picture(outcome.image, stock_picture(stock, job), what=job)


def by_hand(stock: Any, seed: int, steps: int) -> Image.Image:
    """The quicktour's own loop: a UNet, a scheduler, and noise."""
    generator = torch.Generator("cpu").manual_seed(seed)
    scheduler, unet = stock.scheduler, stock.unet
    scheduler.set_timesteps(steps)
    sample = torch.randn((1, 3, 32, 32), generator=generator)
    for step in scheduler.timesteps:
        with torch.no_grad():
            residual = unet(sample, step).sample
        sample = scheduler.step(residual, step, sample, generator=generator).prev_sample
    pixels = (sample / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0)
    return Image.fromarray((pixels * 255).round().byte().numpy())


def test_an_unconditional_model_equals_its_pipeline_and_the_loop_by_hand(
    folders: dict[str, Path],
) -> None:
    stock = load_stock(folders["ddpm"])
    jobs = [quick_job(prompt="", seed=seed, num_inference_steps=6) for seed in range(4)]

    outcomes = all_rendered(StockEngine(load(folders["ddpm"])).render(jobs))

    assert {(outcome.rows, outcome.forwards) for outcome in outcomes} == {(4, 6)}
    for job, outcome in zip(jobs, outcomes, strict=True):
        generator = torch.Generator("cpu").manual_seed(job.seed)
        alone = stock(num_inference_steps=6, generator=generator).images[0]
        assert_nearly_same(outcome.image, alone, what=job)
        assert_nearly_same(outcome.image, by_hand(stock, job.seed, 6), what=job)
    assert len({outcome.image.tobytes() for outcome in outcomes}) == 4


def test_a_prompt_cannot_act_on_an_unconditional_model(folders: dict[str, Path]) -> None:
    loaded = load(folders["ddpm"])
    pin = Pin.from_text(loaded.pin)
    assert pin.unconditional
    assert (pin.height, pin.width, pin.scheduler) == (32, 32, "DDPMScheduler")
    plain = quick_job(prompt="")
    others = [
        quick_job(prompt="a cat"),
        quick_job(prompt="", guidance_scale=1.0),
        quick_job(negative_prompt="a dog", guidance_scale=9.0, guidance_rescale=0.7),
    ]

    first, *rest = all_rendered(StockEngine(loaded).render([plain, *others]))

    for job, outcome in zip(others, rest, strict=True):
        assert_nearly_same(outcome.image, first.image, what=job)
        assert job_digest(job, pin) == job_digest(plain, pin)
    assert {"seed", "num_inference_steps", "generator_device"} <= set(loaded.fields)
    idle = {"prompt", "negative_prompt", "guidance_scale", "height", "init_image", "latents"}
    assert idle.isdisjoint(loaded.fields)
    assert loaded.schedulers == ("DDPMScheduler",)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"height": 64}, "DDPMPipeline does not take height; it takes batch_size, generator, "),
        ({"latents": key(0)}, "DDPMPipeline does not take latents; it takes batch_size, "),
        ({"scheduler": "PNDMScheduler"}, "does not suit this model: use one of DDPMScheduler"),
        ({"init_image": key(1)}, "no image-to-image for this checkpoint's DDPMPipeline"),
    ],
)
def test_what_an_unconditional_pipeline_lacks_is_refused(
    folders: dict[str, Path], fields: dict[str, Any], said: str
) -> None:
    inputs: Inputs = {key(0): noise(0, 3, 32, 32), key(1): Image.new("RGB", (32, 32))}
    (outcome,) = StockEngine(load(folders["ddpm"])).render([quick_job(**fields)], inputs=inputs)
    assert isinstance(outcome, UnsupportedJob)
    assert said in str(outcome)


def test_the_other_unconditional_pipelines_render_as_well(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    import diffusers

    ddpm = load_stock(folders["ddpm"])
    config = ddpm.scheduler.config
    stock = diffusers.DDIMPipeline(ddpm.unet, diffusers.DDIMScheduler.from_config(config))
    stock.set_progress_bar_config(disable=True)
    stock.save_pretrained(tmp_path / "ddim")
    jobs = [quick_job(prompt="", seed=seed, eta=0.5) for seed in range(2)]

    loaded = load(tmp_path / "ddim")
    outcomes = all_rendered(StockEngine(loaded).render(jobs))

    assert "eta" in loaded.fields
    for job, outcome in zip(jobs, outcomes, strict=True):
        generator = torch.Generator("cpu").manual_seed(job.seed)
        alone = stock(num_inference_steps=4, eta=0.5, generator=generator).images[0]
        assert_nearly_same(outcome.image, alone, what=job)


def test_an_unconditional_model_can_be_timed(folders: dict[str, Path]) -> None:
    engine = StockEngine(load(folders["ddpm"]))
    assert probe(engine, engine.typical_job("m"), most_rows=2).denoise.knee in (1, 2)


def test_a_pipeline_that_needs_what_no_field_gives_is_refused(
    loaded: LoadedModel,
) -> None:
    import diffusers

    class Classes(diffusers.StableDiffusionPipeline):  # type: ignore[misc]
        def __call__(self, class_labels: Any, prompt: Any = None, **more: Any) -> Any:
            raise AssertionError("not to be called")

    pipeline = Classes(**loaded.pipeline.components, requires_safety_checker=False)
    names = {"class_labels", "prompt", "height", "width", "generator"}
    names |= {"num_inference_steps", "guidance_scale"}
    odd = replace(loaded, pipeline=pipeline, accepts=frozenset(names))
    (outcome,) = StockEngine(odd).render([quick_job()])
    assert isinstance(outcome, UnsupportedJob)
    assert "Classes needs class_labels, which no field gives" in str(outcome)
