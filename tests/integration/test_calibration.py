"""A capacity is measured once in a pool, by whoever needs it first; anew where anything differs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from producer import Client
from shared.capacity import Capacity
from shared.queue import JobQueue
from tests.factories import make_capacity, make_curve
from tests.pictures import hooked, quick_job
from worker.batch_sizes import BatchSizes
from worker.calibration import Calibrator, capacity_key
from worker.engine import StockEngine


@pytest.fixture
def queue(client: Client) -> JobQueue:
    return client.queue


@pytest.fixture
def forwards(engine: StockEngine) -> Iterator[list[int]]:
    """Rows of every call of the denoising model."""
    rows: list[int] = []

    def note(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        rows.append(arguments[0].shape[0])

    with hooked(engine.loaded.pipeline.unet, note, before=True):
        yield rows


def calibrator(queue: JobQueue, engine: StockEngine, worker: str = "first") -> Calibrator:
    return Calibrator(queue=queue, engine=engine, model="demo", worker=worker, budget_seconds=0.0)


def stored_by_a_peer(queue: JobQueue, engine: StockEngine, **values: Any) -> Capacity:
    """A record of just what is loaded here, measured elsewhere."""
    key = replace(capacity_key(engine.loaded, 64, 64), **values)
    capacity = make_capacity(key=key)
    queue.record_capacity(capacity)
    return capacity


def test_what_one_worker_measured_its_peer_reuses(
    queue: JobQueue, engine: StockEngine, forwards: list[int]
) -> None:
    first = calibrator(queue, engine).capacity(64, 64)
    assert first is not None
    assert forwards, "it was measured"
    forwards.clear()

    second = calibrator(queue, engine, "second").capacity(64, 64)

    assert second == first
    assert (second.worker, second.model) == ("first", "demo")
    assert forwards == []
    assert queue.capacities() == [first]


def test_a_size_is_asked_for_once(
    queue: JobQueue, engine: StockEngine, forwards: list[int]
) -> None:
    mine = calibrator(queue, engine)
    first = mine.capacity(64, 64)
    queue.client.flushall()
    forwards.clear()

    assert mine.capacity(64, 64) is first
    assert forwards == []


def test_another_size_is_measured_for_itself(
    queue: JobQueue, engine: StockEngine, forwards: list[int]
) -> None:
    mine = calibrator(queue, engine)
    mine.capacity(64, 64)
    forwards.clear()

    larger = mine.capacity(128, 64)

    assert larger is not None
    assert (larger.key.height, larger.key.width) == (128, 64)
    assert forwards
    assert len(queue.capacities()) == 2


@pytest.mark.parametrize(
    "values",
    [
        {"software": {"torch": "1.0", "diffusers": "0.42.1", "renderer": "1"}},
        {"device": "another GPU"},
        {"weights": "sha256:other"},
        {"dtype": "float16"},
        {"attention": "AttnProcessor x 8"},
        {"height": 72},
    ],
)
def test_a_measurement_of_anything_else_is_not_believed(
    queue: JobQueue, engine: StockEngine, values: dict[str, Any]
) -> None:
    stored_by_a_peer(queue, engine, **values)

    found = calibrator(queue, engine).capacity(64, 64)

    assert found is not None
    assert found.worker == "first"
    assert len(queue.capacities()) == 2


@pytest.mark.parametrize("text", ["", "{", "\ufffd", '{"version":1,"knee":8}', None])
def test_a_corrupt_or_foreign_record_is_measured_again_and_mended(
    queue: JobQueue, engine: StockEngine, text: str | None
) -> None:
    name = capacity_key(engine.loaded, 64, 64).name
    foreign = make_capacity().to_text() if text is None else text
    queue.client.hset(queue.keys.capacities, name, foreign)

    found = calibrator(queue, engine).capacity(64, 64)

    assert found is not None
    assert found.worker == "first"
    assert queue.capacities() == [found]


def test_another_programs_key_in_its_place_does_not_stop_a_worker(
    queue: JobQueue, engine: StockEngine, caplog: pytest.LogCaptureFixture
) -> None:
    queue.client.set(queue.keys.capacities, "taken")

    found = calibrator(queue, engine).capacity(64, 64)

    assert found is not None
    assert "measurement not shared" in caplog.text


def test_a_redis_that_is_away_does_not_stop_a_worker(engine: StockEngine) -> None:
    away = JobQueue.connect("redis://127.0.0.1:1/0", "test")

    assert calibrator(away, engine).capacity(64, 64) is not None
    away.client.close()


def test_where_nothing_fits_images_are_made_one_by_one(
    queue: JobQueue, engine: StockEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with hooked(engine.loaded.pipeline.unet, full, before=True):
        sizes = batch_sizes(queue, engine)

    assert sizes.current == 1
    assert "one by one" in caplog.text
    assert queue.capacities() == []


def batch_sizes(queue: JobQueue, engine: StockEngine, fixed: int | None = None) -> BatchSizes:
    first = quick_job(guidance_scale=7.5)
    return BatchSizes(engine, calibrator(queue, engine), fixed=fixed, first=first)


def test_a_batch_is_at_the_knee_and_a_guided_image_is_two_rows(
    queue: JobQueue, engine: StockEngine
) -> None:
    key = capacity_key(engine.loaded, 64, 64)
    denoise = make_curve({1: (1.0, 1), 12: (1.0, 2), 24: (2.0, 3)}, knee=12, cap=24)
    decode = make_curve({1: (1.0, 1), 9: (9.0, 2)}, knee=1, cap=9)
    queue.record_capacity(make_capacity(key=key, denoise=denoise, decode=decode))

    sizes = batch_sizes(queue, engine)

    assert sizes.current == 6
    assert sizes.size(quick_job(guidance_scale=1.0)) == 9, "as many as the VAE can take"
    assert sizes.current == 9
    assert sizes.size(quick_job(guidance_scale=3.0)) == 6


def test_a_given_batch_size_is_taken_and_nothing_is_measured(
    queue: JobQueue, engine: StockEngine, forwards: list[int]
) -> None:
    sizes = batch_sizes(queue, engine, fixed=5)

    assert sizes.current == 5
    assert sizes.size(quick_job(height=256, width=256)) == 5
    assert forwards == []
    assert queue.capacities() == []


@pytest.mark.parametrize("fits", [1, 3, 11])
def test_memory_that_runs_out_lowers_what_is_claimed_to_just_what_fits(
    queue: JobQueue, engine: StockEngine, fits: int, caplog: pytest.LogCaptureFixture
) -> None:
    def check(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        if arguments[0].shape[0] > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")

    sizes = batch_sizes(queue, engine, fixed=16)
    job = quick_job(guidance_scale=1.0, num_inference_steps=1, scheduler="DDIMScheduler")
    sizes.size(job)
    claimed = []
    with (
        caplog.at_level(logging.WARNING),
        hooked(engine.loaded.pipeline.unet, check, before=True),
    ):
        for _ in range(5):
            claimed.append(sizes.current)
            engine.render([replace(job, seed=seed) for seed in range(sizes.size(job))])

    assert claimed[0] == 16
    assert claimed[1] < 16, "at once"
    assert sizes.current == fits
    told = [record for record in caplog.records if "smaller from now on" in record.message]
    assert told
    assert {record.planned for record in told} == {16}
    assert all(record.rows < 16 for record in told)
    assert len(told) <= 5, "once for each size, not once a batch"
