"""One worker in this process, on a real Redis and S3: what it does when things go wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.lanes import model_key
from shared.worker_options import WorkerOptions
from tests.pool import Pool, eventually
from worker.process import WorkerProcess


@pytest.fixture
def worker(pool: Pool, one_thread: None) -> Iterator[WorkerProcess]:
    """A loaded worker that serves when it is told to, not by doorbells."""
    with pool.redis.client() as client:
        client.flushall()
    process = make_worker(pool)
    yield process
    process.close()


def make_worker(pool: Pool, **options: object) -> WorkerProcess:
    values = {"models": (pool.model,), "batch_size": 4, "device": "cpu"} | options
    return WorkerProcess(pool.settings, WorkerOptions(**values))


def serve(worker: WorkerProcess, pool: Pool) -> int:
    return worker.serve(model_key(pool.model, None, None))


def test_a_job_the_pipeline_refuses_dies_with_its_reason_and_its_mates_are_made(
    pool: Pool, worker: WorkerProcess
) -> None:
    sweep = pool.sweep(
        name="refused",
        scheduler=["DDIMScheduler", "FlowMatchEulerDiscreteScheduler"],
        guidance_scale=4,
        seed="0..3",
    )
    pool.client.submit(sweep)

    serve(worker, pool)

    status = pool.client.status(sweep.id)
    assert (status.state, status.done, status.dead) == ("done", 8, 8)
    failures = pool.client.failures(sweep.id)
    assert {failure.index for failure in failures} == {i for i in range(16) if i % 2}
    assert "FlowMatchEulerDiscreteScheduler" in failures[0].reason


def test_images_of_several_sweeps_share_a_batch(pool: Pool, worker: WorkerProcess) -> None:
    sweeps = [
        pool.sweep(name=f"small-{number}", prompt="a cat", guidance_scale=4, seed=[number])
        for number in range(4)
    ]
    for sweep in sweeps:
        pool.client.submit(sweep)

    serve(worker, pool)

    rows = {receipt["rows"] for sweep in sweeps for receipt in pool.receipts(sweep)}
    assert rows == {4}


def test_a_lease_that_is_committed_whole_is_not_released_and_its_rate_is_told_once(
    pool: Pool, worker: WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.serving.RATE_CHANGE", 1e6)  # a busy machine's batches differ
    sweep = pool.sweep(name="plain", prompt="a hut", guidance_scale=4, seed="0..15")
    pool.client.submit(sweep)
    calls = []

    def heard(name: str) -> None:
        told = getattr(worker._queue, name)
        monkeypatch.setattr(
            worker._queue, name, lambda *a, **b: calls.append(name) or told(*a, **b)
        )

    for name in ("commit", "record_rate", "release"):
        heard(name)

    assert serve(worker, pool) == 16

    assert sorted(calls) == [*["commit"] * 4, "record_rate"]
    assert pool.client.status(sweep.id).leased == 0


def test_a_guidance_axis_does_not_split_batches(pool: Pool, worker: WorkerProcess) -> None:
    sweep = pool.sweep(name="guidance", prompt="a dog", guidance_scale=[2, 3, 4, 5], seed=[0, 1])
    pool.client.submit(sweep)

    serve(worker, pool)

    assert [receipt["rows"] for receipt in pool.receipts(sweep)] == [4] * 8


def test_jobs_of_a_claim_that_come_to_one_image_are_rendered_once(
    pool: Pool, worker: WorkerProcess
) -> None:
    # given: without guidance, the negative prompt does not act
    sweep = pool.sweep(
        name="twins", prompt="a hat", guidance_scale=1, negative_prompt=[None, "rain"], seed=[0, 1]
    )
    pool.client.submit(sweep)

    assert serve(worker, pool) == 2

    status = pool.client.status(sweep.id)
    assert (status.state, status.done, status.reused) == ("done", 4, 2)
    pool.audit_receipts(sweep)


def test_a_stored_image_is_not_rendered_again_by_another_sweep(
    pool: Pool, worker: WorkerProcess
) -> None:
    first = pool.sweep(name="first", prompt="a fox", guidance_scale=4, seed="0..7")
    wider = pool.sweep(name="wider", prompt="a fox", guidance_scale=4, seed="0..11")
    pool.client.submit(first)
    assert serve(worker, pool) == 8

    pool.client.submit(wider)
    assert serve(worker, pool) == 4

    assert pool.client.status(wider.id).reused == 8


def test_reuse_false_renders_what_is_stored_already(pool: Pool, worker: WorkerProcess) -> None:
    fields = {"prompt": "a bird", "guidance_scale": 4, "seed": "0..3"}
    pool.client.submit(pool.sweep(name="once", **fields))
    serve(worker, pool)

    pool.client.submit(pool.sweep(name="again", reuse=False, **fields))

    assert serve(worker, pool) == 4


def test_a_done_sweep_is_mended_where_objects_are_gone(pool: Pool, worker: WorkerProcess) -> None:
    sweep = pool.sweep(name="mended", prompt="a bear", guidance_scale=4, seed="0..7")
    pool.client.submit(sweep)
    serve(worker, pool)
    gone = [receipt["key"] for receipt in pool.receipts(sweep) if receipt["index"] in (2, 5)]
    for key in gone:
        pool.storage.delete(key)

    submission = pool.client.submit(sweep)

    assert (submission.outcome, submission.missing) == ("repaired", 2)
    assert serve(worker, pool) == 2
    assert pool.client.status(sweep.id).state == "done"


def test_the_finaliser_reopens_a_sweep_whose_images_vanished_before_it_looked(
    pool: Pool, worker: WorkerProcess
) -> None:
    sweep = pool.sweep(name="vanished", prompt="a wolf", guidance_scale=4, seed="0..3")
    pool.client.submit(sweep)
    run_pending = worker._finaliser.run_pending
    worker._finaliser.run_pending = lambda: 0  # given: nobody finalises yet
    serve(worker, pool)
    assert pool.client.status(sweep.id).state == "finalising"
    pool.storage.delete(pool.receipts(sweep)[0]["key"])
    worker._finaliser.run_pending = run_pending

    worker._finaliser.run_pending()

    assert pool.client.status(sweep.id).state == "running"
    assert serve(worker, pool) == 1
    assert pool.client.status(sweep.id).state == "done"


def test_a_manifest_that_cannot_be_read_pauses_its_sweep_and_no_other(
    pool: Pool, worker: WorkerProcess
) -> None:
    broken = pool.sweep(name="broken", prompt="a fish", guidance_scale=4, seed="0..3")
    sound = pool.sweep(name="sound", prompt="a fish", guidance_scale=4, seed="4..7")
    pool.client.submit(broken)
    queue = pool.client.queue
    with pool.redis.client() as client:
        client.set(queue.keys.manifest(broken.id), b'{"seedbed": 1, "prompt": "stranger"}')
    pool.client.submit(sound)

    serve(worker, pool)

    assert pool.client.status(broken.id).state == "paused"
    assert pool.client.status(broken.id).leased == 0
    assert pool.client.status(sound.id).state == "done"


def test_cancel_takes_effect_before_the_batch_is_through(pool: Pool, worker: WorkerProcess) -> None:
    sweep = pool.sweep(
        name="cancelled", prompt="a boat", guidance_scale=4, seed="0..7", num_inference_steps=1000
    )
    pool.client.submit(sweep)
    worker.start_threads()
    thread = threading.Thread(target=serve, args=(worker, pool))
    thread.start()
    eventually(lambda: pool.client.status(sweep.id).leased > 0, seconds=10, what="leased")

    cancelled = time.monotonic()
    pool.client.cancel(sweep.id)
    thread.join(timeout=30)

    assert not thread.is_alive()
    assert time.monotonic() - cancelled < 10
    status = pool.client.status(sweep.id)
    assert (status.state, status.leased) == ("cancelled", 0)
    assert status.done < 8


def test_rendered_images_outlive_a_storage_outage(pool: Pool, worker: WorkerProcess) -> None:
    sweep = pool.sweep(name="outage", prompt="a train", guidance_scale=4, seed="0..7")
    pool.client.submit(sweep)
    put = worker._storage.put
    outage = threading.Event()
    outage.set()

    def put_or_fail(key: str, body: bytes, **options: object) -> None:
        # the endpoint itself is pointed at a closed port while the outage lasts
        if outage.is_set() and key.startswith("images/"):
            worker_down.put(key, body, **options)
        put(key, body, **options)

    worker_down = type(worker._storage).connect(
        pool.settings.with_values(s3_endpoint_url="http://127.0.0.1:9")
    )
    worker._storage.put = put_or_fail
    thread = threading.Thread(target=serve, args=(worker, pool))
    thread.start()
    eventually(lambda: pool.client.status(sweep.id).leased == 8, seconds=20, what="two batches")
    assert pool.client.status(sweep.id).done == 0

    outage.clear()
    thread.join(timeout=60)

    assert pool.client.status(sweep.id).state == "done"
    assert all(times == 1 for times in pool.renders(sweep).values())


def test_a_worker_of_two_models_serves_both(pool: Pool, tmp_path: Path, one_thread: None) -> None:
    with pool.redis.client() as client:
        client.flushall()
    other = tmp_path / "other-model"
    shutil.copytree(pool.model, other)
    worker = make_worker(pool, models=(pool.model, str(other)))
    sweep = pool.sweep(
        name="models",
        model=[pool.model, str(other)],
        prompt="a lake",
        guidance_scale=4,
        seed="0..3",
    )
    pool.client.submit(sweep)

    for model in (pool.model, str(other)):
        worker.serve(model_key(model, None, None))
    worker.close()

    status = pool.client.status(sweep.id)
    assert (status.state, status.done, len(status.pins)) == ("done", 8, 2)


def test_a_damaged_image_is_found_by_repair_and_rendered_again(
    pool: Pool, worker: WorkerProcess
) -> None:
    sweep = pool.sweep(name="mended", prompt="a mill", guidance_scale=4, seed="0..3")
    pool.client.submit(sweep)
    serve(worker, pool)
    results = pool.client.results(sweep.id)
    key = str(results.key_of(2))
    pool.storage.put(key, pool.storage.get(key)[:-100], content_type="image/png")

    assert pool.client.repair(sweep.id).damaged == 1
    serve(worker, pool)

    status = pool.client.status(sweep.id)
    assert (status.state, status.done) == ("done", 4)
    assert pool.client.repair(sweep.id).sound


def test_the_watchdog_ends_a_hung_process_and_says_why() -> None:
    script = """
import time
from worker.watchdog import Watchdog

with Watchdog(0.2).watch(lambda: print("last words", flush=True)):
    time.sleep(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode == 70
    assert done.stdout == "last words\n"
    assert "Thread" in done.stderr


def test_the_watchdog_ends_a_process_that_hangs_with_the_interpreter_in_its_hands() -> None:
    script = """
import ctypes
from worker import watchdog

watchdog.LAST_WORDS_SECONDS = watchdog.GRACE_SECONDS = 0.1
with watchdog.Watchdog(0.2).watch(lambda: print("last words", flush=True)):
    ctypes.PyDLL(None).sleep(60)  # called without giving the lock up
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert "Timeout" in done.stderr


def test_a_batch_that_is_watched_and_ends_in_time_leaves_no_timer_behind() -> None:
    script = """
import time
from worker import watchdog

watchdog.LAST_WORDS_SECONDS = watchdog.GRACE_SECONDS = 0.1
with watchdog.Watchdog(0.3).watch(lambda: print("last words", flush=True)):
    pass
time.sleep(1)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_receipts_tell_what_made_an_image(pool: Pool, worker: WorkerProcess) -> None:
    sweep = pool.sweep(name="receipts", prompt="a tree", guidance_scale=4, seed="0..3")
    pool.client.submit(sweep)
    serve(worker, pool)

    (receipt, *_) = pool.receipts(sweep)

    assert json.loads(json.dumps(receipt)) == receipt
    assert set(receipt["seconds"]) >= {"claim", "embed", "denoise", "decode", "encode", "upload"}
    assert receipt["worker"] == worker.name
    assert receipt["forwards"] == 8
    assert len(receipt["mates"]) == 3
    assert set(receipt["software"]) == {"seedbed", "torch", "diffusers", "transformers"}
