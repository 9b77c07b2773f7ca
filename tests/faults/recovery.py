"""Measure how soon work goes on, with a worker's own defaults: ``python -m tests.faults.recovery``.

Each measurement is taken several times; docs/reliability.md has the figures.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from producer import Sweep
from tests.faults.pool import FaultyPool, faulty_pool, send
from tests.pool import eventually

LEASE_SECONDS = 30.0
TIMER_SECONDS = 10.0
GRACE_SECONDS = 20.0
"""A worker's own defaults."""

JOBS = 384
LONGEST_SECONDS = 180.0


class Measurements:
    """Times of one pool whose workers have the default lease and timer."""

    def __init__(self, pool: FaultyPool) -> None:
        self.pool = pool
        self._number = 0

    def killed_in_mid_sweep(self) -> float:
        """From a SIGKILL, with work left for the others, to the last of its jobs claimed again."""
        sweep = self._submit(seeds=1024)
        self._wait_done(sweep, 16)
        lost = self._kill_one_with_jobs(sweep)
        seconds = self._until_taken(sweep, lost)
        self.pool.client.cancel(sweep.id)
        self._replace()
        return seconds

    def killed_at_the_end(self) -> float:
        """The same, with nothing left to claim: only the others' timers find its jobs."""
        sweep = self._submit(seeds=6, num_inference_steps=100)  # two batches a worker, seconds each
        eventually(
            lambda: len(self.pool.auditor.leased(sweep.id)) > 20,
            seconds=LONGEST_SECONDS,
            what="every worker has claimed",
        )
        lost = self._kill_one_with_jobs(sweep)
        seconds = self._until_taken(sweep, lost)
        self._replace()
        return seconds

    def drained(self) -> float:
        """From a SIGTERM to the moment at which only begun jobs are still held."""
        pool = self.pool
        sweep = self._submit(seeds=64, num_inference_steps=100)
        worker = pool.present()[0]
        with pool.unstaffed():
            for other in pool.present()[1:]:
                pool.drain(other)
            eventually(
                lambda: len(pool.auditor.leased(sweep.id)) == 8,
                seconds=LONGEST_SECONDS,
                what="one batch on the GPU, one claimed ahead",
            )
            pool.expected_deaths.add(worker.process.pid)
            started = time.monotonic()
            send(worker, signal.SIGTERM)
            eventually(
                lambda: len(pool.auditor.leased(sweep.id)) <= 4,
                seconds=LONGEST_SECONDS,
                what="unstarted jobs are back",
            )
            seconds = time.monotonic() - started
            assert worker.process.wait(timeout=LONGEST_SECONDS) == 0
            pool.client.cancel(sweep.id)
        self._replace()
        return seconds

    def redis_restarted(self) -> float:
        """From a Redis that is back from its AOF, 20 s away, to the next image; nobody restarts."""
        pool = self.pool
        sweep = self._submit(seeds=256)
        self._wait_done(sweep, 16)
        workers = {worker.process.pid for worker in pool.present()}
        pool.redis.kill()
        time.sleep(20)
        pool.start_redis()
        seconds = self._until_progress(sweep)
        assert {worker.process.pid for worker in pool.present()} == workers, "a worker ended"
        pool.client.cancel(sweep.id)
        return seconds

    def redis_restarted_while_idle(self) -> float:
        """The same for workers with nothing to do: until the first image of a new sweep."""
        pool = self.pool
        workers = {worker.process.pid for worker in pool.present()}
        pool.redis.kill()
        time.sleep(20)
        pool.start_redis()
        started = time.monotonic()
        sweep = self._submit(seeds=8)
        self._wait_done(sweep, 1)
        seconds = time.monotonic() - started
        assert {worker.process.pid for worker in pool.present()} == workers, "a worker ended"
        self._wait_done(sweep, 32)
        return seconds

    def storage_away(self, seconds: float = 150.0) -> tuple[float, int]:
        """From S3's return after minutes to the next image; and how many were rendered twice."""
        pool = self.pool
        begun = pool.rows_begun()
        sweep = self._submit(seeds=96)
        self._wait_done(sweep, 16)
        with pool.s3_network.refused():
            time.sleep(seconds)
        recovery = self._until_progress(sweep)
        pool.client.wait(sweep.id, timeout_seconds=LONGEST_SECONDS)
        return recovery, pool.rows_begun() - begun - JOBS

    def _submit(self, *, seeds: int, **fields: object) -> Sweep:
        self._number += 1
        # seeds of its own: nothing that an earlier measurement stored
        first = 10_000 * self._number
        sweep = self.pool.sweep(
            name=f"measured-{self._number}", seed=range(first, first + seeds), **fields
        )
        self.pool.sweeps = [sweep]
        self.pool.client.submit(sweep)
        return sweep

    def _wait_done(self, sweep: Sweep, count: int) -> None:
        eventually(
            lambda: self.pool.auditor.done(sweep.id) >= count,
            seconds=LONGEST_SECONDS,
            what=f"{count} images are committed",
        )

    def _kill_one_with_jobs(self, sweep: Sweep) -> dict[int, str]:
        """SIGKILL; returns the positions that were leased, its own among them, and their tokens."""
        pool = self.pool
        with pool.unstaffed():
            pool.kill(pool.present()[0])
            return pool.auditor.leased(sweep.id)

    def _until_taken(self, sweep: Sweep, lost: dict[int, str]) -> float:
        """Until all of them are done or under another lease."""
        started = time.monotonic()
        auditor = self.pool.auditor

        def all_taken() -> bool:
            leased, places = auditor.leased(sweep.id), auditor.places(sweep.id)
            return all(
                places[position] == ["done"] or leased.get(position, token) != token
                for position, token in lost.items()
            )

        eventually(all_taken, seconds=LONGEST_SECONDS, what="the lost jobs are rendered again")
        return time.monotonic() - started

    def _until_progress(self, sweep: Sweep) -> float:
        started, done = time.monotonic(), self.pool.auditor.done(sweep.id)
        self._wait_done(sweep, done + 1)
        return time.monotonic() - started

    def _replace(self) -> None:
        time.sleep(1)
        self.pool.wait_staffed()


def main(arguments: list[str]) -> int:
    """Measure, and print each time."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.recovery", description=__doc__)
    parser.add_argument("--times", type=int, default=3, help="of each measurement (default 3)")
    parser.add_argument("--only", metavar="NAME", help="this measurement alone")
    options = parser.parse_args(arguments)
    # so that whoever ends this run ends its servers and workers as well
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with (
        tempfile.TemporaryDirectory(prefix="seedbed-recovery-") as folder,
        faulty_pool(
            Path(folder),
            lease_seconds=LEASE_SECONDS,
            timer_seconds=TIMER_SECONDS,
            grace_seconds=GRACE_SECONDS,
            gpu_seconds=600.0,
        ) as pool,
    ):
        pool.staff()
        measurements = Measurements(pool)
        measured: list[Callable[[], float]] = [
            measurements.killed_in_mid_sweep,
            measurements.killed_at_the_end,
            measurements.drained,
            measurements.redis_restarted,
            measurements.redis_restarted_while_idle,
        ]
        for measure in measured:
            if options.only in (None, measure.__name__):
                seconds = [round(measure(), 1) for _ in range(options.times)]
                print(f"{measure.__name__:28} {seconds} s", flush=True)
        if options.only in (None, "storage_away"):
            recovery, twice = measurements.storage_away()
            print(f"storage_away 150 s           {recovery:.1f} s, {twice} images rendered twice")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
