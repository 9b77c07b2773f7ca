"""Packing: every job in exactly one batch, and nothing together that one call can't render."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.job import Job
from tests.factories import make_job
from worker.packer import FIXED_ROWS, Traits, fixed_jobs, pack, shared_by_a_batch

GUIDANCE_OUTSIDE = Traits(
    native_height=64,
    native_width=64,
    native_scheduler="PNDMScheduler",
    guidance_per_row=True,
    negative_per_row=True,
    eta_schedulers=frozenset({"DDIMScheduler"}),
)

GUIDANCE_INSIDE = replace(GUIDANCE_OUTSIDE, guidance_per_row=False, negative_per_row=False)

JOBS = st.builds(
    make_job,
    prompt=st.sampled_from(["a", "b"]),
    negative_prompt=st.sampled_from([None, "", "blurry"]),
    seed=st.integers(0, 5),
    num_inference_steps=st.sampled_from([4, 20]),
    guidance_scale=st.sampled_from([0.0, 1.0, 4.0, 7.5]),
    guidance_rescale=st.sampled_from([0.0, 0.7]),
    height=st.sampled_from([None, 64, 128]),
    width=st.sampled_from([None, 128]),
    scheduler=st.sampled_from([None, "PNDMScheduler", "DDIMScheduler"]),
    eta=st.sampled_from([0.0, 1.0]),
    generator_device=st.sampled_from(["cpu", "cuda"]),
    reproducible=st.sampled_from([None, True]),
)


@given(
    jobs=st.lists(JOBS, max_size=30),
    traits=st.sampled_from([GUIDANCE_OUTSIDE, GUIDANCE_INSIDE]),
    max_rows=st.integers(1, 8),
)
def test_packing_loses_nothing_mixes_nothing_and_wastes_nothing(
    jobs: list[Job], traits: Traits, max_rows: int
) -> None:
    batches = pack(jobs, traits=traits, max_rows=max_rows)

    assert sorted(index for batch in batches for index in batch) == list(range(len(jobs)))
    keys = []
    for batch in batches:
        assert 1 <= len(batch) <= max_rows
        assert len({jobs[index].reproducible for index in batch}) == 1
        assert batch == sorted(batch)
        (key,) = {shared_by_a_batch(jobs[index], traits) for index in batch}
        first = jobs[batch[0]]
        most = min(max_rows, fixed_jobs(first, traits)) if first.reproducible else max_rows
        keys.append((key, len(batch), most))
    for (key, rows, most), (following, _, _) in pairwise(keys):
        assert rows <= most
        assert key != following or rows == most, "only the last batch of a kind may be short"
    assert batches == pack(jobs, traits=traits, max_rows=max_rows)


@pytest.mark.parametrize(
    "fields",
    [
        {"num_inference_steps": 7},
        {"height": 128},
        {"width": 128},
        {"scheduler": "DDIMScheduler"},
        {"guidance_scale": 1.0},
        {"guidance_rescale": 0.5},
        {"generator_device": "cuda"},
        {"reproducible": True},
    ],
)
def test_what_one_call_has_one_of_splits(fields: dict[str, object]) -> None:
    jobs = [make_job(), make_job(**fields), make_job()]

    assert pack(jobs, traits=GUIDANCE_OUTSIDE, max_rows=8) == [[0, 2], [1]]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "another"},
        {"seed": 9},
        {"negative_prompt": ""},
        {"negative_prompt": "blurry"},
        {"guidance_scale": 3.0},
        {"eta": 1.0},
        {"height": 64},
        {"width": 64},
        {"scheduler": "PNDMScheduler"},
    ],
)
def test_what_differs_by_row_or_not_at_all_stays_together(fields: dict[str, object]) -> None:
    jobs = [make_job(), make_job(**fields)]

    assert pack(jobs, traits=GUIDANCE_OUTSIDE, max_rows=8) == [[0, 1]]


def test_eta_splits_where_the_scheduler_uses_it() -> None:
    jobs = [make_job(scheduler="DDIMScheduler", eta=eta) for eta in (0.0, 1.0, 0.0)]

    assert pack(jobs, traits=GUIDANCE_OUTSIDE, max_rows=8) == [[0, 2], [1]]


def test_guidance_splits_where_the_model_embeds_it() -> None:
    jobs = [make_job(guidance_scale=scale) for scale in (4.0, 7.5, 4.0)]

    assert pack(jobs, traits=GUIDANCE_INSIDE, max_rows=8) == [[0, 2], [1]]


def test_no_negative_prompt_splits_from_an_empty_one_where_the_pipeline_gets_text() -> None:
    jobs = [make_job(negative_prompt=negative) for negative in (None, "", "blurry")]

    assert pack(jobs, traits=GUIDANCE_INSIDE, max_rows=8) == [[0], [1, 2]]


def test_a_model_without_an_unguided_half_heeds_no_negative_prompt_and_no_rescale() -> None:
    jobs = [make_job(), make_job(negative_prompt="blurry"), make_job(guidance_rescale=0.7)]

    traits = replace(GUIDANCE_INSIDE, two_halves=False)
    assert pack(jobs, traits=traits, max_rows=8) == [[0, 1, 2]]


def test_without_guidance_what_acts_through_it_is_no_reason_to_split() -> None:
    jobs = [
        make_job(guidance_scale=1.0),
        make_job(guidance_scale=0.5, guidance_rescale=0.7, negative_prompt="blurry"),
    ]

    assert pack(jobs, traits=GUIDANCE_OUTSIDE, max_rows=8) == [[0, 1]]


@pytest.mark.parametrize(
    ("scale", "traits", "jobs"),
    [
        (1.0, GUIDANCE_OUTSIDE, FIXED_ROWS),
        (4.0, GUIDANCE_OUTSIDE, FIXED_ROWS // 2),
        (4.0, replace(GUIDANCE_INSIDE, two_halves=False), FIXED_ROWS),
        (4.0, replace(GUIDANCE_INSIDE, own_texts=False), 1),
    ],
)
def test_a_reproducible_batch_has_the_rows_for_it(scale: float, traits: Traits, jobs: int) -> None:
    many = [make_job(reproducible=True, guidance_scale=scale, seed=seed) for seed in range(20)]

    batches = pack(many, traits=traits, max_rows=16)

    assert {len(batch) for batch in batches[:-1]} == {jobs}
    assert all(len(batch) <= 3 for batch in pack(many, traits=traits, max_rows=3))
