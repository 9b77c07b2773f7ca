"""A pool grows from nothing, shrinks and goes: workers follow what the exporter tells a scaler."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.pool import Pool, WorkerHandle, eventually, running_pool
from tests.scrape import ask_json, scrape, value

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(900)]

MOST = 3
POLL_SECONDS = 0.3
END_SECONDS = 240.0
"""For each of its chapters, on two cores that others keep busy."""

JOBS = 60
JOBS_A_WORKER = 12
"""So much work asks for one more worker, however quick the machine is."""


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    with running_pool(tmp_path) as running:
        yield running


@contextmanager
def exporter_of(pool: Pool, *options: str) -> Iterator[int]:
    """``seedbed metrics`` as a process; gives its port."""
    log = pool.folder / "metrics.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "producer.cli.main", "metrics", "--port=0", *options],
            env={**pool.settings.to_environ(), "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        said = re.compile(r"metrics of pool .* on http://127\.0\.0\.1:(\d+)/metrics")
        eventually(lambda: said.search(log.read_text()), seconds=60, what="it listens")
        yield int(said.findall(log.read_text())[0])
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()


class Scaler:
    """What KEDA and a deployment do: asks over HTTP, starts workers, ends them with SIGTERM."""

    def __init__(self, pool: Pool, port: int) -> None:
        self._pool = pool
        self._url = f"/scale/{quote(pool.model, safe='')}"
        self._port = port
        self._target_seconds = 1.0
        self.running: list[WorkerHandle] = []
        self.ending: list[WorkerHandle] = []
        self.history: list[int] = []
        self.left_at_scale_down: list[int] = []

    def step(self) -> int:
        """Bring the workers to what is wanted now; returns that."""
        answer = ask_json(self._port, f"{self._url}?target_seconds={self._target_seconds}")
        wanted = int(answer["workers_wanted"])
        if self.history[-1:] != [wanted]:
            self.history.append(wanted)
        while len(self.running) < wanted:
            self.running.append(self._pool.start_worker(batch_size=2, lease_seconds=30.0))
        while len(self.running) > wanted:
            victim = self.running.pop()
            victim.process.send_signal(signal.SIGTERM)
            self.ending.append(victim)
            self.left_at_scale_down.append(answer["pending"] + answer["leased"])
        for worker in self.running:
            assert worker.process.poll() is None, worker.text
        return wanted

    def measure(self) -> None:
        """From now on, so many seconds are one worker's as its share of jobs takes on this machine.

        Batches were measured by then.
        """
        answer = ask_json(self._port, self._url)
        self._target_seconds = JOBS_A_WORKER * float(answer["job_seconds"])

    def follow_until(self, wanted: int) -> None:
        """Go on until so many workers are wanted."""
        deadline = time.monotonic() + END_SECONDS
        while self.step() != wanted:
            assert time.monotonic() < deadline, f"never {wanted}: {self.history}"
            time.sleep(POLL_SECONDS)


def test_workers_follow_the_work_from_none_to_three_to_one_to_none(pool: Pool) -> None:
    options = (f"--max-workers={MOST}", "--down-seconds=1")
    with exporter_of(pool, *options) as port:
        scaler = Scaler(pool, port)
        # given: an empty pool wants nobody
        assert scaler.step() == 0
        assert scaler.running == []

        # when a sweep is submitted, three are wanted, come, and work
        sweep = pool.sweep(seed=range(JOBS // 4), num_inference_steps=120)
        pool.client.submit(sweep)
        scaler.follow_until(MOST)
        assert len(scaler.running) == MOST

        pool.wait_done(sweep, 6, seconds=END_SECONDS)
        scaler.measure()
        assert scaler.step() == MOST

        # as the work goes down so do the workers, in the midst of it
        scaler.follow_until(1)
        assert len(scaler.running) == 1
        scaler.follow_until(0)

        # then all have gone in order, and nothing is lost, made twice or held
        assert scaler.running == []
        for worker in scaler.ending:
            code = worker.process.wait(timeout=60)
            assert code == 0 or "listening" not in worker.text, worker.text
        assert sum(left > 0 for left in scaler.left_at_scale_down) >= 2, "sent away too late"
        samples = scrape(port)

    status = pool.client.status(sweep.id)
    assert (status.state, status.done, status.dead, status.leased) == ("done", JOBS, 0, 0)
    assert len({receipt["worker"] for receipt in pool.receipts(sweep)}) >= 2
    assert set(pool.renders(sweep).values()) == {1}
    assert len(pool.renders(sweep)) == JOBS
    keys = pool.client.queue.keys
    assert pool.client.queue.client.zcard(f"{keys.base}:leases") == 0
    pool.audit(sweep)
    assert value(samples, "seedbed_jobs_done_total", model=pool.model) == JOBS
    assert value(samples, "seedbed_lease_expiries_total", model=pool.model) == 0
    assert value(samples, "seedbed_workers_wanted", model=pool.model) == 0
