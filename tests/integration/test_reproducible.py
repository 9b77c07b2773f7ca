"""Reproducible jobs: the same to the bit alone, in company, in any order and on any worker."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch
from PIL import Image

from shared.errors import OutOfMemory
from shared.job import Job
from tests.pictures import (
    LIBRARY_WARNINGS,
    all_rendered,
    assert_same_picture,
    hooked,
    mixed_jobs,
    quick_job,
)
from tests.pool import Pool
from tests.tiny_models import save_flux, save_lcm, save_sd3, save_sdxl
from worker.engine import StockEngine
from worker.inputs import Inputs
from worker.loading import LoadedModel, ModelSource, load_pipeline
from worker.packer import FIXED_ROWS
from worker.tuning import Tuning

pytestmark = [*LIBRARY_WARNINGS, pytest.mark.usefixtures("one_thread")]

CPU = torch.device("cpu")
SCHEDULERS = (
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
SAVERS = {"sdxl": save_sdxl, "sd3": save_sd3, "lcm": save_lcm, "flux": save_flux}


def load(folder: Path, **more: Any) -> LoadedModel:
    return load_pipeline(ModelSource(model=str(folder)), device=CPU, **more)


@pytest.fixture(scope="module")
def half(demo_folder: Path) -> LoadedModel:
    return load(demo_folder, dtype=torch.bfloat16)


def make_jobs(**fields: Any) -> list[Job]:
    """Guided and unguided ones."""
    return [
        replace(job, guidance_scale=1.0 if index % 3 == 2 else job.guidance_scale)
        for index, job in enumerate(mixed_jobs(reproducible=True, num_inference_steps=3, **fields))
    ]


def bits(engine: StockEngine, jobs: Sequence[Job], inputs: Inputs | None = None) -> list[bytes]:
    rendered = all_rendered(engine.render(jobs, inputs=inputs))
    return [outcome.image.tobytes() for outcome in rendered]


def assert_company_is_nothing(
    engine: StockEngine, jobs: Sequence[Job], inputs: Inputs | None = None
) -> list[bytes]:
    """Alone, all together, in another order, and in parts of an odd size."""
    alone = [picture for job in jobs for picture in bits(engine, [job], inputs)]
    assert len(set(alone)) == len(jobs), "pictures of their own"
    order = list(range(len(jobs)))
    random.Random(len(jobs)).shuffle(order)
    shuffled = [jobs[index] for index in order]
    parts = [bits(engine, shuffled[:3], inputs), bits(engine, shuffled[3:], inputs)]
    assert bits(engine, jobs, inputs) == alone
    assert [*parts[0], *parts[1]] == [alone[index] for index in order]
    return alone


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_company_order_and_position_make_no_difference_to_the_bit(
    engine: StockEngine, scheduler: str
) -> None:
    eta = 0.5 if scheduler == "DDIMScheduler" else 0.0
    assert_company_is_nothing(engine, make_jobs(scheduler=scheduler, eta=eta))


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerAncestralDiscreteScheduler"])
def test_company_makes_no_difference_in_half_precision(half: LoadedModel, scheduler: str) -> None:
    assert_company_is_nothing(StockEngine(half), make_jobs(scheduler=scheduler))


def test_a_scale_shared_by_all_is_the_scale_of_one_row(half: LoadedModel) -> None:
    engine = StockEngine(half)
    jobs = [replace(job, guidance_scale=7.3) for job in make_jobs(guidance_rescale=0.7)[:4]]
    other = replace(jobs[3], guidance_scale=2.1)

    alike, mixed = bits(engine, jobs), bits(engine, [*jobs[:3], other])

    assert alike[:3] == mixed[:3]


@pytest.mark.parametrize("kind", ["sdxl", "sd3", "lcm"])
def test_company_makes_no_difference_for_other_kinds_of_model(tmp_path: Path, kind: str) -> None:
    SAVERS[kind](tmp_path / kind)
    jobs = make_jobs() if kind != "lcm" else make_jobs(guidance_scale=4.0)

    assert_company_is_nothing(StockEngine(load(tmp_path / kind)), jobs[:6])


def test_a_pipeline_that_reads_its_texts_together_is_called_for_each_job_alone(
    tmp_path: Path,
) -> None:
    save_flux(tmp_path / "flux")
    engine = StockEngine(load(tmp_path / "flux"))
    jobs = [quick_job(seed=seed, reproducible=True, num_inference_steps=2) for seed in range(2)]

    rendered = all_rendered(engine.render(jobs))

    assert [outcome.rows for outcome in rendered] == [1, 1]


@pytest.mark.parametrize("masked", [False, True])
def test_company_makes_no_difference_to_images_that_start_from_images(
    engine: StockEngine, masked: bool
) -> None:
    keys = [f"inputs/{number:064x}" for number in range(3)]
    pictures = [Image.effect_noise((64, 64), 90).convert("RGB") for _ in keys]
    inputs: Inputs = dict(zip(keys, pictures, strict=True))
    jobs = [
        replace(
            job,
            init_image=keys[index % 2],
            mask_image=keys[2] if masked else None,
            strength=0.8,
        )
        for index, job in enumerate(make_jobs(scheduler="EulerAncestralDiscreteScheduler"))
    ]

    assert_company_is_nothing(engine, jobs, inputs)


def test_every_call_has_one_number_of_rows_and_images_pass_the_vae_alone(
    demo_folder: Path,
) -> None:
    loaded = load(demo_folder, tuning=Tuning(vae_slicing=False))
    engine = StockEngine(loaded)
    denoised: list[int] = []
    decoded: list[int] = []
    encoded: list[int] = []
    texts: list[int] = []

    def watch(seen: list[int], name: str | None = None) -> Any:
        def look(_: Any, arguments: Any, named: Any, *rest: Any) -> None:
            seen.append(len(arguments[0] if arguments else named[name or "sample"]))

        return look

    pipeline = loaded.pipeline
    key = f"inputs/{1:064x}"
    inputs: Inputs = {key: Image.linear_gradient("L").resize((64, 64)).convert("RGB")}
    guided = make_jobs()[:2]
    jobs = [*guided, *(replace(job, init_image=key) for job in guided), make_jobs()[2]]
    handles = [
        module.register_forward_pre_hook(look, with_kwargs=True)
        for module, look in (
            (pipeline.unet, watch(denoised)),
            (pipeline.vae.decoder, watch(decoded)),
            (pipeline.vae.encoder, watch(encoded)),
            (pipeline.text_encoder, watch(texts, "input_ids")),
        )
    ]
    try:
        all_rendered(engine.render(jobs, inputs=inputs))
    finally:
        for handle in handles:
            handle.remove()

    assert set(denoised) == {FIXED_ROWS}
    assert decoded == [1] * len(jobs), "copies that fill a batch are not decoded"
    assert set(encoded) == {1}
    assert set(texts) == {1}
    assert pipeline.vae.use_slicing is False, "put back as it was"
    assert "decode" not in vars(pipeline.vae)


def test_a_worker_that_does_not_slice_draws_the_same_bits(
    demo_folder: Path, engine: StockEngine
) -> None:
    unsliced = StockEngine(load(demo_folder, tuning=Tuning(vae_slicing=False)))

    assert bits(unsliced, make_jobs()) == bits(engine, make_jobs())


def test_a_reproducible_image_is_that_of_the_plain_job_but_for_rounding(
    engine: StockEngine,
) -> None:
    jobs = make_jobs(height=128, width=128)
    plain = [replace(job, reproducible=None) for job in jobs]

    for job, one, other in zip(
        jobs, all_rendered(engine.render(jobs)), all_rendered(engine.render(plain)), strict=True
    ):
        assert_same_picture(one.image, other.image, what=job)


def test_a_batch_that_does_not_fit_is_refused_and_never_made_smaller(
    loaded: LoadedModel, engine: StockEngine
) -> None:
    calls: list[int] = []

    def full(_: Any, arguments: Any) -> None:
        calls.append(len(arguments[0]))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    jobs = [replace(job, guidance_scale=4.0) for job in make_jobs()[:3]]
    with hooked(loaded.pipeline.unet, full, before=True):
        outcomes = engine.render(jobs)

    assert calls == [FIXED_ROWS], "another number of rows would draw other bits"
    for outcome in outcomes:
        assert isinstance(outcome, OutOfMemory)
        assert "a reproducible batch has room for 4 images of 64x64, however few" in str(outcome)
        assert "leave reproducible out" in str(outcome)
    assert engine.cap(quick_job()).bad is None, "nothing is learnt of other batches"
    assert bits(engine, jobs), "and the next try may fit"


def test_a_job_that_fails_leaves_its_mates_their_bits(
    loaded: LoadedModel, engine: StockEngine
) -> None:
    jobs = [replace(job, guidance_scale=4.0) for job in make_jobs()[:4]]
    expected = bits(engine, jobs)
    encode = loaded.pipeline.encode_prompt

    def refuse(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("prompt") == "unreadable":
            raise ValueError("nobody can read this")
        return encode(*args, **kwargs)

    loaded.pipeline.encode_prompt = refuse
    try:
        fresh = StockEngine(loaded)
        outcomes = fresh.render([*jobs[:2], replace(jobs[0], prompt="unreadable"), *jobs[2:]])
    finally:
        del loaded.pipeline.encode_prompt

    assert "nobody can read" in str(outcomes.pop(2))
    assert [outcome.image.tobytes() for outcome in all_rendered(outcomes)] == expected


def test_workers_with_other_batch_sizes_store_the_same_objects(pool: Pool) -> None:
    sweep = pool.sweep(name="exact", seed=range(5), num_inference_steps=3, reproducible=True)
    other = pool.sweep(name="plain", prompt="a cat", num_inference_steps=3, seed=range(3))
    stored: list[dict[str, bytes]] = []
    packed: list[Counter[int]] = []
    for batch_size, sweeps in ((1, [sweep]), (7, [other, sweep])):
        pool.forget()
        for found in list(pool.storage.list()):
            pool.storage.delete(found.key)
        with pool.hand_worker(batch_size=batch_size) as worker:
            for one in sweeps:
                pool.client.submit(one)
            worker.serve(pool.key)
        assert pool.client.status(sweep.id).done == 20
        receipts = pool.receipts(sweep)
        packed.append(Counter(int(str(receipt["rows"])) for receipt in receipts))
        mine = {str(receipt["key"]) for receipt in receipts}
        assert len(mine) == 20
        stored.append({key: pool.storage.get(key) for key in mine})

    first, second = stored
    assert packed[0] != packed[1], "they were not in the same company"
    assert first == second, "whole objects, not pixels alone"
