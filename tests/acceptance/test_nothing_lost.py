"""Real workers are killed, drained and robbed of their messages; every image is there once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from shared.doorbell import broker_prefix
from tests.pool import Pool, eventually, running_pool

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with running_pool(tmp_path) as running:
        yield running


def test_a_worker_killed_in_mid_batch_and_replaced_leaves_every_image_once(pool: Pool) -> None:
    (worker,) = pool.start_workers(1)
    sweep = pool.sweep()
    pool.client.submit(sweep)
    pool.wait_done(sweep, 8)

    worker.kill()
    assert pool.client.status(sweep.id).leased > 0, "it was killed between batches"
    pool.start_workers(1)

    pool.wait_ended(sweep)
    status = pool.client.status(sweep.id)
    assert (status.done, status.dead, status.leased) == (64, 0, 0)
    pool.audit(sweep)


def test_work_resumes_within_one_timer_after_all_workers_were_killed(pool: Pool) -> None:
    workers = pool.start_workers(2)
    sweep = pool.sweep(seed=range(32))
    pool.client.submit(sweep)
    pool.wait_done(sweep, 8)
    for worker in workers:
        worker.kill()
    done = pool.client.status(sweep.id).done

    time.sleep(3)  # given: nobody is there for three seconds
    pool.start_workers(2)
    ready = time.monotonic()
    pool.wait_done(sweep, done + 1, seconds=30)
    resumed_after = time.monotonic() - ready

    # lease 3 s, timer 0.5 to 1.5 s, a batch well under a second
    assert resumed_after < 10
    pool.wait_ended(sweep)
    pool.audit(sweep)


def test_sigterm_in_mid_sweep_exits_0_and_leaves_no_lease(pool: Pool) -> None:
    (worker,) = pool.start_workers(1)
    sweep = pool.sweep(seed=range(64))
    pool.client.submit(sweep)
    pool.wait_done(sweep, 8)

    assert worker.terminate() == 0

    status = pool.client.status(sweep.id)
    assert status.leased == 0
    assert 8 <= status.done < 256
    pool.start_workers(1)
    pool.wait_done(sweep, status.done + 1, seconds=30)


def test_sigterm_gives_unstarted_jobs_back_while_a_batch_is_still_on_the_gpu(pool: Pool) -> None:
    (worker,) = pool.start_workers(1, grace_seconds=60.0, lease_seconds=60.0)
    sweep = pool.sweep(num_inference_steps=200)  # a batch takes seconds
    pool.client.submit(sweep)
    eventually(lambda: pool.client.status(sweep.id).leased == 8, seconds=60, what="claimed ahead")

    worker.process.terminate()
    eventually(lambda: pool.client.status(sweep.id).leased <= 4, seconds=2, what="given back")

    status = pool.client.status(sweep.id)
    assert (status.leased, status.done) == (4, 0), "the batch on the GPU is still held"
    assert worker.process.wait(timeout=90) == 0
    status = pool.client.status(sweep.id)
    assert (status.leased, status.done) == (0, 4), "and is stored in the end"


def test_a_sweep_finishes_though_every_celery_message_is_deleted(pool: Pool) -> None:
    sweep = pool.sweep()
    pool.client.submit(sweep)
    broker = redis.Redis.from_url(pool.settings.redis_url)
    pool.start_workers(1, budget_seconds=0.5)  # many doorbells are needed

    def delete_messages_until_done() -> bool:
        for key in broker.scan_iter(f"{broker_prefix('acceptance')}*", _type="list"):
            broker.delete(key)
        return pool.client.status(sweep.id).state == "done"

    eventually(delete_messages_until_done, seconds=120, what="the sweep is done")
    pool.audit(sweep)


def test_after_a_flushall_and_a_resubmission_no_stored_image_is_rendered_again(
    pool: Pool,
) -> None:
    pool.start_workers(1)
    sweep = pool.sweep()
    pool.client.submit(sweep)
    pool.wait_done(sweep, 16)

    redis.Redis.from_url(pool.settings.redis_url).flushall()
    stored = {found.key for found in pool.storage.list("images/")}
    pool.client.submit(sweep)

    pool.wait_ended(sweep)
    pool.audit(sweep)
    rendered_twice = {digest for digest, times in pool.renders(sweep).items() if times > 1}
    assert not {key for key in stored if any(digest in key for digest in rendered_twice)}
