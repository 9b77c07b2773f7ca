"""What a render call does with the jobs it is given: one picture each, in order, its own."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

from shared.errors import Cancelled, RenderError, UnsupportedJob
from tests.pictures import (
    all_rendered,
    assert_nearly_same,
    assert_same_picture,
    difference,
    mixed_jobs,
    quick_job,
    stock_picture,
    use_scheduler,
)
from worker.embeddings import PromptEmbeddings
from worker.engine import Rendered, StockEngine
from worker.loading import LoadedModel

NATIVE = "PNDMScheduler"


def test_a_guidance_axis_shares_one_batch_and_every_row_gets_its_own_scale(
    engine: StockEngine, stock: Any
) -> None:
    use_scheduler(stock, NATIVE, seed=0)
    scales = (1.01, 1.5, 3.0, 4.5, 7.5, 9.0, 12.0)
    jobs = [quick_job(guidance_scale=scale, height=128, width=128) for scale in scales]

    outcomes = all_rendered(engine.render(jobs))

    assert {outcome.rows for outcome in outcomes} == {len(jobs)}
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert_same_picture(outcome.image, stock_picture(stock, job), what=job)
    assert len({outcome.image.tobytes() for outcome in outcomes}) == len(jobs)


def test_an_unguided_job_ignores_its_negative_prompt_and_its_scale(
    engine: StockEngine, stock: Any
) -> None:
    use_scheduler(stock, NATIVE, seed=0)
    jobs = [
        quick_job(guidance_scale=1.0),
        quick_job(guidance_scale=1.0, negative_prompt="blurry"),
        quick_job(guidance_scale=0.0),
    ]

    outcomes = all_rendered(engine.render(jobs))

    assert {outcome.rows for outcome in outcomes} == {3}
    assert len({outcome.image.tobytes() for outcome in outcomes}) == 1
    assert_same_picture(outcomes[0].image, stock_picture(stock, jobs[0]))


def test_jobs_of_many_recipes_come_back_in_their_own_order(engine: StockEngine, stock: Any) -> None:
    use_scheduler(stock, NATIVE, seed=0)
    jobs = [
        quick_job(seed=seed, num_inference_steps=steps, guidance_scale=guidance, height=height)
        for seed, (steps, guidance, height) in enumerate(
            [
                (4, 7.5, None),
                (3, 7.5, None),
                (4, 1.0, None),
                (4, 7.5, 72),
                (3, 2.0, 64),
                (4, 4.0, 72),
            ]
        )
    ]

    outcomes = all_rendered(engine.render(jobs))

    assert [outcome.rows for outcome in outcomes] == [1, 2, 1, 2, 2, 2]
    assert [outcome.image.size for outcome in outcomes] == [
        (64, 72) if job.height == 72 else (64, 64) for job in jobs
    ]
    for job, outcome in zip(jobs, outcomes, strict=True):
        # the stock pipeline drops a height that comes without a width
        alone = stock_picture(stock, job, height=job.height or 64, width=64)
        assert_nearly_same(outcome.image, alone, what=job)


def test_guidance_rescale_equals_the_stock_pipelines(engine: StockEngine, stock: Any) -> None:
    use_scheduler(stock, "DDIMScheduler", seed=0)
    jobs = mixed_jobs(guidance_rescale=0.7, scheduler="DDIMScheduler", height=128, width=128)

    outcomes = all_rendered(engine.render(jobs))

    assert {outcome.rows for outcome in outcomes} == {len(jobs)}
    for job, outcome in zip(jobs, outcomes, strict=True):
        assert_same_picture(
            outcome.image, stock_picture(stock, job, guidance_rescale=0.7), what=job
        )


def test_company_and_order_make_no_difference(engine: StockEngine) -> None:
    jobs = mixed_jobs(height=128, width=128)
    together = all_rendered(engine.render(jobs))

    reversed_order = all_rendered(engine.render(jobs[::-1]))[::-1]
    in_threes = [
        outcome
        for start in range(0, len(jobs), 3)
        for outcome in all_rendered(engine.render(jobs[start : start + 3]))
    ]

    for other in (reversed_order, in_threes):
        for job, first, second in zip(jobs, together, other, strict=True):
            assert_same_picture(first.image, second.image, what=job)


def test_pictures_are_varied_and_heed_prompt_seed_guidance_and_negative_prompt(
    engine: StockEngine,
) -> None:
    plain = quick_job(num_inference_steps=10, guidance_scale=4.0)
    others = [
        quick_job(num_inference_steps=10, guidance_scale=4.0, prompt="a castle by the sea"),
        quick_job(num_inference_steps=10, guidance_scale=4.0, seed=1),
        quick_job(num_inference_steps=10, guidance_scale=9.0),
        quick_job(num_inference_steps=10, guidance_scale=4.0, negative_prompt="a castle"),
    ]

    first, *rest = all_rendered(engine.render([plain, *others]))

    extrema = first.image.convert("L").getextrema()
    assert extrema[1] - extrema[0] > 100, "a picture, not flat grey"
    for job, outcome in zip(others, rest, strict=True):
        levels, pixels = difference(first.image, outcome.image)
        assert levels > 40, job
        assert pixels > 0.5, job


def test_each_distinct_text_is_embedded_once_and_remembered(engine: StockEngine) -> None:
    jobs = [
        quick_job(prompt=prompt, negative_prompt=negative, seed=seed)
        for prompt in ("a", "b")
        for negative in (None, "", "blurry")
        for seed in (0, 1)
    ]

    all_rendered(engine.render(jobs))
    once = engine.embeddings.computed
    all_rendered(engine.render(jobs))

    assert once == 2 + 3, "two prompts; no, an empty and one negative prompt"
    assert engine.embeddings.computed == once


def test_embeddings_are_forgotten_when_the_cache_is_full_and_pictures_stay_right(
    loaded: LoadedModel, engine: StockEngine
) -> None:
    jobs = mixed_jobs()
    tiny = StockEngine(loaded, embeddings=PromptEmbeddings(loaded.pipeline, capacity_bytes=1))

    outcomes = all_rendered(tiny.render(jobs))
    computed = tiny.embeddings.computed
    all_rendered(tiny.render(jobs))

    assert tiny.embeddings.computed > computed
    for kept, forgotten in zip(all_rendered(engine.render(jobs)), outcomes, strict=True):
        assert kept.image.tobytes() == forgotten.image.tobytes()


def test_a_cut_prompt_says_which_words_were_lost(
    engine: StockEngine, caplog: pytest.LogCaptureFixture
) -> None:
    long = "red " * 80 + "unreadable ending"
    jobs = [quick_job(), quick_job(prompt=long), quick_job(negative_prompt=long)]

    plain, cut, cut_negative = all_rendered(engine.render(jobs))

    assert plain.notes == ()
    (note,) = cut.notes
    assert note.startswith("prompt cut to 77 tokens, without: ")
    assert note.endswith(" red red unreadable ending")
    (note,) = cut_negative.notes
    assert note.startswith("negative prompt cut to 77 tokens")
    (logged,) = [record for record in caplog.records if record.name == "worker.cut_prompts"]
    assert logged.levelname == "WARNING"
    assert vars(logged)["cut"] in cut.notes[0]


def test_cancelling_stops_at_the_next_step_and_keeps_what_is_finished(engine: StockEngine) -> None:
    asked = 0

    def cancelled() -> bool:
        # given: the first batch asks once before and once after each of its PNDM forwards (4 + 1)
        nonlocal asked
        asked += 1
        return asked > 1 + 5 + 1 + 2

    jobs = [
        quick_job(seed=0),
        quick_job(seed=1, num_inference_steps=50),
        quick_job(seed=2, num_inference_steps=50),
        quick_job(seed=3),
    ]

    outcomes = engine.render(jobs, cancelled=cancelled)

    assert isinstance(outcomes[0], Rendered)
    assert isinstance(outcomes[3], Rendered)
    assert isinstance(outcomes[1], Cancelled)
    assert isinstance(outcomes[2], Cancelled)
    assert "after 3 steps" in str(outcomes[1])


def test_noise_from_a_device_that_is_not_here_is_refused(engine: StockEngine) -> None:
    (outcome,) = engine.render([quick_job(generator_device="cuda")])

    assert isinstance(outcome, RenderError)
    assert "'cuda'" in str(outcome)
    assert "use 'cpu'" in str(outcome)


def test_an_argument_that_the_pipeline_lacks_is_refused_by_name(demo_folder: Any) -> None:
    import diffusers
    import torch

    from worker.loading import ModelSource, load_pipeline

    source = ModelSource(model=str(demo_folder))
    loaded = load_pipeline(source, device=torch.device("cpu"))

    class Stubborn(diffusers.StableDiffusionPipeline):  # type: ignore[misc]
        def __call__(self, prompt: Any, guidance_scale: float, generator: Any) -> Any:
            raise AssertionError("not to be called")

    import dataclasses
    import inspect

    pipeline = Stubborn(**loaded.pipeline.components, requires_safety_checker=False)
    odd = dataclasses.replace(
        loaded,
        pipeline=pipeline,
        accepts=frozenset(inspect.signature(pipeline.__call__).parameters),
    )

    (outcome,) = StockEngine(odd).render([quick_job()])

    assert isinstance(outcome, UnsupportedJob)
    assert "does not take num_inference_steps" in str(outcome)
    assert "it takes generator, guidance_scale, prompt" in str(outcome)


def test_rendering_nothing_gives_nothing(engine: StockEngine) -> None:
    assert engine.render([]) == []


def test_the_time_spent_is_told_by_stage(engine: StockEngine) -> None:
    (outcome,) = all_rendered(engine.render([quick_job()]))

    assert set(outcome.seconds) == {"embed", "denoise", "decode", "finish"}
    assert all(seconds >= 0 for seconds in outcome.seconds.values())
    assert outcome.seconds["denoise"] > 0
    assert outcome.seconds["decode"] > 0
