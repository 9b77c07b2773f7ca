"""The ladder of diffusers' own speed tutorial, rung by rung on one machine, up to a worker.

    python -m tests.benchmarks.bench_ladder [--images 16] [--alone 16] [--rounds 3] [--batch 8]
                                            [--model MODEL]

- float32: the stock pipeline, 50 PNDM steps, an image a call;
- float16: the same in half precision (on a GPU only);
- fewer steps: 20 steps of DPM-Solver++ instead;
- batch: the same, so many images a call;
- seedbed: one worker process on a real Redis and S3, the same batch and steps, from submit to the
  last commit, every image encoded, stored and recorded.

Rungs run in turn, round after round; medians count. Seconds an image, and how many times as fast as
the first rung. One torch thread on a CPU. Without --model it is the demo checkpoint.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.pool import Pool, eventually, running_pool
from worker.locating import DEMO_FOLDER

PROMPTS = ("a red circle", "a blue star")
GUIDANCE = 7.5


def main() -> None:
    """Run the rounds and print the ladder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16, help="of each rung and round")
    parser.add_argument("--alone", type=int, help="of rungs with an image a call; as many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--model", default=str(DEMO_FOLDER))
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    seconds: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_pool(Path(folder), model=chosen.model) as pool,
    ):
        alone = chosen.alone or chosen.images
        rungs = _rungs(pool, chosen.images, alone, chosen.batch, device)
        for number in range(chosen.rounds):
            for name, run in rungs.items():
                seconds.setdefault(name, []).append(run(number))
            print(
                f"round {number + 1}: "
                + ", ".join(f"{name} {times[-1]:.3f} s" for name, times in seconds.items()),
                flush=True,
            )
    _print(seconds, chosen, device)


def _rungs(
    pool: Pool, images: int, alone: int, batch: int, device: str
) -> dict[str, Callable[[int], float]]:
    """Name to what renders a round's images and returns seconds an image; each is warm."""
    import torch

    diffusers: Any = import_module("diffusers")

    def stock(dtype: Any, *, steps: int, scheduler: str, rows: int) -> Callable[[int], float]:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(pool.model, dtype=dtype).to(device)
        pipeline.set_progress_bar_config(disable=True)
        pipeline.scheduler = getattr(diffusers, scheduler).from_config(pipeline.scheduler.config)

        def call(first: int) -> None:
            seeds = range(first, first + rows)
            pipeline(
                [PROMPTS[seed % 2] for seed in seeds],
                num_inference_steps=steps,
                guidance_scale=GUIDANCE,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            )

        def run(number: int) -> float:
            count = alone if rows == 1 else images
            started = time.perf_counter()
            for first in range(number * count, (number + 1) * count, rows):
                call(first)
            return (time.perf_counter() - started) / count

        call(0)
        return run

    solver = "DPMSolverMultistepScheduler"
    rungs = {
        "float32": stock(torch.float32, steps=50, scheduler="PNDMScheduler", rows=1),
    }
    dtype = torch.float32
    if device == "cuda":
        dtype = torch.float16
        rungs["float16"] = stock(dtype, steps=50, scheduler="PNDMScheduler", rows=1)
    rungs["fewer steps"] = stock(dtype, steps=20, scheduler=solver, rows=1)
    rungs["batch"] = stock(dtype, steps=20, scheduler=solver, rows=batch)

    pool.start_workers(1, device=device, batch_size=batch, lease_seconds=30.0, timer_seconds=10.0)

    def seedbed(number: int) -> float:
        sweep = pool.sweep(
            name=f"ladder-{number}",
            prompt=list(PROMPTS),
            guidance_scale=GUIDANCE,
            seed=range(number * images, number * images + images // 2),
            num_inference_steps=20,
            scheduler=solver,
        )
        started = time.perf_counter()
        pool.client.submit(sweep)
        eventually(
            lambda: pool.client.queue.status(sweep.id).done == sweep.manifest.total,
            seconds=3600,
            what="the sweep is done",
        )
        return (time.perf_counter() - started) / images

    seedbed(1_000_000)  # seeds that no round has
    rungs["seedbed"] = seedbed
    return rungs


def _print(seconds: dict[str, list[float]], chosen: argparse.Namespace, device: str) -> None:
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    first = medians["float32"]
    print(
        f"medians of {chosen.rounds} interleaved rounds of {chosen.images} images, {chosen.model}, "
        f"batch {chosen.batch}, on {device}"
    )
    for name, median in medians.items():
        print(f"  {name:12} {median:8.4f} s an image  {first / median:6.2f} x")
    if device == "cpu":
        print("  float16 was left out: it is no faster on a CPU")


if __name__ == "__main__":
    main()
