"""A job that fails, fails alone; a batch that does not fit is split; no mate's picture changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from shared.errors import ModelError, NonFiniteImage, OutOfMemory, RenderError, UnsupportedJob
from tests.pictures import (
    LIBRARY_WARNINGS,
    all_rendered,
    assert_nearly_same,
    hooked,
    mixed_jobs,
    quick_job,
)
from worker.engine import Rendered, StockEngine
from worker.loading import LoadedModel
from worker.scheduling import Schedulers

pytestmark = LIBRARY_WARNINGS

POISON = "poison"


@contextmanager
def memory_for(pipeline: Any, rows: int) -> Iterator[list[int]]:
    """The denoising model runs out of memory above this many images, with guidance."""
    sizes: list[int] = []

    def check(_: Any, arguments: tuple[Any, ...]) -> None:
        images = arguments[0].shape[0] // 2
        sizes.append(images)
        if images > rows:
            raise torch.OutOfMemoryError(f"Tried to allocate {images} GiB")

    with hooked(pipeline.unet, check, before=True):
        yield sizes


@contextmanager
def poisoned(engine: StockEngine, effect: Callable[[Any], Any]) -> Iterator[None]:
    """Apply ``effect`` to the embedding of the prompt POISON, whenever it is computed."""
    tokens = engine.loaded.pipeline.tokenizer(POISON).input_ids

    def spoil(_: Any, arguments: Any, keywords: Any, output: Any) -> Any:
        ids = keywords.get("input_ids", arguments[0] if arguments else None)
        if ids[0, : len(tokens)].tolist() == tokens:
            output["last_hidden_state"] = effect(output["last_hidden_state"])
        return output

    handle = engine.loaded.pipeline.text_encoder.register_forward_hook(spoil, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("fits", [1, 3, 11])
def test_running_out_of_memory_finds_the_exact_cap_and_changes_no_picture(
    engine: StockEngine, fits: int
) -> None:
    jobs = [
        quick_job(seed=seed, guidance_scale=2.0 + seed / 2, num_inference_steps=2)
        for seed in range(16)
    ]
    roomy = all_rendered(engine.render(jobs))

    with memory_for(engine.loaded.pipeline, fits) as sizes:
        rounds = [all_rendered(engine.render(jobs)) for _ in range(3)]
        cap = engine.cap(jobs[0])
        learnt = (cap.good, cap.bad)
        sizes.clear()
        all_rendered(engine.render(jobs))

    assert learnt == (fits, fits + 1)
    assert max(sizes) == fits, "the cap is remembered"
    for outcomes in rounds:
        for job, before, after in zip(jobs, roomy, outcomes, strict=True):
            assert_nearly_same(before.image, after.image, what=job)


@pytest.mark.parametrize("fits", [1, 3])
def test_memory_that_ends_in_the_vae_splits_the_batch_as_well(
    engine: StockEngine, fits: int
) -> None:
    jobs = [quick_job(seed=seed, num_inference_steps=1) for seed in range(8)]
    roomy = all_rendered(engine.render(jobs))
    vae = engine.loaded.pipeline.vae
    decode = vae.decode

    def tight(latents: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if latents.shape[0] > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return decode(latents, *args, **kwargs)

    vae.decode = tight
    try:
        for _ in range(3):
            outcomes = all_rendered(engine.render(jobs))
    finally:
        del vae.decode

    cap = engine.cap(jobs[0])
    assert (cap.good, cap.bad) == (fits, fits + 1)
    for job, before, after in zip(jobs, roomy, outcomes, strict=True):
        assert_nearly_same(before.image, after.image, what=job)


def test_a_job_that_does_not_fit_alone_is_told_what_would_help(engine: StockEngine) -> None:
    with memory_for(engine.loaded.pipeline, 0):
        sizes = [{"height": 72, "width": 64}, {}]
        outcomes = engine.render([quick_job(**size) for size in sizes])

    assert all(isinstance(outcome, OutOfMemory) for outcome in outcomes)
    assert "one image of 64x72 does not fit" in str(outcomes[0])
    assert "one image of 64x64 does not fit" in str(outcomes[1]), "the checkpoint's own size"
    assert "it needed 1.00 GiB more at once" in str(outcomes[0])
    assert "Tried to allocate 1 GiB" in str(outcomes[0])
    assert "smaller height and width" in str(outcomes[0])
    all_rendered(engine.render([quick_job(seed=seed) for seed in range(4)]))


def test_memory_is_released_before_the_smaller_batch_runs(engine: StockEngine) -> None:
    import weakref

    held: list[Any] = []
    alive: list[bool] = []

    def check(_: Any, arguments: tuple[Any, ...]) -> None:
        alive.extend(reference() is not None for reference in held)
        held.clear()
        if arguments[0].shape[0] > 2:
            activations = torch.zeros(8)  # lives in this frame, which the traceback pins
            held.append(weakref.ref(activations))
            raise torch.OutOfMemoryError("too much")

    with hooked(engine.loaded.pipeline.unet, check, before=True):
        all_rendered(engine.render([quick_job(seed=seed) for seed in range(4)]))

    assert alive, "it did run out of memory"
    assert not any(alive)


def test_a_row_of_nan_fails_alone_and_leaves_its_mates_bitwise_unchanged(
    engine: StockEngine, loaded: LoadedModel
) -> None:
    jobs = mixed_jobs()
    jobs.insert(3, quick_job(prompt=POISON, seed=9))
    healthy = all_rendered(engine.render(jobs))
    fresh = StockEngine(loaded)

    with poisoned(fresh, lambda hidden: hidden * float("nan")):
        outcomes = fresh.render(jobs)

    culprit = outcomes.pop(3)
    del healthy[3]
    assert isinstance(culprit, NonFiniteImage)
    assert "NaN" in str(culprit)
    for before, after in zip(healthy, all_rendered(outcomes), strict=True):
        assert after.rows == len(jobs)
        assert before.image.tobytes() == after.image.tobytes()


@pytest.mark.parametrize("place", [0, 5, 8])
def test_the_culprit_of_a_failed_batch_is_found_and_its_mates_are_rendered(
    engine: StockEngine, loaded: LoadedModel, place: int
) -> None:
    def fail(_: Any) -> Any:
        raise ValueError("this prompt is more than\nthe text encoder can bear")

    jobs = mixed_jobs()
    jobs.insert(place, quick_job(prompt=POISON))
    healthy = all_rendered(engine.render(jobs))

    with poisoned(engine, fail):
        engine = StockEngine(loaded)
        outcomes = engine.render(jobs)

    culprit = outcomes.pop(place)
    del healthy[place]
    assert type(culprit) is RenderError
    assert str(culprit) == "ValueError: this prompt is more than"
    for job, before, after in zip(mixed_jobs(), healthy, all_rendered(outcomes), strict=True):
        assert_nearly_same(before.image, after.image, what=job)


def test_a_recipe_that_the_stock_pipeline_cannot_run_fails_its_own_jobs_only(
    engine: StockEngine,
) -> None:
    jobs = [quick_job(num_inference_steps=0), quick_job(), quick_job(num_inference_steps=0, seed=1)]

    broken, fine, broken_too = engine.render(jobs)

    assert isinstance(broken, RenderError)
    assert isinstance(broken_too, RenderError)
    assert isinstance(fine, Rendered)


def test_a_broken_device_is_no_jobs_fault(engine: StockEngine) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    device_failed = pytest.raises(ModelError, match=r"device failed.*illegal memory access")
    with hooked(engine.loaded.pipeline.unet, fail, before=True), device_failed:
        engine.render([quick_job()])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {
                "scheduler": "DPMSolverMultistepScheduler",
                "scheduler_config": '{"use_karras_sigmas":true}',
                "timesteps": "[999,500,10]",
            },
            "Cannot use `timesteps` with `config.use_karras_sigmas = True`",
        ),
        (
            {"scheduler": "UniPCMultistepScheduler", "sigmas": "[14.6,3.2,0.0]"},
            "Passing `sigmas` is only supported when `use_flow_sigmas=True`",
        ),
        (
            {"scheduler": "EDMEulerScheduler", "sigmas": "[14.6,3.2]"},
            "scheduler 'EDMEulerScheduler' fails with sigmas [14.6, 3.2] (AttributeError: 'list' "
            "object has no attribute 'to'): change that, or use another scheduler",
        ),
        ({"scheduler": "DDIMScheduler", "num_inference_steps": 5000}, "cannot be larger than"),
        (
            {"scheduler": "DDIMScheduler", "scheduler_config": '{"steps_offset":5000}'},
            "scheduler 'DDIMScheduler' fails with num_inference_steps 4 and scheduler_config "
            "{'steps_offset': 5000} (IndexError: ",
        ),
        (
            {"scheduler": "DDIMScheduler", "scheduler_config": '{"beta_end":-1}'},
            "scheduler 'DDIMScheduler' refuses scheduler_config {'beta_end': -1}: torch.linspace",
        ),
        (
            {
                "scheduler": "DPMSolverMultistepScheduler",
                "scheduler_config": '{"solver_order":0}',
            },
            "{'solver_order': 0} (IndexError: list assignment index out of range)",
        ),
        ({"height": 100}, "ValueError: `height` and `width` have to be divisible by 8"),
    ],
    ids=["karras", "unipc", "edm", "steps", "offset", "betas", "order", "height"],
)
def test_settings_that_would_fail_on_every_worker_are_given_up_at_once(
    loaded: LoadedModel, one_thread: None, fields: dict[str, Any], said: str
) -> None:
    if fields.get("scheduler") == "EDMEulerScheduler":  # suits checkpoints of its own kind alone
        from diffusers import EDMEulerScheduler

        loaded = replace(loaded, scheduling=Schedulers(EDMEulerScheduler()))

    outcomes = StockEngine(loaded).render([quick_job(seed=seed, **fields) for seed in range(2)])

    for outcome in outcomes:
        assert isinstance(outcome, UnsupportedJob)
        assert said in str(outcome)


@pytest.mark.parametrize("error", [ValueError("a kernel is out of sorts"), IndexError("no row")])
def test_the_same_kinds_of_error_in_a_model_may_be_the_workers(
    engine: StockEngine, error: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise error

    with hooked(engine.loaded.pipeline.unet, fail, before=True):
        (outcome,) = engine.render([quick_job()])

    assert type(outcome) is RenderError


def test_torchs_own_errors_in_a_scheduler_may_be_the_devices(
    engine: StockEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import PNDMScheduler

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a kernel is out of sorts")

    monkeypatch.setattr(PNDMScheduler, "step", fail)
    (outcome,) = engine.render([quick_job()])

    assert type(outcome) is RenderError
