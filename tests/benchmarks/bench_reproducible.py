"""What `reproducible: true` costs: a full batch, and a job alone, beside the same plain ones.

    python -m tests.benchmarks.bench_reproducible [--edge 64] [--steps 20] [--rounds 5] [--model M]

Guided jobs through the worker's engine, one torch thread; both ways take turns, medians count.
Seconds are the clock's on a GPU, and on a CPU, which others may share, the thread's own.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import torch

from tests.benchmarks.timing import guided_jobs, seconds_of
from worker.device import pick_device
from worker.engine import StockEngine
from worker.loading import ModelSource, load_pipeline
from worker.locating import DEMO_FOLDER
from worker.packer import fixed_jobs


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edge", type=int, default=64, help="pixels")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default=str(DEMO_FOLDER))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    device = pick_device()
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    engine = StockEngine(load_pipeline(ModelSource(model=chosen.model), device=device))
    (first,) = guided_jobs(1, model=chosen.model, edge=chosen.edge, steps=chosen.steps)
    full = fixed_jobs(first, engine.traits)
    print(f"{chosen.model}, {chosen.edge} x {chosen.edge}, {chosen.steps} guided steps, {device}")
    for count in (full, 1):
        plain = [replace(first, seed=seed) for seed in range(count)]
        ways = {"plain": plain, "reproducible": [replace(j, reproducible=True) for j in plain]}
        found: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(chosen.rounds + 1):
            for way, jobs in ways.items():
                seconds = seconds_of(engine, jobs, clock)
                if number:  # the first is for warming up
                    found[way].append(seconds)
        medians = {way: statistics.median(all_) for way, all_ in found.items()}
        ratio = medians["reproducible"] / medians["plain"]
        said = ", ".join(f"{way} {seconds:.3f} s" for way, seconds in medians.items())
        print(f"  {count} together: {said}, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
