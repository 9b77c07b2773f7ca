"""Jobs, sweeps and pins with every default filled in: a test says only what matters to it."""

from __future__ import annotations

from typing import Any

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
