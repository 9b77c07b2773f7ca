"""Images a second against the batch, and the batch that a worker would choose.

    python -m tests.benchmarks.bench_batch [--steps 20] [--size 64] [--most 64] [--rounds 3]
                                           [--model MODEL]

The choice is made as a worker makes it, by `worker.probing`: a few steps, denoising and decoding
apart. Without --model it is made for the demo checkpoint. The curve is what it should have been
made from: whole guided images of a usual number of steps, every batch in turn, round by round, so
that a machine that slows down slows all of them. The chosen batch should be among the smallest
whose images/s are nearly the best.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from shared.job import Job
from tests.benchmarks.timing import guided_jobs, seconds_of
from tests.pool import running_pool
from worker.calibration import Calibrator
from worker.engine import StockEngine
from worker.loading import ModelSource, load_pipeline

BAR = 40


def main() -> None:
    """Print the curve with the chosen batch marked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--most", type=int, default=64, help="images of the largest batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="demo")
    chosen = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with (
        tempfile.TemporaryDirectory() as folder,
        running_pool(Path(folder), model=chosen.model) as pool,
    ):
        engine = StockEngine(load_pipeline(ModelSource(model=pool.model), device=device))
        queue = pool.client.queue
        calibrator = Calibrator(queue=queue, engine=engine, model=pool.model, worker="bench")
        started = time.perf_counter()
        capacity = calibrator.capacity(chosen.size, chosen.size)
        seconds = time.perf_counter() - started
    if capacity is None:
        raise SystemExit("not one image could be rendered")
    for name, curve in (("rows", capacity.denoise), ("images", capacity.decode)):
        for point in curve.points if curve is not None else ():
            print(f"  probed {point.rows:4} {name:6} {point.rate:8.2f} a second")
        if curve is not None:
            print(f"  {name}: knee {curve.knee}, cap {curve.cap}, bound by {curve.bound}")
    knee = capacity.batch_size(2)
    sizes = [2**power for power in range(20) if 2**power <= chosen.most]
    batches = {
        size: guided_jobs(size, model=chosen.model, edge=chosen.size, steps=chosen.steps)
        for size in sorted({1, *sizes, knee})
    }
    rates = _rates(engine, batches, chosen.rounds)
    best = max(rates.values())
    print(
        f"{chosen.model} on {capacity.key.device}, {capacity.key.dtype}, "
        f"{chosen.size} x {chosen.size}, {chosen.steps} guided steps; "
        f"medians of {chosen.rounds} interleaved rounds"
    )
    for size, rate in rates.items():
        mark = f"  <- chosen, after {seconds:.1f} s of probing" if size == knee else ""
        print(f"  {size:4} {rate:9.2f} images/s  {'#' * round(BAR * rate / best):{BAR}}{mark}")
    print(f"  chosen / batch of one  {rates[knee] / rates[1]:.2f}")
    print(f"  chosen / best          {rates[knee] / best:.2f}")


def _rates(engine: StockEngine, batches: dict[int, list[Job]], rounds: int) -> dict[int, float]:
    """Median images/s by batch."""
    rates: dict[int, list[float]] = {size: [] for size in batches}
    seconds_of(engine, batches[1])
    for _ in range(rounds):
        for size, jobs in batches.items():
            rates[size].append(size / seconds_of(engine, jobs))
    return {size: statistics.median(found) for size, found in rates.items()}


if __name__ == "__main__":
    main()
