"""Packed together, every job's picture is the one that the stock pipeline makes of it alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.errors import Cancelled, NonFiniteImage, RenderError, UnsupportedJob
from shared.job import Job
from tests.pictures import assert_same_picture, difference, stock_output

torch = pytest.importorskip("torch", reason="needs the worker's dependencies")

from worker.engine import Rendered, StockEngine  # noqa: E402
from worker.loading import LoadedModel, ModelSource, load_pipeline  # noqa: E402

pytestmark = [
    # diffusers' DEIS and KDPM2 hand torch tensors to numpy; these go once torch's __array__ and
    # __array_wrap__ have NumPy 2's signatures.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context and return_scalar"),
    # torchsde compares float32 times with float64 ones; gone if diffusers' DPMSolverSDE drops it.
    pytest.mark.filterwarnings("ignore:Should have tb<=t1 but got:UserWarning"),
]

SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "DPMSolverSinglestepScheduler",
    "EDMEulerScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)

MIXED = (
    ("a red circle", None, 7.5, 0),
    ("a red circle", "", 3.0, 1),
    ("a blue star", "blurry", 1.5, 2),
    ("a castle by the sea, oil painting", "blurry", 12.0, 3),
    ("", None, 4.0, 2**63 - 1),
    ("一只红色的狐狸 🦊", "low quality", 5.5, 4),
    ("a red circle", None, 7.5, 5),
    ("C# code # poster (a:1.2) {json: 1}", None, 2.0, 6),
)
"""Prompt, negative prompt, guidance and seed."""


def make_job(**fields: Any) -> Job:
    return Job(**{"model": "demo", "prompt": "a red circle", "num_inference_steps": 6} | fields)


def mixed_jobs(**fields: Any) -> list[Job]:
    return [
        make_job(prompt=prompt, negative_prompt=negative, guidance_scale=guidance, seed=seed)
        if not fields
        else make_job(
            prompt=prompt, negative_prompt=negative, guidance_scale=guidance, seed=seed, **fields
        )
        for prompt, negative, guidance, seed in MIXED
    ]


def pictures(outcomes: list[Rendered | RenderError]) -> list[Rendered]:
    for outcome in outcomes:
        if isinstance(outcome, RenderError):
            raise outcome
    return outcomes  # type: ignore[return-value]


@pytest.fixture(scope="module")
def loaded(demo_folder: Path) -> LoadedModel:
    return load_pipeline(ModelSource(model=str(demo_folder)), device=torch.device("cpu"))


@pytest.fixture
def engine(loaded: LoadedModel) -> StockEngine:
    return StockEngine(loaded)


@pytest.fixture(scope="module")
def stock(demo_folder: Path) -> Any:
    """The same checkpoint in diffusers' hands alone."""
    import diffusers

    pipeline = diffusers.DiffusionPipeline.from_pretrained(demo_folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.native_config = dict(pipeline.scheduler.config)
    return pipeline


@pytest.mark.parametrize("name", SCHEDULERS)
def test_packed_jobs_equal_the_stock_pipeline_called_alone(
    engine: StockEngine, stock: Any, name: str
) -> None:
    # 128 pixels: at 64, a tenth of a percent is four pixels, which rounding alone may pass.
    jobs = mixed_jobs(scheduler=name, height=128, width=128, num_inference_steps=5)
    assert len(jobs) >= 8
    try:
        use(stock, name, seed=0)
    except ImportError:
        outcomes = engine.render(jobs)
        assert all(isinstance(outcome, RenderError) for outcome in outcomes)
        assert all("pip install" in str(outcome) for outcome in outcomes)
        pytest.skip(f"{name} needs a library that is not installed")

    outcomes = pictures(engine.render(jobs))

    assert {outcome.rows for outcome in outcomes} == {len(jobs)}
    for job, outcome in zip(jobs, outcomes, strict=True):
        use(stock, name, seed=job.seed)
        alone = stock_output(stock, job).images[0]
        assert_same_picture(outcome.image, alone, what=job)
        assert outcome.forwards == len(stock.scheduler.timesteps)


def test_every_compatible_scheduler_is_tested(loaded: LoadedModel) -> None:
    assert set(loaded.schedulers) == set(SCHEDULERS)


def use(stock: Any, name: str | None, *, seed: int) -> None:
    """Give the stock pipeline a scheduler as diffusers' own docs do."""
    import diffusers

    cls = getattr(diffusers, name or stock.native_config["_class_name"])
    if name == "DPMSolverSDEScheduler":
        # Without a seed of its own it draws from torch's global generator.
        stock.scheduler = cls.from_config(stock.native_config, noise_sampler_seed=seed)
    else:
        stock.scheduler = cls.from_config(stock.native_config)
