"""Which device renders, and in which number format."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from pathlib import Path

import torch

from shared.errors import InvalidSettings

CPUINFO = Path("/proc/cpuinfo")


def pick_device(name: str | None = None) -> torch.device:
    """The named device, else the best there is: CUDA, then Apple's MPS, then the CPU.

    Raises:
        InvalidSettings: No such device here.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cuda", "mps", "cpu"):
        raise InvalidSettings(f"device {name!r} is unknown: use cuda, cuda:N, mps or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidSettings(
            f"device {name!r} is not here: torch sees {torch.cuda.device_count()} CUDA devices; "
            "use --device cpu, or a torch built for this machine's GPU"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InvalidSettings(f"device {name!r} is not here: use --device cpu")
    return device


def dtype_for(device: torch.device) -> torch.dtype:
    """float16 on a GPU, float32 on a CPU (where half precision is slower, not faster)."""
    return torch.float32 if device.type == "cpu" else torch.float16


def hardware_name(device: torch.device) -> str:
    """What measurements of a device hold for: its kind, and how much of it this process has."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if device.type == "mps":
        return f"{_processor()} (mps), {torch.mps.recommended_max_memory() / 2**30:.0f} GiB"
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        held = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        memory = f", {held / 2**30:.0f} GiB"
    return f"{_processor()}, threads: {torch.get_num_threads()}{memory}"


def _processor() -> str:
    """The CPU's model where the system tells it, else its architecture."""
    with suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", CPUINFO.read_text(), re.MULTILINE)
        if found:
            return " ".join(found.group(1).split())
    return platform.processor() or platform.machine()


def leave_a_core(device: torch.device) -> None:
    """On a CPU, compute with one thread less than there are cores, unless OMP_NUM_THREADS says.

    Encoding, uploads, Redis and S3 want a core too, and torch's threads wait for each other at
    every operation: one that is not running stops all of them.
    """
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        torch.set_num_threads(max(1, (cores or 1) - 1))
