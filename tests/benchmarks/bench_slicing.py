"""Attention slicing, VAE slicing and offloading, on and off: seconds and most memory.

    python -m tests.benchmarks.bench_slicing [--edge 384] [--batch 4] [--rounds 3] [--model MODEL]

One batch through the worker's engine; settings take turns, medians count. Seconds are the clock's
on a GPU, and on a CPU, which others may share, the process' own. Memory is what the batch took
beyond the loaded model: torch's own count on CUDA, on a CPU the resident set, looked at every 2 ms,
in a process whose allocator gives every large block back at once, so that what one setting took
does not hide what the next one takes. Ratios are to the worker's defaults.

'unfused' installs diffusers' plain processors, which hold whole attention matrices, as it was
before torch had fused attention; 'adaptive' then slices them. Offloading needs a GPU,
where the last column is the most that torch held in all, weights included.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

from worker.locating import DEMO_FOLDER

SETTINGS: dict[str, dict[str, Any]] = {
    "as by default": {},
    "attention auto": {"attention_slicing": "auto"},
    "attention max": {"attention_slicing": "max"},
    "unfused": {"unfused": True, "attention_slicing": "off"},
    "unfused, adaptive": {"unfused": True},
    "VAE slicing off": {"vae_slicing": False},
}
ON_A_GPU: dict[str, dict[str, Any]] = {
    "channels last": {"channels_last": True},
    "offload model": {"offload": "model"},
    "offload sequential": {"offload": "sequential"},
}
STEPS = 4


def main() -> None:
    """Measure in a process of its own, which prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edge", type=int, default=384, help="pixels")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default=str(DEMO_FOLDER))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.here:
        _run(chosen)
        return
    subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.bench_slicing", "--here", *sys.argv[1:]],
        env={**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 16)},
        check=True,
    )


def _run(chosen: argparse.Namespace) -> None:
    from worker.device import pick_device

    settings = SETTINGS | (ON_A_GPU if pick_device().type == "cuda" else {})
    found: dict[str, list[tuple[float, int, int]]] = {name: [] for name in settings}
    for number in range(chosen.rounds):
        for name, results in found.items():
            taken, peak, whole = _measure(chosen.model, chosen, **settings[name])
            results.append((taken, peak, whole))
            print(f"round {number + 1}: {name} {taken:.2f} s, {peak / 1e6:.0f} MB", flush=True)
    seconds, peaks, wholes = (
        {
            name: statistics.median(each[column] for each in results)
            for name, results in found.items()
        }
        for column in range(3)
    )
    print(
        f"medians of {chosen.rounds} interleaved rounds, {chosen.model}, "
        f"a batch of {chosen.batch} at {chosen.edge} x {chosen.edge}, {STEPS} steps, guided"
    )
    usual = next(iter(SETTINGS))
    for name in settings:
        print(
            f"  {name:20} {seconds[name]:7.2f} s {seconds[name] / seconds[usual]:6.2f} x"
            f" {peaks[name] / 1e6:8.0f} MB {peaks[name] / peaks[usual]:6.2f} x"
            + (f" {wholes[name] / 1e6:8.0f} MB in all" if wholes[name] else "")
        )


def _measure(
    model: str,
    chosen: argparse.Namespace,
    *,
    unfused: bool = False,
    attention_slicing: str = "adaptive",
    **tuning: Any,
) -> tuple[float, int, int]:
    """Seconds and most bytes of one batch, after one just like it; and of all, on a GPU, else 0."""
    from diffusers.models.attention_processor import AttnProcessor

    from tests.benchmarks.timing import guided_jobs, seconds_of
    from worker.attention import set_slicing
    from worker.device import pick_device
    from worker.engine import StockEngine
    from worker.loading import ModelSource, load_pipeline
    from worker.tuning import Tuning

    device = pick_device()
    loaded = load_pipeline(
        ModelSource(model=model),
        device=device,
        attention_slicing=attention_slicing,
        tuning=Tuning(**tuning),
    )
    if unfused:
        for part in loaded.pipeline.components.values():
            if hasattr(part, "set_attn_processor"):
                part.set_attn_processor(AttnProcessor())
        if attention_slicing == "adaptive":
            set_slicing(loaded.pipeline, "adaptive")
    engine = StockEngine(loaded)

    jobs = guided_jobs(chosen.batch, model=model, edge=chosen.edge, steps=STEPS)
    seconds_of(engine, jobs)
    peak = _Peak(device)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    with peak:
        seconds = seconds_of(engine, jobs, clock)
    return seconds, peak.bytes, peak.whole


class _Peak:
    """The most memory while it lasts, beyond what there was before."""

    def __init__(self, device: Any) -> None:
        self.bytes = 0
        self.whole = 0
        self._device = device
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._before = self._resident()
        if self._device.type == "cuda":
            import torch

            gc.collect()  # the pipeline before this one
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            import torch

            self.whole = torch.cuda.max_memory_allocated()
            self.bytes = self.whole - self._before
        else:
            self._stop.set()
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.bytes = max(self.bytes, self._resident() - self._before)

    def _resident(self) -> int:
        import psutil

        return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    main()
