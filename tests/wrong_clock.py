"""A process whose clock is wrong: libfaketime, loaded before everything else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def wrong_clock(seconds: float) -> dict[str, str]:
    """The environment of a process whose clock is off; timers go on as ever.

    Raises:
        AssertionError: libfaketime is not there: it runs on Linux only.
    """
    spec = importlib.util.find_spec("libfaketime")
    assert sys.platform == "linux", "a process' clock can be set on Linux only"
    assert spec is not None, "pip install '.[dev]'"
    assert spec.origin is not None
    library = Path(spec.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"
    assert library.exists(), library
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{seconds:+g}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
