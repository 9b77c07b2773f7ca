"""How much memory there is for models, and how much one takes."""

from __future__ import annotations

import gc
from itertools import chain
from pathlib import Path
from typing import Any

import psutil
import torch

from worker.rescue import release_memory

CGROUP = Path("/sys/fs/cgroup")
"""Where a container sees its own limit (cgroup v2); the machine's memory is not all its own."""


def free_bytes(device: torch.device) -> int:
    """Bytes that may still be taken on a device, what torch holds in reserve given back first."""
    release_memory()
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        limit = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return min(int(psutil.virtual_memory().available), int(limit))
    return main_memory_free_bytes()


def main_memory_free_bytes() -> int:
    """What the machine, and the container if this is one, has left."""
    available = int(psutil.virtual_memory().available)
    return min(available, container_free_bytes(CGROUP, available))


def container_free_bytes(folder: Path, otherwise: int) -> int:
    """What a container's limit leaves, cached files not counted as taken; else ``otherwise``."""
    try:
        limit = int((folder / "memory.max").read_text())  # "max" where there is none
        taken = int((folder / "memory.current").read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
        cached = dict(line.split() for line in lines).get("inactive_file", "0")
        return max(0, limit - taken + int(cached))
    except (OSError, ValueError):
        return otherwise


def weights_bytes(*pipelines: Any) -> int:
    """Bytes of all parameters and buffers; what components or pipelines share counts once."""
    seen: dict[object, int] = {}
    for module in chain.from_iterable(pipeline.components.values() for pipeline in pipelines):
        if isinstance(module, torch.nn.Module):
            for tensor in (*module.parameters(), *module.buffers()):
                storage = tensor.untyped_storage()
                # one that accelerate keeps elsewhere has no address of its own
                key = storage.data_ptr() or id(tensor)
                seen[key] = tensor.nbytes if tensor.is_meta else storage.nbytes()
    return sum(seen.values())


def file_bytes(path: Path) -> int:
    """Bytes of the weight files of a checkpoint that was not loaded yet."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*.safetensors"))


class PeakMemory:
    """The most that a device held since this began, beyond what it held then; CUDA only."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = 0
        if device.type == "cuda":
            gc.collect()
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)

    def bytes(self) -> int:
        """Bytes; 0 on devices that don't count."""
        if self._device.type != "cuda":
            return 0
        return max(0, torch.cuda.max_memory_allocated(self._device) - self._before)
