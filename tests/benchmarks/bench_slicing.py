"""Attention slicing and VAE slicing, on and off: seconds and most memory.

    python -m tests.benchmarks.bench_slicing [--edge 384] [--batch 4] [--rounds 3] [--model MODEL]

One batch through the worker's engine; settings take turns, medians count. Seconds are the clock's
on a GPU, and on a CPU, which others may share, the process' own. Memory is what the batch took
beyond the loaded model: torch's own count on CUDA, on a CPU the resident set, looked at every 2 ms,
in a process whose allocator gives every large block back at once, so that what one setting took
does not hide what the next one takes. Ratios are to the worker's defaults.

'unfused' installs diffusers' plain processors, which hold whole attention matrices, as it was
before torch had fused attention; 'adaptive' then slices them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

SETTINGS: dict[str, dict[str, Any]] = {
    "as by default": {},
    "attention auto": {"attention_slicing": "auto"},
    "attention max": {"attention_slicing": "max"},
    "unfused": {"unfused": True, "attention_slicing": "off"},
    "unfused, adaptive": {"unfused": True},
    "VAE slicing off": {"vae_slicing": False},
}
STEPS = 4


def main() -> None:
    """Measure in a process of its own, which prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edge", type=int, default=384, help="pixels")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model")
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
    from tests.pool import running_pool

    found: dict[str, list[tuple[float, int]]] = {name: [] for name in SETTINGS}
    with tempfile.TemporaryDirectory() as folder, running_pool(Path(folder)) as pool:
        model = chosen.model or pool.model
        for number in range(chosen.rounds):
            for name, results in found.items():
                taken, peak = _measure(model, chosen, **SETTINGS[name])
                results.append((taken, peak))
                print(f"round {number + 1}: {name} {taken:.2f} s, {peak / 1e6:.0f} MB", flush=True)
    seconds = {name: statistics.median(time for time, _ in each) for name, each in found.items()}
    peaks = {name: statistics.median(peak for _, peak in each) for name, each in found.items()}
    print(
        f"medians of {chosen.rounds} interleaved rounds, {chosen.model or 'the demo model'}, "
        f"a batch of {chosen.batch} at {chosen.edge} x {chosen.edge}, {STEPS} steps, guided"
    )
    usual = next(iter(SETTINGS))
    for name in SETTINGS:
        print(
            f"  {name:20} {seconds[name]:7.2f} s {seconds[name] / seconds[usual]:6.2f} x"
            f" {peaks[name] / 1e6:8.0f} MB {peaks[name] / peaks[usual]:6.2f} x"
        )


def _measure(
    model: str,
    chosen: argparse.Namespace,
    *,
    unfused: bool = False,
    attention_slicing: str = "adaptive",
    vae_slicing: bool = True,
) -> tuple[float, int]:
    """Seconds and most bytes of one batch, after a small one."""
    from diffusers.models.attention_processor import AttnProcessor

    from shared.errors import RenderError
    from shared.job import Job
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
        tuning=Tuning(vae_slicing=vae_slicing),
    )
    if unfused:
        for part in loaded.pipeline.components.values():
            if hasattr(part, "set_attn_processor"):
                part.set_attn_processor(AttnProcessor())
        if attention_slicing == "adaptive":
            set_slicing(loaded.pipeline, "adaptive")
    engine = StockEngine(loaded)

    def render(rows: int, edge: int) -> None:
        jobs = [
            Job(
                model=model,
                prompt="a red circle",
                seed=seed,
                height=edge,
                width=edge,
                num_inference_steps=STEPS,
                guidance_scale=7.5,
                scheduler="DDIMScheduler",
            )
            for seed in range(rows)
        ]
        for outcome in engine.render(jobs):
            if isinstance(outcome, RenderError):
                raise outcome

    render(1, 64)
    peak = _Peak(device)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    started = clock()
    with peak:
        render(chosen.batch, chosen.edge)
    return clock() - started, peak.bytes


class _Peak:
    """The most memory while it lasts, beyond what there was before."""

    def __init__(self, device: Any) -> None:
        self.bytes = 0
        self._device = device
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._before = self._resident()
        if self._device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            import torch

            self.bytes = torch.cuda.max_memory_allocated() - self._before
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
