"""torch.compile on and off: seconds of a full batch, and of the compiling itself.

    python -m tests.benchmarks.bench_compile [--edge 512] [--batch 8] [--steps 20] [--rounds 5]
                                             [--model MODEL]

The same jobs through two engines of the same checkpoint, one with a compiled denoiser, in turn;
medians count. Not part of `make bench`: on a CPU it needs a C++ compiler, and minutes.
"""

from __future__ import annotations

import argparse
import statistics
import time

from tests.benchmarks.timing import guided_jobs, seconds_of
from worker.compiling import compile_denoiser
from worker.device import pick_device
from worker.engine import StockEngine
from worker.loading import ModelSource, load_pipeline
from worker.locating import DEMO_FOLDER


def main() -> None:
    """Print both medians, their ratio, and what compiling took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edge", type=int, default=512, help="pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default=str(DEMO_FOLDER))
    chosen = parser.parse_args()
    device = pick_device()
    jobs = guided_jobs(chosen.batch, model=chosen.model, edge=chosen.edge, steps=chosen.steps)
    source = ModelSource(model=chosen.model)
    engines = {
        name: StockEngine(load_pipeline(source, device=device)) for name in ("plain", "compiled")
    }
    started = time.perf_counter()
    compile_denoiser(engines["compiled"], jobs[0], chosen.batch)
    compiling = time.perf_counter() - started
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(chosen.rounds + 1):
        for name, engine in engines.items():
            taken = seconds_of(engine, jobs)
            if number > 0:  # the first round warms up
                seconds[name].append(taken)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    print(
        f"medians of {chosen.rounds} interleaved rounds, {chosen.model} on {device.type}, "
        f"a batch of {chosen.batch} at {chosen.edge} x {chosen.edge}, {chosen.steps} guided steps"
    )
    for name, median in medians.items():
        print(f"  {name:9} {median:8.3f} s  {chosen.batch / median:8.2f} images/s")
    print(f"  compiled / plain, images/s  {medians['plain'] / medians['compiled']:.2f}")
    print(f"  compiling took {compiling:.1f} s")


if __name__ == "__main__":
    main()
