"""Real workers are killed, drained and robbed of their messages; every image is there once."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import redis

from shared.doorbell import broker_prefix
from tests.pool import Pool, WorkerHandle, eventually, running_pool

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

RESTLESS = {"budget_seconds": 0.5}
"""Of workers that need many doorbells."""
PATIENT = {"grace_seconds": 60.0, "lease_seconds": 60.0}
"""Of workers that end a long batch on a busy machine, and hold what they have meanwhile."""


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with running_pool(tmp_path_factory.mktemp("pool")) as running:
        yield running


@pytest.fixture
def pool(services: Pool) -> Iterator[Pool]:
    """Nothing stored and nothing to do; a worker that the test before has left may wait there."""
    for found in list(services.storage.list()):
        services.storage.delete(found.key)
    yield services
    for sweep in services.client.sweeps():
        services.client.cancel(sweep.id)
    eventually(
        lambda: not any(sweep.leased for sweep in services.client.sweeps()),
        seconds=60,
        what="nobody works on what is cancelled",
    )


def only_worker(pool: Pool, **options: object) -> WorkerHandle:
    """A worker with these options, ready, and no other: one is started only if none is there."""
    found = None
    for handle in pool.living():
        if found is None and handle.options == options:
            found = handle
        else:
            handle.kill()
    return found or pool.start_workers(1, **options)[0]


def test_after_a_flushall_and_a_resubmission_no_stored_image_is_rendered_again(
    pool: Pool,
) -> None:
    only_worker(pool, **RESTLESS)
    sweep = pool.sweep(name="flushed")
    pool.client.submit(sweep)
    pool.wait_done(sweep, 16)

    redis.Redis.from_url(pool.settings.redis_url).flushall()
    stored = {found.key for found in pool.storage.list("images/")}
    pool.client.submit(sweep)

    pool.wait_ended(sweep)
    pool.audit(sweep)
    rendered_twice = {digest for digest, times in pool.renders(sweep).items() if times > 1}
    assert not {key for key in stored if any(digest in key for digest in rendered_twice)}


def test_a_sweep_finishes_though_every_celery_message_is_deleted(pool: Pool) -> None:
    only_worker(pool, **RESTLESS)
    sweep = pool.sweep(name="robbed")
    broker = redis.Redis.from_url(pool.settings.redis_url)
    pool.client.submit(sweep)

    def delete_messages_until_done() -> bool:
        for key in broker.scan_iter(f"{broker_prefix('acceptance')}*", _type="list"):
            broker.delete(key)
        return pool.client.status(sweep.id).state == "done"

    eventually(delete_messages_until_done, seconds=120, what="the sweep is done")
    pool.audit(sweep)


def test_when_all_workers_are_killed_in_mid_batch_one_timer_of_another_brings_every_image(
    pool: Pool,
) -> None:
    only_worker(pool, **RESTLESS)
    pool.start_workers(1, **RESTLESS)
    sweep = pool.sweep(name="orphaned", seed=range(24))
    pool.client.submit(sweep)
    pool.wait_done(sweep, 8)

    def stopped_in_mid_batch() -> bool:
        for worker in pool.living():
            worker.process.send_signal(signal.SIGSTOP)
        if pool.client.status(sweep.id).leased:
            return True
        for worker in pool.living():  # between two batches
            worker.process.send_signal(signal.SIGCONT)
        return False

    eventually(stopped_in_mid_batch, seconds=30, what="they hold jobs")
    for worker in pool.living():
        worker.kill()
    done = pool.client.status(sweep.id).done
    assert done < 96, "killed too late"

    # given: a lease of 3 s, which is over before another worker has started
    only_worker(pool, **RESTLESS)
    pool.wait_done(sweep, done + 1, seconds=30)

    pool.wait_ended(sweep)
    status = pool.client.status(sweep.id)
    assert (status.done, status.dead, status.leased) == (96, 0, 0)
    pool.audit(sweep)


def test_sigterm_in_mid_sweep_exits_0_and_leaves_no_lease(pool: Pool) -> None:
    worker = only_worker(pool, **RESTLESS)
    sweep = pool.sweep(name="drained", seed=range(64))
    pool.client.submit(sweep)
    pool.wait_done(sweep, 8)

    assert worker.terminate() == 0

    status = pool.client.status(sweep.id)
    assert status.leased == 0
    assert 8 <= status.done < 256
    only_worker(pool, **PATIENT)
    pool.wait_done(sweep, status.done + 1, seconds=30)


def test_sigterm_gives_unstarted_jobs_back_while_a_batch_is_still_on_the_gpu(pool: Pool) -> None:
    worker = only_worker(pool, **PATIENT)
    sweep = pool.sweep(name="given back", num_inference_steps=200)  # a batch takes seconds
    pool.client.submit(sweep)
    eventually(lambda: pool.client.status(sweep.id).leased == 8, seconds=60, what="claimed ahead")

    worker.process.terminate()
    eventually(lambda: pool.client.status(sweep.id).leased <= 4, seconds=30, what="given back")

    status = pool.client.status(sweep.id)
    assert (status.leased, status.done) == (4, 0), "the batch on the GPU is still held"
    assert worker.process.wait(timeout=90) == 0
    status = pool.client.status(sweep.id)
    assert (status.leased, status.done) == (0, 4), "and is stored in the end"
