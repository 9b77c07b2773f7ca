"""An image's identity: other pixels, another digest; the same pixels, the same one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.digest import acting, job_digest
from shared.fields import FIELDS
from shared.job import Job
from shared.layout import Layout
from shared.manifest import parse_manifest
from shared.structured import lora_weights
from tests.factories import make_job, make_pin
from tests.strategies import FIELD_VALUES, sweeps

KEYS = ["inputs/" + "1" * 64, "inputs/" + "2" * 64]

jobs = st.fixed_dictionaries(FIELD_VALUES).map(lambda fields: Job(**fields))
pins = st.builds(
    make_pin,
    scheduler=st.sampled_from(["DDIMScheduler", "PNDMScheduler"]),
    embeds_guidance=st.booleans(),
)


@pytest.mark.parametrize(
    ("fields", "pin", "digest"),
    [
        ({}, {}, "63431b06802d94e5dbdbb35881802244134dc9903b383961a59196cae1543f90"),
        (
            {
                "revision": "main",
                "variant": "fp16",
                "prompt": "ein Käse, 月",
                "negative_prompt": "",
                "seed": 2**63 - 1,
                "num_inference_steps": 20,
                "guidance_scale": 1.0001,
                "guidance_rescale": 0.7,
                "height": 512,
                "width": 768,
                "scheduler": "DDIMScheduler",
                "eta": 0.1,
                "generator_device": "cuda",
            },
            {"dtype": "float16"},
            "392d14df017b34ea11051b1a298fe108abdfed2b0fe294e7184f5494b0e372a3",
        ),
        (
            {"guidance_scale": 0.5, "negative_prompt": "blurry", "eta": 1},
            {},
            "8f1c112f29628a445690e6176e13c7c21418ebad5c42bade9321f659744fd624",
        ),
        (
            {"guidance_scale": 0.5},
            {"embeds_guidance": True},
            "3e51440677b87048cec0db010fe0064402d21ec5806c29c2fc16cb545cb60d54",
        ),
    ],
)
def test_the_digest_of_a_known_job_never_changes(
    fields: dict[str, Any], pin: dict[str, Any], digest: str
) -> None:
    """If this fails, every image stored so far would be rendered again: is that meant?"""
    assert job_digest(make_job(**fields), make_pin(**pin)) == digest


@pytest.mark.parametrize(
    "change",
    [
        {"variant": "non_ema"},
        {"prompt": "a red circle "},
        {"prompt": "A red circle"},
        {"prompt": ""},
        {"negative_prompt": ""},
        {"negative_prompt": "None"},
        {"negative_prompt": "null"},
        {"seed": 1},
        {"seed": 2**53},
        {"seed": 2**53 + 1},
        {"seed": 2**63 - 1},
        {"num_inference_steps": 49},
        {"guidance_scale": 7.500000000000001},
        {"guidance_scale": 1.0000000000000002},
        {"guidance_scale": 1},
        {"guidance_rescale": 5e-324},
        {"height": 72},
        {"width": 72},
        {"scheduler": "DDIMScheduler"},
        {"scheduler": "DDIMScheduler", "eta": 0.1},
        {"generator_device": "cuda"},
        {"init_image": KEYS[0]},
        {"init_image": KEYS[1]},
        {"init_image": KEYS[0], "strength": 0.5},
        {"init_image": KEYS[0], "mask_image": KEYS[1]},
        {"latents": KEYS[0]},
        {"loras": '[{"name":"a","weight":1}]'},
        {"safety_checker": "on"},
        {"safety_checker": "off"},
        {"scheduler_config": '{"use_karras_sigmas":true}'},
        {"timesteps": "[999,499]"},
        {"sigmas": "[14.6,0]"},
        {"clip_skip": 1},
        {"reproducible": True},
    ],
)
def test_everything_that_acts_is_in_the_digest(change: dict[str, Any]) -> None:
    assert job_digest(make_job(**change), make_pin()) != job_digest(make_job(), make_pin())


@pytest.mark.parametrize("change", [{"weights": "hub:0"}, {"dtype": "float16"}, {"renderer": "2"}])
def test_what_the_worker_pins_is_in_the_digest(change: dict[str, Any]) -> None:
    assert job_digest(make_job(), make_pin(**change)) != job_digest(make_job(), make_pin())


def test_the_pixel_format_is_in_the_digest() -> None:
    job, pin = make_job(), make_pin()
    assert job_digest(job, pin, pixel_format="webp") != job_digest(job, pin)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"model": "demo"}, {"model": "owner/demo"}),
        ({"revision": None}, {"revision": "main"}),
        ({"height": None, "width": None}, {"height": 64, "width": 64}),
        ({"scheduler": None}, {"scheduler": "PNDMScheduler"}),
        ({"guidance_scale": 7}, {"guidance_scale": 7.0}),
        ({"guidance_scale": 0}, {"guidance_scale": 1}),
        (
            {"guidance_scale": 1, "negative_prompt": None},
            {"guidance_scale": 1.0, "negative_prompt": ""},
        ),
        ({"guidance_scale": 1}, {"guidance_scale": 1, "guidance_rescale": 0.7}),
        ({"eta": 0}, {"eta": 0.3}),  # PNDM has no eta
        ({"strength": None}, {"strength": 0.3}),  # nothing to go from
        ({"init_image": KEYS[0]}, {"init_image": KEYS[0], "strength": 0.8}),
        (
            {"init_image": KEYS[0], "mask_image": KEYS[1]},
            {"init_image": KEYS[0], "mask_image": KEYS[1], "strength": 1},
        ),
        (
            {"timesteps": "[999,499]", "num_inference_steps": 20},
            {"timesteps": "[999,499]", "num_inference_steps": 30},
        ),
        ({"sigmas": "[9,0]"}, {"sigmas": "[9,0]", "num_inference_steps": 1}),
        ({"vae": None}, {"vae": "owner/vae"}),
        ({"loras": '[{"name":"a","weight":1}]'}, {"loras": '[{"name":"b","weight":1}]'}),
        ({"eta": 0.0, "scheduler": "DDIMScheduler"}, {"eta": -0.0, "scheduler": "DDIMScheduler"}),
    ],
)
def test_what_cannot_act_is_not_in_the_digest(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert job_digest(make_job(**one), make_pin()) == job_digest(make_job(**other), make_pin())


def test_guidance_of_one_or_less_acts_where_the_model_embeds_it() -> None:
    pin = make_pin(embeds_guidance=True)
    digests = {job_digest(make_job(guidance_scale=scale), pin) for scale in (0, 0.5, 1, 2)}
    assert len(digests) == 4


def test_images_that_differ_in_where_they_start_are_different_images() -> None:
    jobs = [
        make_job(),
        make_job(init_image=KEYS[0]),
        make_job(init_image=KEYS[1]),
        make_job(init_image=KEYS[0], strength=0.5),
        make_job(init_image=KEYS[0], mask_image=KEYS[1]),
        make_job(init_image=KEYS[0], mask_image=KEYS[1], strength=0.8),
        make_job(latents=KEYS[0]),
        make_job(latents=KEYS[1]),
    ]
    assert len({job_digest(job, make_pin()) for job in jobs}) == len(jobs)


def test_a_prompt_cannot_act_on_images_of_noise_alone() -> None:
    pin = make_pin(unconditional=True)
    digests = {
        job_digest(make_job(prompt=prompt, guidance_scale=scale, negative_prompt=negative), pin)
        for prompt in ("", "a cat")
        for scale in (1, 7.5)
        for negative in (None, "blurry")
    }
    assert len(digests) == 1
    assert job_digest(make_job(seed=1), pin) not in digests


def test_eta_acts_where_the_checkpoints_own_scheduler_takes_it() -> None:
    pin = make_pin(scheduler="DDIMScheduler")
    assert job_digest(make_job(eta=0.5), pin) != job_digest(make_job(), pin)


def test_settings_of_a_worker_that_change_pixels_make_other_images() -> None:
    pins = [
        make_pin(),
        make_pin(autocast="bfloat16"),
        make_pin(autocast="float16"),
        make_pin(vae_tiling=True),
    ]
    assert len({job_digest(make_job(), pin) for pin in pins}) == len(pins)


def test_letters_composed_in_two_ways_are_two_images() -> None:
    one, other = make_job(prompt="caf\u00e9"), make_job(prompt="cafe\u0301")
    assert job_digest(one, make_pin()) != job_digest(other, make_pin())


def test_text_cannot_pass_for_another_field() -> None:
    one = make_job(prompt='x","seed":5,"z":"', seed=0)
    other = make_job(prompt="x", seed=5)
    assert job_digest(one, make_pin()) != job_digest(other, make_pin())


@given(jobs, pins)
def test_acting_is_what_it_is_after_acting(job: Job, pin: Any) -> None:
    once = acting(job, pin)
    assert acting(once, pin) == once
    assert job_digest(once, pin) == job_digest(job, pin)
    assert None not in (once.height, once.width, once.scheduler)


@given(jobs, jobs, pins)
def test_digests_are_equal_only_where_the_acting_fields_are(one: Job, other: Job, pin: Any) -> None:
    same = [
        getattr(acting(one, pin), name) == getattr(acting(other, pin), name)
        for name in FIELDS
        if name not in ("model", "revision", "vae", "loras")
    ]
    # the fingerprint stands for the names of LoRAs
    weights = [[*lora_weights(job.loras).values()] for job in (one, other)]
    same.append((one.loras is None) == (other.loras is None) and weights[0] == weights[1])
    assert (job_digest(one, pin) == job_digest(other, pin)) is all(same)


@given(jobs, st.data())
def test_one_changed_field_acts_or_is_dropped_for_a_reason(job: Job, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(FIELDS)))
    value = data.draw(FIELD_VALUES[name])
    changed = Job(**{**{f: getattr(job, f) for f in FIELDS}, name: value})
    if job_digest(job, make_pin()) != job_digest(changed, make_pin()):
        assert getattr(job, name) != value
        return
    reasons = [
        getattr(job, name) == value,
        name in ("model", "revision", "vae"),
        name == "loras" and job.loras is not None and value is not None
        and [*lora_weights(job.loras).values()] == [*lora_weights(value).values()],
        name in ("height", "width") and {getattr(job, name), value} <= {None, 64},
        name == "scheduler" and {job.scheduler, value} <= {None, "PNDMScheduler"},
        name == "eta" and (job.scheduler or "PNDMScheduler") not in (
            "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "DDIMParallelScheduler",
            "DDIMScheduler", "TCDScheduler",
        ),
        name == "strength" and job.init_image is None,
        name == "strength" and {job.strength, value} <= {None, 1 if job.mask_image else 0.8},
        name in ("negative_prompt", "guidance_rescale") and job.guidance_scale <= 1,
        name == "guidance_scale" and job.guidance_scale <= 1 and value <= 1,
    ]  # fmt: skip
    assert any(reasons)


@given(sweeps(), pins)
def test_jobs_from_a_manifest_keep_their_digest(sweep: Any, pin: Any) -> None:
    again = Layout(parse_manifest(sweep.manifest.text))
    for index in range(min(sweep.layout.total, 20)):
        assert job_digest(again.job(index), pin) == job_digest(sweep.layout.job(index), pin)
