"""The other ways to make a sweep's images, for `bench_end_to_end`: a bare loop, and a task each."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from functools import cache

import torch
from celery import Celery
from diffusers import DDIMScheduler, DiffusionPipeline

from shared.doorbell import kombu_url
from shared.settings import Settings
from shared.storage import Storage
from tests.benchmarks.bench_end_to_end import BATCH, STEPS
from worker.device import dtype_for, pick_device

QUEUE = "one-task-per-image"
PROMPTS = ("a red circle", "a blue star")

app = Celery("rival", broker=kombu_url(os.environ["SEEDBED_REDIS_URL"]))
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1)


@cache
def _pipeline(model: str) -> DiffusionPipeline:
    torch.set_num_threads(1)
    device = pick_device()
    pipeline = DiffusionPipeline.from_pretrained(
        model, dtype=dtype_for(device), use_safetensors=True
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    return pipeline


@cache
def _storage() -> Storage:
    settings = Settings.resolve({}, os.environ)
    return Storage.connect(settings)


@app.task(name="rival.render")
def render(model: str, seed: int) -> None:
    """One image: the stock pipeline alone, PNG, PUT."""
    image = _pipeline(model)(
        PROMPTS[seed % 2],
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(seed),
    ).images[0]
    body = io.BytesIO()
    image.save(body, format="PNG")
    _storage().put(f"rival/{seed}.png", body.getvalue(), content_type="image/png")


def bare(model: str, jobs: int) -> float:
    """Images a second of the pipeline in a loop."""
    pipeline = _pipeline(model)

    def batch(first: int) -> None:
        seeds = range(first, first + BATCH)
        pipeline(
            [PROMPTS[seed % 2] for seed in seeds],
            num_inference_steps=STEPS,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        )

    batch(0)
    started = time.perf_counter()
    for first in range(0, jobs, BATCH):
        batch(first)
    return jobs / (time.perf_counter() - started)


def tasks(model: str, jobs: int) -> float:
    """Images a second of a Celery worker with one message per image."""
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", "-A", "tests.benchmarks.rivals", "worker"),
            *("-P", "solo", "-Q", QUEUE, "--without-gossip", "--without-mingle", "-l", "ERROR"),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        storage = _storage()
        base = time.time_ns() // 1000  # keys nobody used before

        def stored(first: int, count: int) -> bool:
            keys = [f"rival/{seed}.png" for seed in range(first, first + count)]
            return len(storage.exists_many(keys[-1:])) == 1

        def send(first: int, count: int) -> None:
            for seed in range(first, first + count):
                render.apply_async((model, seed), queue=QUEUE)

        def wait(first: int, count: int) -> None:
            while not stored(first, count):
                time.sleep(0.02)

        send(base, 1)
        wait(base, 1)  # loaded and warm
        started = time.perf_counter()
        send(base + 1, jobs)
        wait(base + 1, jobs)  # one at a time, in order: the last is the end
        return jobs / (time.perf_counter() - started)
    finally:
        worker.terminate()
        worker.wait()


if __name__ == "__main__":
    way, model, jobs = sys.argv[1:]
    print({"bare": bare, "tasks": tasks}[way](model, int(jobs)))
