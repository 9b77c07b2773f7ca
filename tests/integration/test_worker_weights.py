"""Sweeps over VAEs and LoRAs on a worker: found in the queue, pinned apart, served if allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft", reason="needs the worker's dependencies")

from shared.layout import Layout
from shared.pin import Pin
from shared.weights import WeightsName
from tests.pool import Pool, eventually
from tests.tiny_parts import save_lora, save_vae
from worker.loading import ModelSource, _from_folder
from worker.process import WorkerProcess
from worker.served_model import device_name

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def parts(stock: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    save_vae(stock, folder / "vae")
    save_vae(stock, folder / "wide", latent_channels=8)
    for seed, name in enumerate(("one", "two")):
        save_lora(stock, folder / name, seed=seed)
    return folder


@pytest.fixture(autouse=True)
def empty(pool: Pool) -> None:
    pool.forget()


def serve_all(process: WorkerProcess, pool: Pool) -> None:
    """What its heartbeat and its doorbells would have it do."""
    process._discovery.look(pool.client.queue.look().models)
    for model in pool.client.queue.look().models:
        process.serve(model)


def test_vaes_and_loras_are_axes_and_each_set_of_weights_has_its_own_pin(
    pool: Pool, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[ModelSource] = []

    def counted(source: ModelSource, *more: Any) -> Any:
        read.append(source)
        return _from_folder(source, *more)

    monkeypatch.setattr("worker.loading._from_folder", counted)
    one, two = str(parts / "one"), str(parts / "two")
    sweep = pool.sweep(
        name="study",
        vae=[None, str(parts / "vae")],
        loras=[
            None,
            {"name": one, "weight": 0.5},
            {"name": one, "weight": 1},
            [{"name": one}, {"name": two, "weight": -1}],
        ],
        seed=[0, 1],
        num_inference_steps=2,
        prompt="a red circle",
        guidance_scale=4,
    )
    pool.client.submit(sweep)

    with pool.hand_worker(vaes=(str(parts / "vae"),), allow=(f"{parts}/*",)) as process:
        serve_all(process, pool)
        kept = process._switching.kept
        taken = {key: kept.footprint(key) for key in kept.keys}

    assert len(read) == 1, "one checkpoint for all of them"
    plain = taken.pop(pool.key)
    assert plain is not None
    for key, footprint in taken.items():
        assert footprint is not None
        assert footprint.weights_bytes < plain.weights_bytes / 2, key
        assert footprint.working_bytes >= plain.working_bytes
    status = pool.client.status(sweep.id)
    assert (status.state, status.done, status.dead) == ("done", 16, 0)
    layout: Layout = sweep.layout
    names = {WeightsName.of(layout.job(index)) for index in range(16)}
    assert set(status.pins) == {name.key for name in names}
    pins = [Pin.from_text(text) for text in status.pins.values()]
    assert len({pin.weights for pin in pins}) == len(names) == 6
    results = pool.client.results(sweep.id)
    assert len({results.digest_of(index) for index in range(16)}) == 16
    images = {bytes(pool.storage.get(str(results.key_of(index)))) for index in range(16)}
    assert len(images) == 16
    assert all(receipt["rows"] == 2 for receipt in pool.receipts(sweep))


def test_a_resubmitted_sweep_finds_its_images_by_the_weights(pool: Pool, parts: Path) -> None:
    fields = {"loras": str(parts / "one"), "num_inference_steps": 2, "prompt": "a boat"}
    first = pool.sweep(name="first", seed=[0, 1], guidance_scale=4, **fields)
    second = pool.sweep(name="second", seed=[0, 1, 2], guidance_scale=4, **fields)

    with pool.hand_worker(loras=(str(parts / "one"),)) as process:
        for sweep in (first, second):
            pool.client.submit(sweep)
            serve_all(process, pool)

    status = pool.client.status(second.id)
    assert (status.done, status.reused) == (3, 2)


def test_what_does_not_suit_the_model_is_a_dead_job_and_what_is_not_allowed_waits(
    pool: Pool, parts: Path
) -> None:
    sweep = pool.sweep(
        name="wide",
        vae=[str(parts / "wide"), str(parts / "vae"), None, str(parts / "gone")],
        seed=[0],
        prompt="a boat",
        guidance_scale=4,
        num_inference_steps=2,
    )
    pool.client.submit(sweep)

    with pool.hand_worker(vaes=(str(parts / "wide"), str(parts / "gone"))) as process:
        serve_all(process, pool)
        serve_all(process, pool)
        said = process.describe()
        pool.client.queue.announce(process.name, said, ttl_seconds=60)
        waits = pool.client.waits(sweep.id)

    status = pool.client.status(sweep.id)
    assert (status.state, status.done, status.dead) == ("running", 1, 1)
    (failure,) = pool.client.failures(sweep.id)
    assert failure.index == 0
    assert "has 8 latent channels, and this model's latents have 4" in failure.reason
    assert said["vaes"] == [str(parts / "wide"), str(parts / "gone")]
    served = {item["vae"] for item in said["served"]}  # type: ignore[attr-defined]
    assert served == {None, str(parts / "wide")}, "one is not allowed, one could not be had"
    vae, gone, had = parts / "vae", parts / "gone", f"(the pool serves {pool.model})"
    assert [wait.reason for wait in waits] == [
        f"no worker serves model '{pool.model}' with vae '{vae}', and none may load vae '{vae}' "
        f"{had}: start one with 'seedbed worker --model {pool.model} --vae={vae}'",
        f"no worker can serve model '{pool.model}' with vae '{gone}' {had}: "
        f"vae '{gone}' is not a folder: check its path",
    ]
    assert all(wait.refused for wait in waits)


def test_weights_that_ended_three_workers_are_let_alone_then_tried_once_and_forgiven(
    pool: Pool, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.discovery.REJECTED_SECONDS", 0.0)
    one, queue = str(parts / "one"), pool.client.queue
    sweep = pool.sweep(
        name="deadly", loras=one, prompt="a boat", guidance_scale=4, seed=[900],
        num_inference_steps=2,
    )  # fmt: skip
    pool.client.submit(sweep)
    key = WeightsName.of(sweep.layout.job(0)).key

    with pool.hand_worker(loras=(one,)) as process:
        what = f"{key} {device_name(process._device)}"
        for _ in range(3):  # all that is left of a worker that is killed while it loads
            assert queue.begin_load(what, enough=3, rest_seconds=3600) == 0
        serve_all(process, pool)
        queue.announce(process.name, process.describe(), ttl_seconds=60)
        (wait,) = pool.client.waits(sweep.id)
        alone = pool.client.status(sweep.id)
        queue.client.hset(queue.keys.loads, what, "3 1")  # that was long ago
        serve_all(process, pool)

    assert "ended 3 workers in a row" in wait.reason
    assert (alone.done, alone.dead, alone.pending) == (0, 0, 1), "no job answers for its weights"
    assert pool.client.status(sweep.id).done == 1
    assert not queue.client.exists(queue.keys.loads)


def test_a_pattern_lets_in_a_checkpoint_that_nobody_named(
    pool: Pool, demo_folder: Path, parts: Path
) -> None:
    sweep = pool.sweep(
        name="let-in", model=str(demo_folder), seed=[0], num_inference_steps=2, prompt="a boat",
        guidance_scale=4,
    )  # fmt: skip
    pool.client.submit(sweep)

    with pool.hand_worker(allow=(f"{demo_folder.parent}/*",)) as process:
        pool.client.queue.announce(process.name, process.describe(), ttl_seconds=60)
        assert pool.client.waits(sweep.id) == (), "it will be found"
        serve_all(process, pool)

    assert pool.client.status(sweep.id).done == 1


def test_a_real_worker_hears_of_new_weights_by_itself(pool: Pool, parts: Path) -> None:
    handle = pool.start_worker(loras=(str(parts / "one"),), timer_seconds=0.3)
    try:
        eventually(lambda: handle.ready, seconds=90, what="a worker")
        for weight in (0.5, 1.0):
            sweep = pool.sweep(
                name=f"heard-{weight}",
                loras={"name": str(parts / "one"), "weight": weight},
                seed=[0, 1],
                prompt="a boat",
                guidance_scale=4,
                num_inference_steps=2,
            )
            pool.client.submit(sweep)
            eventually(
                lambda: pool.client.status(sweep.id).state == "done",  # noqa: B023
                seconds=60,
                what="a sweep with a LoRA",
            )
            assert pool.client.status(sweep.id).done == 2
    finally:
        handle.terminate()
