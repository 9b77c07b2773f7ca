"""A worker of two models: as many stay loaded as there is room for, and every image is right."""

from __future__ import annotations

import gc
import io
import json
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch
from PIL import Image

from producer import Sweep
from shared.addressing import address
from shared.doorbell import Doorbell, make_app
from shared.lanes import model_key
from shared.layout import Layout
from shared.manifest import parse_manifest
from shared.pin import Pin
from shared.worker_options import WorkerOptions
from tests.input_files import write_picture
from tests.pictures import all_rendered, assert_nearly_same
from tests.pool import START_SECONDS, Pool, WorkerHandle, eventually, running_pool
from tests.tiny_models import save_sdxl
from worker.engine import StockEngine
from worker.loading import ModelSource, load_pipeline
from worker.process import WorkerProcess

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with running_pool(tmp_path_factory.mktemp("pool")) as running:
        save_sdxl(running.folder / "other-model")
        yield running


@pytest.fixture(autouse=True)
def empty_queue(pool: Pool, request: pytest.FixtureRequest) -> None:
    """And no worker but the one that a test shares with others."""
    if "of_three" not in request.fixturenames:
        for handle in pool.living():
            assert handle.terminate() == 0
    with pool.redis.client() as client:
        client.flushall()


@pytest.fixture(scope="module")
def models(pool: Pool) -> tuple[str, str]:
    """Two checkpoints of different kinds."""
    return pool.model, str(pool.folder / "other-model")


@pytest.fixture(scope="module")
def engines(models: tuple[str, str]) -> dict[str, StockEngine]:
    """Each of them, held by the test itself."""
    cpu = torch.device("cpu")
    return {
        model: StockEngine(load_pipeline(ModelSource(model=model), device=cpu)) for model in models
    }


def start(pool: Pool, models: tuple[str, ...], **options: Any) -> WorkerHandle:
    handle = pool.start_worker(models=models, **options)
    eventually(lambda: handle.ready, seconds=START_SECONDS, what="ready")
    return handle


def sweep_of(pool: Pool, models: tuple[str, ...], name: str, seeds: str, **more: Any) -> Sweep:
    """Of seeds that no other test has, or storage would have the images already."""
    return pool.sweep(
        name=name,
        model=list(models),
        prompt="a lake",
        guidance_scale=4,
        seed=seeds,
        num_inference_steps=4,
        **more,
    )


def loads(handle: WorkerHandle) -> int:
    return handle.text.count(" model loaded ")


def check_images(pool: Pool, sweep: Sweep, engines: dict[str, StockEngine]) -> None:
    """Every image is stored under its name and is what its own model draws."""
    layout = Layout(parse_manifest(sweep.manifest.text))
    for index in range(layout.total):
        job = layout.job(index)
        pin = Pin.from_text(engines[job.model].loaded.pin)
        key = address(job, pin, layout.manifest.output).key
        with Image.open(io.BytesIO(pool.storage.get(key))) as stored:
            assert json.loads(stored.text["seedbed"])["digest"] in key
            (alone,) = all_rendered(engines[job.model].render([job]))
            assert_nearly_same(stored.convert("RGB"), alone.image, what=job)


@pytest.fixture(scope="module")
def of_three(pool: Pool, models: tuple[str, str]) -> Iterator[tuple[WorkerHandle, str]]:
    """A worker with room for both models, and told of a third, which can't be loaded."""
    broken = pool.folder / "no-model"
    broken.mkdir()
    handle = start(pool, (*models, str(broken)))
    yield handle, str(broken)
    assert handle.terminate() == 0


def test_with_room_for_both_each_is_loaded_once_over_several_switches(
    pool: Pool,
    models: tuple[str, str],
    engines: dict[str, StockEngine],
    of_three: tuple[WorkerHandle, str],
) -> None:
    handle, _ = of_three
    for number in range(3):
        sweep = sweep_of(pool, models, f"both-{number}", f"{4 * number}..{4 * number + 3}")
        pool.client.submit(sweep)
        pool.wait_ended(sweep)
        check_images(pool, sweep, engines)

    (announced,) = pool.client.queue.workers()
    assert set(announced["loaded_keys"]) == {model_key(model, None, None) for model in models}
    loaded = {item.model: item.loaded for item in pool.client.models()}
    assert [loaded[model] for model in models] == [1, 1]
    assert loads(handle) == 2
    assert " model unloaded " not in handle.text


def test_doorbells_of_a_dropped_model_are_left_to_other_workers(
    pool: Pool, of_three: tuple[WorkerHandle, str]
) -> None:
    handle, broken = of_three
    pool.client.submit(sweep_of(pool, (broken,), "left", "800..803"))
    eventually(
        lambda: "model not served from now on" in handle.text, seconds=60, what="it is dropped"
    )
    doorbell = Doorbell(
        make_app(str(pool.settings.redis_url), pool.settings.pool), pool.settings.pool
    )
    key = model_key(broken, None, None)

    def waits() -> bool:
        doorbell.ring(key)
        time.sleep(1)
        return not doorbell.ring(key)

    eventually(waits, seconds=30, what="nobody takes its doorbell")
    doorbell.close()


def test_with_room_for_one_it_is_evicted_and_loaded_again(
    pool: Pool, models: tuple[str, str], engines: dict[str, StockEngine]
) -> None:
    handle = start(pool, models, keep_models=1)
    for number in range(3):
        sweep = sweep_of(pool, models, f"one-{number}", f"{100 + 4 * number}..{103 + 4 * number}")
        pool.client.submit(sweep)
        pool.wait_ended(sweep)
        check_images(pool, sweep, engines)

    # what is loaded goes first: A, B; B, A; A, B
    assert loads(handle) == 4
    assert handle.text.count(" model unloaded ") == 3
    assert handle.terminate() == 0


def test_a_model_with_work_is_finished_before_another_is_loaded_for_short_turns(
    pool: Pool, models: tuple[str, str], engines: dict[str, StockEngine]
) -> None:
    first, second = models
    long = sweep_of(pool, (first,), "long", "200..349")
    short = sweep_of(pool, (second,), "short", "200..203")
    handle = start(pool, models, keep_models=1, budget_seconds=0.3, timer_seconds=0.3)
    pool.client.submit(long)
    pool.client.submit(short)

    pool.wait_ended(long)
    pool.wait_ended(short)

    check_images(pool, short, engines)
    # turns of 0.3 s by turns would load dozens of times; ten times a switch's cost are waited
    assert loads(handle) <= 6
    assert handle.terminate() == 0


def make_worker(pool: Pool, models: tuple[str, ...], **options: Any) -> WorkerProcess:
    values = {"models": models, "batch_size": 4, "device": "cpu"} | options
    return WorkerProcess(pool.settings, WorkerOptions(**values))


def test_an_evicted_model_is_freed(pool: Pool, models: tuple[str, str]) -> None:
    worker = make_worker(pool, models, keep_models=1)
    sweep = sweep_of(pool, models, "freed", "400..403")
    pool.client.submit(sweep)
    keys = [model_key(model, None, None) for model in models]
    assert worker.serve(keys[0]) == 4
    serving = worker._serving
    assert serving is not None
    pipeline = serving.loaded.pipeline
    refs = [weakref.ref(one) for one in (pipeline, pipeline.unet, pipeline.vae, serving.server)]
    del serving, pipeline

    assert worker.serve(keys[1]) == 4

    gc.collect()
    assert [ref() for ref in refs] == [None] * 4
    worker.close()


def test_models_share_what_was_fetched_for_either(
    pool: Pool, models: tuple[str, str], tmp_path: Path
) -> None:
    worker = make_worker(pool, models)
    sweep = sweep_of(
        pool, models, "shared-input", "450..451", init_image=str(write_picture(tmp_path / "a.png"))
    )
    pool.client.submit(sweep)

    for model in models:
        worker.serve(model_key(model, None, None))

    assert pool.client.status(sweep.id).done == 4
    assert worker._loader.inputs.fetched == 1
    worker.close()


def test_a_doorbell_without_work_loads_nothing(pool: Pool, models: tuple[str, str]) -> None:
    worker = make_worker(pool, models)

    assert worker.serve(model_key(models[1], None, None)) == 0

    assert worker.describe()["loaded_keys"] == [model_key(models[0], None, None)]
    worker.close()


def test_a_doorbell_for_what_would_have_to_be_loaded_serves_what_is_loaded_first(
    pool: Pool, models: tuple[str, str]
) -> None:
    worker = make_worker(pool, models, keep_models=1)
    sweep = sweep_of(pool, models, "hint", "500..503")
    pool.client.submit(sweep)

    worker.serve(model_key(models[1], None, None))

    receipts = pool.receipts(sweep)
    layout = Layout(parse_manifest(sweep.manifest.text))
    assert {layout.job(int(receipt["index"])).model for receipt in receipts} == {models[0]}
    worker.close()


def test_past_its_time_a_turn_goes_on_to_the_end_of_the_lane(
    pool: Pool, models: tuple[str, str]
) -> None:
    worker = make_worker(pool, models[:1])
    edge = worker._serving.loaded.native_height
    sweep = sweep_of(pool, models[:1], "lanes", "600..611", height=[edge, 2 * edge], width=edge)
    pool.client.submit(sweep)
    server = worker._serving.server

    assert server.serve(0.0) == 4, "no lane to finish: one batch"
    assert server.serve(0.0, lane_seconds=60.0) in (8, 12), "what was left of a lane"

    status = pool.client.status(sweep.id)
    assert (status.leased, status.pending) == (0, 24 - status.done)
    assert server.serve(60.0) == 24 - status.done
    worker.close()


def test_a_further_model_that_cannot_be_loaded_is_dropped_and_the_others_go_on(
    pool: Pool, models: tuple[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = make_worker(pool, (models[0], str(tmp_path)))
    broken = sweep_of(pool, (str(tmp_path),), "broken", "700..703")
    sound = sweep_of(pool, models[:1], "sound", "700..703")
    pool.client.submit(broken)

    assert worker.serve(model_key(str(tmp_path), None, None)) == 0

    assert "no model_index.json" in caplog.records[-1].error
    assert worker.describe()["model_keys"] == [model_key(models[0], None, None)]
    (reason,) = worker.describe()["unserved"].values()
    assert "no model_index.json" in reason
    pool.client.submit(sound)
    assert worker.serve(model_key(models[0], None, None)) == 4
    status = pool.client.status(broken.id)
    assert (status.pending, status.dead) == (4, 0), "it waits for a worker that can"
    worker.close()
