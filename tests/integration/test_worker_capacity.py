"""A worker sizes its batches by what it measured, and by what it ran out of memory with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from tests.factories import make_curve
from tests.pictures import hooked
from tests.pool import Pool
from worker.probing import probe
from worker.process import WorkerProcess

Start = Callable[..., WorkerProcess]


@pytest.fixture
def start(
    pool: Pool, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., WorkerProcess]]:
    """Load a worker that serves when it is told to; its probes are short."""
    monkeypatch.setattr("worker.calibration.probe", partial(probe, most_rows=8))
    pool.forget()
    with ExitStack() as started:
        yield lambda batch_size=None: started.enter_context(pool.hand_worker(batch_size=batch_size))


def serve(worker: WorkerProcess, pool: Pool) -> int:
    return worker.serve(pool.key)


def rows_of(pool: Pool, sweep: Any) -> list[int]:
    """How many mates each image had, itself included, in the order of the receipts."""
    return [int(str(receipt["rows"])) for receipt in pool.receipts(sweep)]


def test_a_worker_measures_at_start_and_shares_it(pool: Pool, start: Start) -> None:
    worker = start()

    (capacity,) = pool.client.queue.capacities()
    assert (capacity.model, capacity.worker) == (pool.model, worker.name)
    assert (capacity.key.height, capacity.key.width) == (64, 64)
    assert worker.describe()["batch_size"] == capacity.batch_size(2)


def test_a_second_worker_takes_the_firsts_measurement(
    pool: Pool, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    first = start()
    with caplog.at_level("INFO"):
        second = start()

    (capacity,) = pool.client.queue.capacities()
    assert capacity.worker == first.name
    assert second.describe()["batch_size"] == first.describe()["batch_size"]
    (known,) = [record for record in caplog.records if record.message == "capacity known"]
    assert known.measured_by == first.name


def test_a_given_batch_size_overrides_what_is_measured(pool: Pool, start: Start) -> None:
    worker = start(batch_size=3)
    sweep = pool.sweep(name="given", prompt="a cat", guidance_scale=4, seed="0..5")
    pool.client.submit(sweep)

    serve(worker, pool)

    assert rows_of(pool, sweep) == [3] * 6
    assert pool.client.queue.capacities() == []


def test_a_lane_of_another_size_is_measured_when_it_is_first_claimed(
    pool: Pool, start: Start
) -> None:
    worker = start()
    queue = pool.client.queue
    (native,) = queue.capacities()
    # given: a peer knows the native size, and that four guided images of it are worth it
    knee = {1: (1.0, None), 8: (1.0, None)}
    queue.record_capacity(replace(native, denoise=make_curve(knee, knee=8, cap=8), decode=None))
    worker.close()
    worker = start()
    small = pool.sweep(name="own", prompt="a dog", guidance_scale=4, seed="0..7")
    large = pool.sweep(
        name="large", prompt="a dog", guidance_scale=4, seed="0..7", height=128, width=96
    )
    pool.client.submit(small)
    serve(worker, pool)
    pool.client.submit(large)
    serve(worker, pool)

    assert rows_of(pool, small) == [4] * 8
    (measured,) = [item for item in queue.capacities() if item.key.height == 128]
    assert measured.key.width == 96
    batch = measured.batch_size(2)
    assert max(rows_of(pool, large)) <= batch
    assert pool.client.status(large.id).state == "done"


def test_running_out_of_memory_fails_no_job_and_lowers_what_is_claimed(
    pool: Pool, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    worker = start(batch_size=8)
    sweep = pool.sweep(name="tight", prompt="a hat", guidance_scale=4, seed="0..63")
    pool.client.submit(sweep)
    assert worker._serving is not None
    claimed: list[int] = []
    claim = worker._queue.claim

    def counted(**arguments: Any) -> Any:
        claimed.append(arguments["max_jobs"])
        return claim(**arguments)

    def check(_: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        if arguments[0].shape[0] > 2 * 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    worker._queue.claim = counted  # type: ignore[method-assign]
    with hooked(worker._serving.loaded.pipeline.unet, check, before=True):
        serve(worker, pool)

    status = pool.client.status(sweep.id)
    assert (status.state, status.done, status.dead) == ("done", 64, 0)
    assert pool.client.failures(sweep.id) == []
    assert claimed[0] == 8
    assert claimed[-1] == 3
    assert worker.describe()["batch_size"] == 3
    assert "batches are smaller from now on" in caplog.text
    pool.audit_receipts(sweep)


def test_a_single_image_that_does_not_fit_says_how_much_it_needed_and_what_would_help(
    pool: Pool, start: Start
) -> None:
    worker = start(batch_size=4)
    sweep = pool.sweep(name="huge", prompt="a boat", guidance_scale=4, height=96, width=96, seed=0)
    pool.client.submit(sweep)
    assert worker._serving is not None

    def check(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")

    with hooked(worker._serving.loaded.pipeline.unet, check, before=True):
        serve(worker, pool)

    (failure,) = pool.client.failures(sweep.id)
    assert "one image of 96x96 does not fit" in failure.reason
    assert "it needed 2.00 GiB more at once" in failure.reason
    assert "smaller height and width" in failure.reason


def test_a_probe_is_watched_as_a_batch_is(pool: Pool, start: Start) -> None:
    worker = start()
    assert worker._serving is not None
    watchdog = worker._serving.server._blame._watchdog
    watched: list[float] = []
    watch = watchdog.watch

    def noted(last_words: Callable[[], None]) -> Any:
        watched.append(watchdog.seconds)
        return watch(last_words)

    watchdog.watch = noted  # type: ignore[method-assign]
    sweep = pool.sweep(name="watched", prompt="a lake", guidance_scale=4, seed=[0], height=96)
    pool.client.submit(sweep)

    serve(worker, pool)

    assert len(watched) == 2, "measuring, then rendering"


def test_a_size_that_kills_the_worker_while_it_is_measured_is_the_jobs_to_answer_for(
    pool: Pool, start: Start
) -> None:
    worker = start()
    assert worker._serving is not None
    server = worker._serving.server
    queue = pool.client.queue
    sweep = pool.sweep(name="deadly", prompt="a sea", guidance_scale=4, seed=[0], height=96)
    pool.client.submit(sweep)
    begun: list[bytes] = []

    def measure(*_: object) -> None:
        (token,) = (key for key in queue.client.scan_iter(f"{queue.keys.base}:lease:*"))
        begun.extend(queue.client.hmget(token, "phase", "worker"))
        raise MemoryError

    server._batches.size = measure  # type: ignore[method-assign, assignment]
    with pytest.raises(MemoryError):
        serve(worker, pool)

    assert begun == [b"gpu", worker.name.encode()]
