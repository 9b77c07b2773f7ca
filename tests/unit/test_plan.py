"""Plans: what a sweep would come to, and the warnings that come with it."""

from __future__ import annotations

import pytest

from producer.plan import Measured, make_plan
from producer.plan_warnings import warnings_of
from shared.queue_records import Rate
from tests.factories import make_sweep

SIZES = {"height": 64, "width": 64}


def rates_of(sweep, seconds: float, batch: int) -> list[Rate]:  # type: ignore[no-untyped-def]
    return [
        Rate(
            model=block.model,
            lane=block.lane,
            recipe=block.recipe,
            seconds_per_job=seconds,
            batch=batch,
        )
        for block in sweep.layout.blocks
    ]


def test_a_plan_counts_jobs_lanes_recipes_blocks_and_batches() -> None:
    sweep = make_sweep(seed="0..9", guidance_scale=[1, 4, 7.5], height=[64, 128], width=64)

    plan = make_plan(sweep, Measured())

    assert (plan.jobs, plan.lanes, plan.recipes, plan.blocks) == (60, 2, 2, 4)
    # 10 unguided and 20 guided jobs in each of two sizes, 8 a batch
    assert plan.batches == 2 * (2 + 3)
    assert (plan.batch_size, plan.batch_measured) == (8, False)
    assert [(axis.fields, axis.values) for axis in plan.axes] == [
        (("seed",), 10),
        (("guidance_scale",), 3),
        (("height",), 2),
    ]


def test_a_plan_of_ten_million_jobs_enumerates_nothing() -> None:
    plan = make_plan(make_sweep(seed="0..9999999", **SIZES), Measured())
    assert plan.jobs == 10_000_000
    assert plan.manifest_bytes < 1000
    assert plan.image_bytes == pytest.approx(10_000_000 * 64 * 64 * 1.6)


def test_blocks_of_one_lane_and_recipe_share_batches() -> None:
    # two prompts of two steps each: the steps cut the sweep, the scheduler None and PNDM do not
    sweep = make_sweep(seed="0..3", num_inference_steps=[4, 8], **SIZES)
    assert make_plan(sweep, Measured()).batches == 2


def test_first_and_last_jobs_are_the_users_own() -> None:
    plan = make_plan(make_sweep(seed="0..9", **SIZES), Measured())
    assert [job["index"] for job in plan.first] == [0, 1, 2]
    assert [job["seed"] for job in plan.last] == [7, 8, 9]


def test_jobs_of_a_short_sweep_are_listed_once() -> None:
    plan = make_plan(make_sweep(seed="0..3", **SIZES), Measured())
    assert [job["index"] for job in (*plan.first, *plan.last)] == [0, 1, 2, 3]


def test_time_and_money_come_from_measured_rates() -> None:
    sweep = make_sweep(seed="0..99", guidance_scale=[1, 4], **SIZES)
    model = sweep.layout.blocks[0].model
    measured = Measured(rates=rates_of(sweep, 1.8, 16), workers={model: 2})

    plan = make_plan(sweep, measured, price_per_hour=3.0)

    assert plan.seconds == pytest.approx(200 * 1.8 / 2)
    assert plan.money == pytest.approx(200 * 1.8 / 3600 * 3.0)
    assert (plan.batch_size, plan.batch_measured, plan.batches) == (16, True, 2 * 7)


def test_a_recipe_without_a_rate_leaves_the_time_unknown() -> None:
    sweep = make_sweep(seed="0..9", guidance_scale=[1, 4], **SIZES)
    measured = Measured(rates=rates_of(sweep, 1.0, 16)[:1])
    plan = make_plan(sweep, measured, price_per_hour=3.0)
    assert plan.seconds is None
    assert plan.money is None


def test_a_workers_own_batch_size_is_used_where_nothing_was_rendered_yet() -> None:
    sweep = make_sweep(seed="0..99", **SIZES)
    model = sweep.layout.blocks[0].model
    plan = make_plan(sweep, Measured(batch_sizes={model: 4}, workers={model: 1}))
    assert (plan.batch_size, plan.batches) == (4, 25)


def test_a_model_nobody_serves_is_told() -> None:
    sweep = make_sweep(**SIZES)
    assert "no worker serves demo now" in make_plan(sweep, Measured(workers={})).warnings[-1]
    assert make_plan(sweep, Measured()).warnings == ()


def test_many_recipes_with_few_jobs_each_are_told() -> None:
    sweep = make_sweep(num_inference_steps="1..20", **SIZES)
    (warning,) = make_plan(sweep, Measured()).warnings
    assert warning.startswith("20 of 20 combinations of size and sampling have fewer jobs")


def test_very_many_blocks_are_told() -> None:
    sweep = make_sweep(num_inference_steps="1..64", height="64..1024..48", width=64, seed="0..15")
    assert any("blocks:" in warning for warning in make_plan(sweep, Measured()).warnings)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"guidance_scale": [1, 4], "negative_prompt": "x"}, "negative_prompt can't act"),
        ({"guidance_scale": [1, 4], "negative_prompt": ["x", "y"]}, "its 2 values make the same"),
        ({"guidance_scale": [0.5, 1, 4]}, "guidance_scale 0.5, 1 all switch guidance off"),
        ({"guidance_scale": 1, "guidance_rescale": 0.5}, "guidance_rescale can't act"),
        ({"eta": 0.5, "scheduler": "EulerDiscreteScheduler"}, "eta can't act with Euler"),
        (
            {"sigmas": [[9, 0], [8, 0]], "num_inference_steps": 20},
            "num_inference_steps can't act where sigmas is given: leave it out",
        ),
        (
            {"timesteps": {"fixed": [9, 0]}, "num_inference_steps": [20, 30]},
            "num_inference_steps can't act where timesteps is given: its 2 values make the same",
        ),
        ({"eta": [0, 0.5], "scheduler": "EulerDiscreteScheduler"}, "its 2 values make the same"),
        ({"eta": 0.5}, "eta acts only if the checkpoint's own scheduler takes it"),
        ({"height": [None, 64], "width": 64}, "height mixes null"),
        ({"height": 64, "width": None}, "height is given but width is not"),
        ({"prompt": "word " * 80}, "CLIP's encoder cuts"),
    ],
)
def test_what_cannot_act_is_told(fields: dict[str, object], words: str) -> None:
    found = warnings_of(make_sweep(**{**SIZES, **fields}).manifest)
    assert any(words in warning for warning in found), found


def test_a_plain_sweep_has_no_warnings() -> None:
    sweep = make_sweep(
        guidance_scale=[4, 7.5],
        negative_prompt=[None, "x"],
        scheduler="DDIMScheduler",
        eta=[0, 1],
        seed="0..31",
        **SIZES,
    )
    assert make_plan(sweep, Measured()).warnings == ()
