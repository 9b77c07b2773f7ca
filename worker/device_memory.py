"""What a device's memory is taken by, at this moment."""

from __future__ import annotations

import torch

from worker.memory import resident_bytes
from worker.metrics import DeviceMemory
from worker.room import main_memory_free_bytes


def device_memory(device: torch.device) -> DeviceMemory:
    """As torch's allocator and the device tell it; a CPU's as the process and its limit do.

    Nothing is given back for it, and no peak is reset: the device may be at work.
    """
    if device.type == "cuda":
        free, limit = torch.cuda.mem_get_info(device)
        return DeviceMemory(
            allocated=torch.cuda.memory_allocated(device),
            reserved=torch.cuda.memory_reserved(device),
            free=free,
            limit=limit,
        )
    if device.type == "mps":
        reserved, limit = torch.mps.driver_allocated_memory(), torch.mps.recommended_max_memory()
        return DeviceMemory(
            allocated=torch.mps.current_allocated_memory(),
            reserved=reserved,
            free=max(0, limit - reserved),
            limit=limit,
        )
    resident = resident_bytes()
    free = main_memory_free_bytes()
    return DeviceMemory(allocated=resident, reserved=resident, free=free, limit=resident + free)
