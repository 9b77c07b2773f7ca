"""Images a second of one worker, beside the bare stock pipeline and one Celery task per image.

    python -m tests.benchmarks.bench_end_to_end [--jobs 512] [--rounds 3] [--model MODEL]

Three ways to make the same images with the same checkpoint, on the same machine, in turn:

- bare: the stock pipeline called in a loop in one process, nothing encoded, nothing stored;
- seedbed: one worker process on a real Redis and S3, from submit to the last commit;
- tasks: a plain Celery worker with one message per image, which calls the stock pipeline for
  that image alone and stores its PNG.

Models are loaded and warm before the clock starts. One torch thread each, so that the other core
does what it would do beside a GPU. Half precision on a GPU. Without --model it is the demo
checkpoint.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.pool import Pool, eventually, running_pool
from worker.device import pick_device
from worker.locating import DEMO_FOLDER

BATCH = 8
STEPS = 20


def main() -> None:
    """Run the rounds and print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task-jobs", type=int, default=64)
    parser.add_argument("--model", default="demo")
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    device = pick_device().type
    options = {"batch_size": BATCH, "lease_seconds": 30.0, "timer_seconds": 10.0}
    rates: dict[str, list[float]] = {"bare": [], "seedbed": [], "tasks": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_pool(Path(folder), model=chosen.model) as pool,
    ):
        pool.start_workers(1, device=device, **options)
        _seedbed(pool, 2 * BATCH, 1_000_000)  # warm, with seeds that no round has
        for number in range(chosen.rounds):
            rates["bare"].append(_helper("bare", pool, chosen.jobs))
            rates["seedbed"].append(_seedbed(pool, chosen.jobs, number))
            rates["tasks"].append(_helper("tasks", pool, chosen.task_jobs))
            print(
                f"round {number + 1}: "
                + ", ".join(f"{name} {values[-1]:.1f} images/s" for name, values in rates.items()),
                flush=True,
            )
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(
        f"medians of {chosen.rounds} interleaved rounds, {chosen.model}, batch {BATCH}, "
        f"{STEPS} steps, on {device}"
    )
    for name, median in medians.items():
        print(f"  {name:8} {median:8.1f} images/s")
    print(f"  seedbed / bare   {medians['seedbed'] / medians['bare']:.2f}")
    print(f"  seedbed / tasks  {medians['seedbed'] / medians['tasks']:.2f}")


def _seedbed(pool: Pool, jobs: int, number: int) -> float:
    sweep = pool.sweep(
        name=f"bench-{number}",
        prompt=["a red circle", "a blue star"],
        guidance_scale=[4, 7.5],
        seed=range(number * jobs, number * jobs + jobs // 4),
        num_inference_steps=STEPS,
    )
    client = pool.client
    started = time.perf_counter()
    client.submit(sweep)
    eventually(
        lambda: client.queue.status(sweep.id).done == sweep.manifest.total,
        seconds=600,
        what="the sweep is done",
    )
    return sweep.manifest.total / (time.perf_counter() - started)


def _helper(way: str, pool: Pool, jobs: int) -> float:
    """Run one of the other ways in a process of its own; it prints its rate."""
    folder = DEMO_FOLDER if pool.model == "demo" else pool.model
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.rivals", way, str(folder), str(jobs)],
        env={**os.environ, **pool.settings.to_environ()},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
