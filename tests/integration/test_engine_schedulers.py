"""Packed together, every job's picture is the one that the stock pipeline makes of it alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

from shared.errors import RenderError, UnsupportedJob
from tests.pictures import (
    LIBRARY_WARNINGS,
    all_rendered,
    assert_same_picture,
    mixed_jobs,
    quick_job,
    stock_picture,
    use_scheduler,
)
from worker.engine import StockEngine
from worker.loading import LoadedModel
from worker.scheduling import Schedulers

pytestmark = LIBRARY_WARNINGS

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


@pytest.mark.parametrize("name", SCHEDULERS)
def test_packed_jobs_equal_the_stock_pipeline_called_alone(
    engine: StockEngine, stock: Any, name: str
) -> None:
    # 128 pixels: at 64, a tenth of a percent is four pixels, which rounding alone may pass.
    jobs = mixed_jobs(scheduler=name, height=128, width=128, num_inference_steps=5)
    assert len(jobs) >= 8

    outcomes = all_rendered(engine.render(jobs))

    assert {outcome.rows for outcome in outcomes} == {len(jobs)}
    for job, outcome in zip(jobs, outcomes, strict=True):
        use_scheduler(stock, name, seed=job.seed)
        assert_same_picture(outcome.image, stock_picture(stock, job), what=job)
        assert outcome.forwards == len(stock.scheduler.timesteps)


def test_every_compatible_scheduler_is_tested(loaded: LoadedModel) -> None:
    assert set(loaded.schedulers) == set(SCHEDULERS)


def test_a_scheduler_whose_library_is_missing_names_it(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers
    from diffusers.utils import dummy_torch_and_torchsde_objects as stand_ins

    # given: diffusers as it is where torchsde is not installed
    monkeypatch.setattr("diffusers.utils.import_utils._torchsde_available", False)
    monkeypatch.setattr(diffusers, "DPMSolverSDEScheduler", stand_ins.DPMSolverSDEScheduler)
    native = diffusers.PNDMScheduler.from_config(loaded.scheduling.config)
    engine = StockEngine(replace(loaded, scheduling=Schedulers(native)))
    jobs = [quick_job(scheduler="DPMSolverSDEScheduler", seed=seed) for seed in (0, 1)]

    *refused, rendered = engine.render([*jobs, quick_job()])

    for outcome in refused:
        assert type(outcome) is RenderError, "another worker may have the library"
        assert "'DPMSolverSDEScheduler' can't be used here" in str(outcome)
        assert "torchsde" in str(outcome)
        assert "\n" not in str(outcome)
    all_rendered([rendered])


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_leaves_nothing_behind_for_the_next_batch(
    engine: StockEngine, name: str
) -> None:
    jobs = [quick_job(scheduler=name, seed=seed) for seed in (0, 1)]
    first = all_rendered(engine.render(jobs))

    again = all_rendered(engine.render(jobs))

    assert [one.image.tobytes() for one in first] == [one.image.tobytes() for one in again]


def test_an_unsuitable_scheduler_is_refused_with_the_names_of_those_that_suit(
    engine: StockEngine, loaded: LoadedModel
) -> None:
    jobs = [quick_job(scheduler="FlowMatchEulerDiscreteScheduler"), quick_job()]

    refused, rendered = engine.render(jobs)

    assert isinstance(refused, UnsupportedJob)
    assert "'FlowMatchEulerDiscreteScheduler'" in str(refused)
    assert all(name in str(refused) for name in loaded.schedulers)
    all_rendered([rendered])


def test_eta_acts_with_ddim_and_on_each_row_from_its_own_seed(
    engine: StockEngine, stock: Any
) -> None:
    jobs = mixed_jobs(scheduler="DDIMScheduler", eta=0.8, height=128, width=128)
    use_scheduler(stock, "DDIMScheduler", seed=0)

    outcomes = all_rendered(engine.render(jobs))

    for job, outcome in zip(jobs, outcomes, strict=True):
        assert_same_picture(outcome.image, stock_picture(stock, job, eta=0.8), what=job)


def test_eta_is_no_reason_to_split_where_the_scheduler_ignores_it(engine: StockEngine) -> None:
    jobs = [
        quick_job(scheduler="EulerDiscreteScheduler", eta=eta, seed=0) for eta in (0.0, 0.5, 1.0)
    ]

    outcomes = all_rendered(engine.render(jobs))

    assert {outcome.rows for outcome in outcomes} == {3}
    assert len({outcome.image.tobytes() for outcome in outcomes}) == 1
