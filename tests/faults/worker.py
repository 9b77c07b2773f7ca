"""``python -m tests.faults.worker``: the real worker, whose pipeline can be made to misbehave.

Only calls of diffusers and of the worker's own edges are wrapped: what goes on between them is the
product's. Jobs that bear no mark are rendered as ever.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from threading import Lock
from typing import Any

from tests.faults.marks import (
    DIE_AT,
    FITS,
    HANGS,
    KILLS,
    NON_FINITE,
    RAISES,
    RENDERS,
    TOO_LARGE,
    TOO_LARGE_UNTIL,
)


def main() -> int:
    """Wrap what is to misbehave, then be a worker."""
    misrender(os.environ.get(RENDERS))
    if stage := os.environ.get(DIE_AT):
        die_at(*stage.split(":"))
    from worker.__main__ import main as worker

    return worker()


def misrender(log: str | None) -> None:
    """Have Stable Diffusion's pipeline misbehave for marked jobs, and write down every call."""
    import torch
    from diffusers import StableDiffusionPipeline

    render, encode = StableDiffusionPipeline.__call__, StableDiffusionPipeline.encode_prompt

    @functools.wraps(encode)
    def encode_prompt(self: Any, prompt: Any, *args: Any, **kwargs: Any) -> Any:
        if prompt is not None and RAISES in prompt:
            raise ValueError(f"nobody can read {prompt!r}")
        return encode(self, prompt, *args, **kwargs)

    @functools.wraps(render)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        seeds = [one.initial_seed() for one in kwargs["generator"]]
        if log is not None:
            write_line(log, {"pid": os.getpid(), "seeds": seeds})
        if any(TOO_LARGE <= seed < TOO_LARGE_UNTIL for seed in seeds) and len(seeds) > FITS:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if KILLS in seeds:
            os.kill(os.getpid(), signal.SIGKILL)
        while HANGS in seeds:
            time.sleep(1)
        if NON_FINITE in seeds:
            kwargs["callback_on_step_end"] = poisoned(
                kwargs["callback_on_step_end"], seeds.index(NON_FINITE)
            )
        return render(self, *args, **kwargs)

    StableDiffusionPipeline.__call__ = call
    StableDiffusionPipeline.encode_prompt = encode_prompt


def poisoned(callback: Callable[..., dict[str, Any]], row: int) -> Callable[..., dict[str, Any]]:
    """The callback after each step, which also makes one row's latents NaN."""

    def after_step(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> Any:
        changed = callback(pipeline, step, timestep, tensors)
        # latents: (rows, channels, height, width)
        latents = tensors["latents"].clone()
        latents[row] = float("nan")
        return {**changed, "latents": latents}

    return after_step


def write_line(path: str, record: dict[str, Any]) -> None:
    """In one write, so that lines of several processes do not mix."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, (json.dumps(record) + "\n").encode())
    finally:
        os.close(file)


def stages() -> dict[str, tuple[Any, str, Callable[..., bool]]]:
    """Stage to the function whose return ends it, and which of its calls count."""
    from diffusers import StableDiffusionPipeline

    from shared.queue import JobQueue
    from shared.storage import Storage
    from worker import served_model

    return {
        "load": (served_model, "load_pipeline", lambda *_, **__: True),
        "claim": (JobQueue, "claim", lambda *_, **__: True),
        "begin": (JobQueue, "begin", lambda *_, **__: True),
        "render": (StableDiffusionPipeline, "__call__", lambda *_, **__: True),
        "upload": (Storage, "put", lambda _, key, *__, **___: key.startswith("images/")),
        "receipt": (Storage, "put", lambda _, key, *__, **___: "/receipts/" in key),
        "commit": (JobQueue, "commit", lambda *_, **__: True),
    }


def die_at(stage: str, times: str) -> None:
    """Kill this process after the named step has been taken so many times."""
    owner, name, counts = stages()[stage]
    step = getattr(owner, name)
    left, lock = int(times), Lock()

    @functools.wraps(step)
    def taken(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        reply = step(*args, **kwargs)
        if reply is not None or stage in ("begin", "upload", "receipt"):
            with lock:
                left -= counts(*args, **kwargs)
                if left <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        return reply

    setattr(owner, name, taken)


if __name__ == "__main__":
    sys.exit(main())
