"""Jobs that kill or hang their worker die alone; nobody else pays, whatever kills workers."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from producer import Sweep
from tests.poisoned_worker import KILLER, KILLING_SIZE, SLEEPER
from tests.pool import Pool, running_pool

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

KILLING = 2
"""Index of the image that kills."""
HEALTHY = [f"a red circle and {number} stars" for number in range(14)]
POISONED = {"module": "tests.poisoned_worker", "lease_seconds": 1.5, "timer_seconds": 0.3}


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with running_pool(tmp_path) as running:
        yield running


def pictures(pool: Pool) -> Sweep:
    """A sweep that starts from six images, one of which kills whoever reads it."""
    files = [pool.folder / f"{number}.png" for number in range(6)]
    for number, file in enumerate(files):
        size = KILLING_SIZE if number == KILLING else (64, 64)
        Image.new("RGB", size, (40 * number, 90, 90)).save(file)
    return pool.sweep(
        name="pictures",
        prompt="a red circle",
        init_image=[str(file) for file in files],
        guidance_scale=4,
        height=64,
        width=64,
        seed=[0],
    )


def test_jobs_that_kill_or_hang_their_worker_by_render_or_by_file_die_alone_and_their_mates_live(
    pool: Pool,
) -> None:
    prompts = [*HEALTHY[:5], KILLER, *HEALTHY[5:9], SLEEPER, *HEALTHY[9:]]
    sweep = pool.sweep(prompt=prompts, guidance_scale=4, seed=[0], num_inference_steps=2)
    drawn = pictures(pool)
    pool.client.submit(sweep)
    pool.client.submit(drawn)

    pool.start_workers(2, **POISONED, gpu_seconds=2.0)
    pool.wait_ended(sweep)
    pool.wait_ended(drawn)

    status = pool.client.status(sweep.id)
    assert (status.done, status.dead, status.leased) == (14, 2, 0)
    killer, sleeper = pool.client.failures(sweep.id)
    (reader,) = pool.client.failures(drawn.id)
    assert (killer.index, killer.reason) == (5, "killed its worker 3 times while alone")
    assert (sleeper.index, sleeper.reason) == (10, "exceeded 2 s on the GPU")
    assert (reader.index, reader.reason) == (KILLING, "killed its worker 3 times while alone")
    for failure in (killer, sleeper, reader):
        assert failure.dead
        assert failure.attempts == 5
        assert failure.worker
    # who is killed between receipt and commit leaves one to whoever renders the image again
    made = [{int(found["index"]) for found in pool.receipts(one)} for one in (sweep, drawn)]
    assert made == [{*range(16)} - {5, 10}, {*range(6)} - {KILLING}]


def test_workers_killed_at_random_moments_take_no_job_with_them(pool: Pool) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    workers = pool.start_workers(2, **POISONED)
    sweep = pool.sweep(seed=range(40))
    pool.client.submit(sweep)

    killed = 0
    until = time.monotonic() + 15
    while time.monotonic() < until:
        time.sleep(dice.uniform(0.2, 2.0))
        lives = psutil.Process(dice.choice(workers).process.pid).children()
        for life in lives:
            life.kill()
            killed += 1
    pool.wait_ended(sweep)

    status = pool.client.status(sweep.id)
    assert killed >= 5
    assert (status.done, status.dead) == (160, 0), pool.client.failures(sweep.id)
    pool.audit(sweep)
