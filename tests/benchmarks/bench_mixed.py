"""A mixed sweep's images a second over a uniform one's of the same cost, on one worker.

    python -m tests.benchmarks.bench_mixed [--seeds 4] [--rounds 3] [--batch-size 8]
                                           [--model MODEL]

Mixed: 4 guidance scales x 4 step counts x 4 schedulers x the seeds, in shuffled order. Uniform: as
many images of one guidance scale, one scheduler, and the mean of the step counts, so that both take
the same number of the model's forwards. Every scheduler here takes one forward a step.

A guidance axis shares batches; step counts and schedulers can't, so the mixed sweep is sixteen
recipes. What is lost is in their last batches, which are not full, and in changing between them.
The worker claims ahead from a real queue and stores in a real bucket, from submit to the last
commit; rounds are interleaved. Without --model it is the demo checkpoint.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

from producer import Sweep
from tests.pool import Pool, eventually, running_pool
from worker.device import pick_device

GUIDANCE = (2.0, 4.0, 7.5, 10.0)
STEPS = (8, 12, 16, 20)
SCHEDULERS = (
    "DDIMScheduler",
    "EulerDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
)


def main() -> None:
    """Run the rounds and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4, help="images are 64 times as many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--model", default="demo")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    device = pick_device().type
    options = {"batch_size": chosen.batch_size, "lease_seconds": 30.0, "timer_seconds": 10.0}
    rates: dict[str, list[float]] = {"uniform": [], "mixed": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_pool(Path(folder), model=chosen.model) as pool,
    ):
        pool.start_workers(1, device=device, **options)
        _rate(pool, _uniform(pool, 1, -1))  # warm
        for number in range(chosen.rounds):
            rates["uniform"].append(_rate(pool, _uniform(pool, chosen.seeds, number)))
            rates["mixed"].append(_rate(pool, _mixed(pool, chosen.seeds, number)))
            print(
                f"round {number + 1}: "
                + ", ".join(f"{name} {found[-1]:.2f} images/s" for name, found in rates.items()),
                flush=True,
            )
    medians = {name: statistics.median(found) for name, found in rates.items()}
    images = chosen.seeds * len(GUIDANCE) * len(STEPS) * len(SCHEDULERS)
    print(
        f"medians of {chosen.rounds} interleaved rounds of {images} images, {chosen.model}, "
        f"batch {chosen.batch_size}, on {device}"
    )
    for name, median in medians.items():
        print(f"  {name:8} {median:8.2f} images/s")
    print(f"  mixed / uniform  {medians['mixed'] / medians['uniform']:.2f}")


def _mixed(pool: Pool, seeds: int, number: int) -> Sweep:
    return pool.sweep(
        name=f"mixed-{number}",
        prompt="a red circle",
        guidance_scale=list(GUIDANCE),
        num_inference_steps=list(STEPS),
        scheduler=list(SCHEDULERS),
        seed=_shuffled(seeds, number),
    )


def _uniform(pool: Pool, seeds: int, number: int) -> Sweep:
    each = len(GUIDANCE) * len(STEPS) * len(SCHEDULERS)
    return pool.sweep(
        name=f"uniform-{number}",
        prompt="a red circle",
        guidance_scale=4.0,
        num_inference_steps=sum(STEPS) // len(STEPS),
        seed=_shuffled(seeds * each, number),
    )


def _shuffled(count: int, number: int) -> list[int]:
    """Seeds of this round's own, so that nothing is reused, in no order."""
    seeds = [(number + 1) * 1_000_000 + seed for seed in range(count)]
    random.Random(number).shuffle(seeds)
    return seeds


def _rate(pool: Pool, sweep: Sweep) -> float:
    client = pool.client
    started = time.perf_counter()
    client.submit(sweep)
    eventually(
        lambda: client.queue.status(sweep.id).done == sweep.manifest.total,
        seconds=900,
        what="the sweep is done",
    )
    return sweep.manifest.total / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
