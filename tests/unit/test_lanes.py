"""Jobs share a lane or a recipe exactly when they could share a forward pass."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.fields import FIELDS
from shared.lanes import cost, lane_key, model_key, recipe_key, weights_key
from tests.factories import make_job
from tests.strategies import FIELD_VALUES

LANE = [name for name, field in FIELDS.items() if field.decides == "lane"]
RECIPE = [name for name, field in FIELDS.items() if field.decides in ("recipe", "given")]
KIND = [name for name, field in FIELDS.items() if field.decides == "kind"]
IMAGE, MASK = "inputs/" + "1" * 64, "inputs/" + "2" * 64
ROW = [name for name, field in FIELDS.items() if field.decides == "row"]
OTHER: dict[str, Any] = {
    "model": "other",
    "revision": "main",
    "variant": "fp16",
    "vae": "owner/vae",
    "loras": '[{"name":"owner/lora","weight":1}]',
    "safety_checker": "off",
    "height": 512,
    "width": 512,
    "scheduler": "DDIMScheduler",
    "scheduler_config": '{"use_karras_sigmas":true}',
    "num_inference_steps": 20,
    "timesteps": "[999,499]",
    "sigmas": "[14.6,0]",
    "guidance_rescale": 0.5,
    "eta": 0.5,
    "generator_device": "cuda",
    "clip_skip": 1,
    "prompt": "a blue square",
    "negative_prompt": "",
    "seed": 1,
    "init_image": "inputs/" + "3" * 64,
    "mask_image": "inputs/" + "4" * 64,
    "strength": 0.5,
    "latents": "inputs/" + "5" * 64,
    "reproducible": True,
}


def test_keys_are_short_and_plain() -> None:
    for key in (model_key("demo", None, None), lane_key(make_job()), recipe_key(make_job())):
        assert re.fullmatch("[0-9a-f]{16}", key)


@pytest.mark.parametrize("name", LANE)
def test_weights_and_shape_decide_the_lane_alone(name: str) -> None:
    job = make_job(**{name: OTHER[name]})
    assert lane_key(job) != lane_key(make_job())
    assert recipe_key(job) == recipe_key(make_job())


@pytest.mark.parametrize("name", RECIPE)
def test_sampling_decides_the_recipe_alone(name: str) -> None:
    start = {"init_image": IMAGE} if name == "strength" else {}
    job, other = make_job(**start, **{name: OTHER[name]}), make_job(**start)
    assert recipe_key(job) != recipe_key(other)
    assert lane_key(job) == lane_key(other)


@pytest.mark.parametrize("name", KIND)
def test_an_image_to_start_from_decides_the_lane_by_being_given(name: str) -> None:
    start = {"init_image": IMAGE} if name == "mask_image" else {}
    plain, one = make_job(**start), make_job(**start, **{name: MASK})
    other = make_job(**start, **{name: OTHER[name]})
    assert lane_key(one) == lane_key(other) != lane_key(plain)
    assert recipe_key(one) == recipe_key(other)


def test_a_strength_that_is_said_or_not_is_one_recipe() -> None:
    for fields, strength in (({}, 0.8), ({"mask_image": MASK}, 1.0)):
        unsaid = make_job(init_image=IMAGE, **fields)
        said = make_job(init_image=IMAGE, strength=strength, **fields)
        assert (lane_key(unsaid), recipe_key(unsaid)) == (lane_key(said), recipe_key(said))
    alone, idle = make_job(), make_job(strength=0.5)
    assert recipe_key(alone) == recipe_key(idle)


def test_keys_from_before_a_field_existed_stay() -> None:
    assert lane_key(make_job()) == "564be58e92faa41d"
    assert recipe_key(make_job()) == "bf989986807d79c7"


@pytest.mark.parametrize("name", ROW)
def test_what_varies_inside_a_batch_decides_neither(name: str) -> None:
    job = make_job(**{name: OTHER[name]})
    assert (lane_key(job), recipe_key(job)) == (lane_key(make_job()), recipe_key(make_job()))
    assert cost(job) == cost(make_job())


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ({"guidance_scale": 1.0001}, {"guidance_scale": 1000}, True),
        ({"guidance_scale": 0}, {"guidance_scale": 1}, True),
        ({"guidance_scale": 1}, {"guidance_scale": 1.0001}, False),
        (
            {"guidance_scale": 1, "guidance_rescale": 0.7},
            {"guidance_scale": 1, "guidance_rescale": 0},
            True,
        ),
        (
            {"scheduler": "EulerDiscreteScheduler", "eta": 0.5},
            {"scheduler": "EulerDiscreteScheduler"},
            True,
        ),
        ({"scheduler": None, "eta": 0.5}, {"scheduler": None}, False),
        ({"eta": 0}, {"eta": 0.0}, True),
        ({"eta": -0.0}, {"eta": 0.0}, True),
        ({"sigmas": "[9,0]", "num_inference_steps": 9}, {"sigmas": "[9,0]"}, True),
        ({"sigmas": "[9,0]"}, {"timesteps": "[9,0]"}, False),
    ],
)
def test_fields_that_cannot_act_do_not_split_recipes(
    one: dict[str, Any], other: dict[str, Any], alike: bool
) -> None:
    assert (recipe_key(make_job(**one)) == recipe_key(make_job(**other))) is alike


def test_null_and_the_word_null_are_two_models() -> None:
    assert model_key("demo", None, None) != model_key("demo", "null", None)
    assert model_key("demo", "fp16", None) != model_key("demo", None, "fp16")


def test_keys_of_the_first_version_stay_as_they_were() -> None:
    """Sweeps that are queued have them: see docs/manifest.md."""
    assert model_key("demo", None, None) == "43e9ed0d37e680b8"
    assert weights_key(make_job()) == "43e9ed0d37e680b8"
    assert lane_key(make_job()) == "564be58e92faa41d"
    ddim = make_job(scheduler="DDIMScheduler", num_inference_steps=20)
    assert recipe_key(ddim) == "de34c08c5ad203b6"


def test_how_strongly_a_lora_acts_is_no_matter_of_the_weights() -> None:
    half, full = (make_job(loras=f'[{{"name":"a","weight":{weight}}}]') for weight in (0.5, 1))
    assert weights_key(half) == weights_key(full) != weights_key(make_job())
    assert lane_key(half) != lane_key(full)


@given(st.fixed_dictionaries(FIELD_VALUES))
def test_every_job_costs_something(fields: dict[str, Any]) -> None:
    assert cost(make_job(**fields)) > 0


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"num_inference_steps": 30, "guidance_scale": 1}, 30),
        ({"num_inference_steps": 30, "guidance_scale": 2}, 60),
        ({"num_inference_steps": 1, "guidance_scale": 1, "height": 1024, "width": 1024}, 4),
        ({"num_inference_steps": 1, "guidance_scale": 1, "height": 1024}, 4),
        ({"num_inference_steps": 30, "guidance_scale": 1, "init_image": IMAGE}, 24),
        (
            {
                "num_inference_steps": 30,
                "guidance_scale": 2,
                "init_image": IMAGE,
                "mask_image": MASK,
                "strength": 0.5,
            },
            30,
        ),
        ({"num_inference_steps": 1, "guidance_scale": 1, "timesteps": "[9,5,1]"}, 3),
        ({"num_inference_steps": 1, "guidance_scale": 1, "width": 256, "height": 512}, 0.5),
    ],
)
def test_cost_is_steps_times_pixels_times_model_rows(fields: dict[str, Any], wanted: float) -> None:
    assert cost(make_job(**fields)) == wanted
