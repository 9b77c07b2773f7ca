"""Jobs, sweeps and pins with every default filled in: a test says only what matters to it."""

from __future__ import annotations

from typing import Any

from shared.capacity import Bound, Capacity, CapacityKey, Curve, Point
from shared.job import Job
from shared.pin import Pin
from shared.sweep import Sweep


def make_job(**fields: Any) -> Job:
    """A job of the model ``demo``."""
    return Job(**{"model": "demo", "prompt": "a red circle", **fields})


def make_sweep(**values: Any) -> Sweep:
    """A validated sweep; without arguments it has one job."""
    return Sweep.define(**{"model": "demo", "prompt": "a red circle", **values})


def make_pin(**values: Any) -> Pin:
    """What a worker with a small checkpoint of 64 x 64 pixels pins."""
    defaults = {
        "weights": "sha256:" + "0" * 64,
        "dtype": "float32",
        "renderer": "1",
        "height": 64,
        "width": 64,
        "scheduler": "PNDMScheduler",
        "embeds_guidance": False,
    }
    return Pin(**{**defaults, **values})


def make_curve(
    points: dict[int, tuple[float, int | None]],
    *,
    knee: int,
    cap: int,
    reach: int | None = None,
    bound: Bound = "memory",
) -> Curve:
    """A curve from rows to seconds and bytes."""
    return Curve(
        points=tuple(
            Point(rows=rows, seconds=seconds, peak_bytes=peak)
            for rows, (seconds, peak) in points.items()
        ),
        knee=knee,
        cap=cap,
        reach=reach or cap,
        bound=bound,
    )


def make_capacity(**values: Any) -> Capacity:
    """What a worker with a small GPU measured; members of its key are given by their names."""
    key: dict[str, Any] = {
        "device": "Small GPU, 8 GiB",
        "weights": "sha256:" + "0" * 64,
        "dtype": "float16",
        "height": 64,
        "width": 64,
        "attention": "AttnProcessor2_0 x 8",
        "software": {"torch": "2.13.0", "diffusers": "0.42.1", "renderer": "1"},
    }
    key |= {name: values.pop(name) for name in list(values) if name in key}
    gib = 1 << 30
    defaults = {
        "key": CapacityKey(**key),
        "model": "demo",
        "steps": 4,
        "memory_bytes": 8 * gib,
        "denoise": make_curve(
            {1: (0.1, gib), 2: (0.1, 2 * gib), 4: (0.1, 3 * gib), 8: (0.2, 7 * gib)}, knee=4, cap=8
        ),
        "decode": make_curve({1: (0.05, gib), 2: (0.1, gib)}, knee=1, cap=2, bound="rows"),
        "worker": "gpu-box-1",
        "at": 1.76e9,
    }
    return Capacity(**{**defaults, **values})
