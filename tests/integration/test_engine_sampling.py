"""Scheduler settings, explicit steps, skipped layers, safety checker: as stock has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

from shared.errors import UnsupportedJob
from shared.field_values import check_value
from shared.schedulers import SCHEDULERS, TAKES_SIGMAS, TAKES_TIMESTEPS
from tests.pictures import (
    LIBRARY_WARNINGS,
    all_rendered,
    assert_same_picture,
    difference,
    mixed_jobs,
    quick_job,
    stock_picture,
)
from worker.engine import StockEngine
from worker.loading import LoadedModel

pytestmark = LIBRARY_WARNINGS

SETTINGS = [
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 2}),
    ("DPMSolverMultistepScheduler", {"final_sigmas_type": "sigma_min", "lower_order_final": False}),
    ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    ("EulerDiscreteScheduler", {"use_exponential_sigmas": True}),
    ("UniPCMultistepScheduler", {"solver_order": 1}),
    ("DDIMScheduler", {"beta_schedule": "linear", "timestep_spacing": "linspace"}),
    ("DDIMScheduler", {"rescale_betas_zero_snr": False, "set_alpha_to_one": True}),
    (None, {"skip_prk_steps": True, "beta_end": 0.02}),
]


def large(**fields: Any) -> list[Any]:
    """Jobs that may share a batch, of a size at which rounding alone shows in few pixels."""
    structured = ("scheduler_config", "timesteps", "sigmas")
    checked = {n: check_value(n, v) if n in structured else v for n, v in fields.items()}
    return mixed_jobs(height=128, width=128, **checked)[:4]


def stock_scheduler(stock: Any, name: str | None, settings: dict[str, Any]) -> None:
    import diffusers

    if not hasattr(stock, "own_scheduler_config"):
        stock.own_scheduler_config = stock.scheduler.config
    cls = getattr(diffusers, name or "PNDMScheduler")
    stock.scheduler = cls.from_config(stock.own_scheduler_config, **settings)


@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_settings_of_a_scheduler_act_as_in_the_stock_pipeline(
    engine: StockEngine, stock: Any, name: str | None, settings: dict[str, Any]
) -> None:
    jobs = large(scheduler=name, scheduler_config=settings, num_inference_steps=5)
    plain = large(scheduler=name, num_inference_steps=5)

    outcomes = all_rendered(engine.render(jobs))

    assert {outcome.rows for outcome in outcomes} == {len(jobs)}
    for job, outcome in zip(jobs, outcomes, strict=True):
        stock_scheduler(stock, name, settings)
        assert_same_picture(outcome.image, stock_picture(stock, job), what=job)
    if "set_alpha_to_one" not in settings:  # the checkpoint's own
        assert difference(outcomes[0].image, all_rendered(engine.render(plain))[0].image)[0] > 0


def test_settings_last_for_one_batch_and_split_batches(engine: StockEngine) -> None:
    karras = check_value("scheduler_config", {"use_karras_sigmas": True})
    jobs = [
        quick_job(scheduler="EulerDiscreteScheduler", scheduler_config=config, seed=seed)
        for seed in (0, 1)
        for config in (None, karras)
    ]

    together = all_rendered(engine.render(jobs))
    plain = all_rendered(engine.render([jobs[0], jobs[2]]))

    assert {outcome.rows for outcome in together} == {2}
    for one, other in zip((together[0], together[2]), plain, strict=True):
        assert_same_picture(one.image, other.image)


def test_an_unknown_setting_is_refused_with_those_that_there_are(engine: StockEngine) -> None:
    config = check_value("scheduler_config", {"use_karas_sigmas": True, "beta_end": 0.02})

    refused, rendered = engine.render(
        [quick_job(scheduler="EulerDiscreteScheduler", scheduler_config=config), quick_job()]
    )

    assert isinstance(refused, UnsupportedJob)
    message = str(refused)
    assert message.startswith(
        "scheduler_config has use_karas_sigmas, which EulerDiscreteScheduler does not take: it "
        "takes beta_end, beta_schedule, "
    )
    assert "use_karras_sigmas" in message
    all_rendered([rendered])


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"beta_schedule": "wavy"}, "wavy"),
        ({"solver_order": "many"}, "refuses scheduler_config|ValueError|TypeError"),
        ({"noise_sampler_seed": 5}, "which DPMSolverMultistepScheduler does not take"),
    ],
)
def test_a_setting_that_cannot_be_is_the_jobs_own_error(
    engine: StockEngine, config: dict[str, Any], why: str
) -> None:
    import re

    job = quick_job(
        scheduler="DPMSolverMultistepScheduler",
        scheduler_config=check_value("scheduler_config", config),
    )

    refused, rendered = engine.render([job, quick_job()])

    assert isinstance(refused, Exception)
    assert re.search(why, str(refused))
    assert "\n" not in str(refused)
    all_rendered([rendered])


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("EulerDiscreteScheduler", {"sigmas": [14.6, 7.1, 2.9, 0.8, 0]}),
        ("EulerDiscreteScheduler", {"timesteps": [999, 700, 321, 17]}),
        ("DDPMScheduler", {"timesteps": [999, 700, 321, 17]}),
        ("DPMSolverMultistepScheduler", {"timesteps": [999, 850, 736, 645, 455, 186]}),
        ("HeunDiscreteScheduler", {"timesteps": [999, 500, 1]}),
    ],
)
def test_explicit_steps_equal_the_stock_pipelines(
    engine: StockEngine, stock: Any, name: str, given: dict[str, Any]
) -> None:
    jobs = large(scheduler=name, num_inference_steps=3, **given)

    outcomes = all_rendered(engine.render(jobs))

    assert {outcome.rows for outcome in outcomes} == {len(jobs)}
    for job, outcome in zip(jobs, outcomes, strict=True):
        stock_scheduler(stock, name, {})
        alone = stock_picture(stock, job, num_inference_steps=50, **given)
        assert_same_picture(outcome.image, alone, what=job)
        assert outcome.forwards == len(stock.scheduler.timesteps)


def test_the_checkpoints_own_scheduler_may_take_no_explicit_steps(engine: StockEngine) -> None:
    refused, rendered = engine.render([quick_job(timesteps="[999,1]"), quick_job()])

    assert isinstance(refused, UnsupportedJob)
    assert str(refused).startswith("scheduler 'PNDMScheduler' takes no timesteps: use one of DDPM")
    all_rendered([rendered])


def test_which_schedulers_take_explicit_steps_is_what_diffusers_says() -> None:
    import inspect

    import diffusers

    def takers(argument: str) -> set[str]:
        found = set()
        for name in SCHEDULERS:
            try:
                parameters = inspect.signature(getattr(diffusers, name).set_timesteps).parameters
            except ImportError:
                continue
            if argument in parameters:
                found.add(name)
        return found

    assert takers("timesteps") == TAKES_TIMESTEPS
    assert takers("sigmas") == TAKES_SIGMAS


class TestClipSkip:
    """Layers left out where the installed transformers lets diffusers find them."""

    def test_it_acts_as_in_the_stock_pipeline(self, sdxl: tuple[LoadedModel, Any]) -> None:
        loaded, stock = sdxl
        engine = StockEngine(loaded)
        jobs = large(clip_skip=1)

        outcomes = all_rendered(engine.render(jobs))
        plain = all_rendered(engine.render(large()))

        assert {outcome.rows for outcome in outcomes} == {len(jobs)}
        for job, outcome, other in zip(jobs, outcomes, plain, strict=True):
            assert_same_picture(outcome.image, stock_picture(stock, job, clip_skip=1), what=job)
            assert outcome.image.tobytes() != other.image.tobytes()

    def test_more_layers_than_there_are_is_refused(self, sdxl: tuple[LoadedModel, Any]) -> None:
        refused, rendered = StockEngine(sdxl[0]).render([quick_job(clip_skip=20), quick_job()])

        assert isinstance(refused, UnsupportedJob)
        assert str(refused).startswith("clip_skip 20 leaves out more layers than StableDiffusionXL")
        all_rendered([rendered])

    def test_stable_diffusion_1_acts_as_stock_or_says_why_not(
        self, engine: StockEngine, stock: Any
    ) -> None:
        """diffusers 0.42 looks for text_encoder.text_model, which transformers 5 no longer has."""
        (outcome,) = engine.render([quick_job(clip_skip=1)])

        if hasattr(stock.text_encoder, "text_model"):
            assert_same_picture(outcome.image, stock_picture(stock, quick_job(), clip_skip=1))  # type: ignore[union-attr]
        else:
            with pytest.raises(AttributeError, match="text_model"):
                stock_picture(stock, quick_job(), clip_skip=1)
            assert isinstance(outcome, UnsupportedJob)
            assert "clip_skip 1 can't act with StableDiffusionPipeline under transf" in str(outcome)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Any]:
    import diffusers
    import torch

    from tests.tiny_models import save_sdxl
    from worker.loading import ModelSource, load_pipeline

    folder: Path = tmp_path_factory.mktemp("sdxl")
    save_sdxl(folder)
    stock = diffusers.DiffusionPipeline.from_pretrained(folder)
    stock.set_progress_bar_config(disable=True)
    return load_pipeline(ModelSource(model=str(folder)), device=torch.device("cpu")), stock


def test_on_needs_a_safety_checker_and_off_needs_none(engine: StockEngine) -> None:
    on, off, own = engine.render(
        [quick_job(safety_checker="on"), quick_job(safety_checker="off"), quick_job()]
    )

    assert isinstance(on, UnsupportedJob)
    assert str(on).startswith("safety_checker 'on': this StableDiffusionPipeline came without one")
    off, own = all_rendered([off, own])
    assert off.image.tobytes() == own.image.tobytes()
