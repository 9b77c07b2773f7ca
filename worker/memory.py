"""How much memory this process has, and the most that it held while something ran."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Thread
from typing import Protocol

import psutil
import torch

from worker.room import main_memory_free_bytes

SAMPLE_SECONDS = 0.005
"""Between two looks at a resident set: finer than a denoising step of a small model."""


class Memory(Protocol):
    """One device's memory as one process sees it."""

    def available(self) -> int:
        """Bytes that this process could hold in all, what it holds now included."""

    def start(self) -> None:
        """Begin to watch."""

    def stop(self) -> int | None:
        """Most bytes that were held since `start`; None if nothing was watched."""


def memory_of(device: torch.device) -> Memory:
    """What can be told of a device's memory."""
    if device.type == "cuda":
        return CudaMemory(device)
    if device.type == "mps":
        return SampledMemory(torch.mps.driver_allocated_memory, torch.mps.recommended_max_memory)
    return SampledMemory(resident_bytes, reachable_bytes)


class CudaMemory:
    """CUDA's own counters of what torch's allocator holds.

    What is allocated counts, not what is reserved: cached blocks are given back before an
    allocation fails, and the headroom of ``worker.capacity`` is for fragments.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def available(self) -> int:
        """Free now, by whatever is on the device, and what this process has reserved."""
        free, _ = torch.cuda.mem_get_info(self._device)
        return int(free + torch.cuda.memory_reserved(self._device))

    def start(self) -> None:
        """Forget the last peak."""
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)

    def stop(self) -> int | None:
        """The allocator's peak since then."""
        torch.cuda.synchronize(self._device)
        return int(torch.cuda.max_memory_allocated(self._device))


class SampledMemory:
    """Asks again and again, in a thread, where nobody keeps a peak."""

    def __init__(self, held: Callable[[], int], available: Callable[[], int]) -> None:
        self._held = held
        self._available = available
        self._peak = 0
        self._over = Event()
        self._thread: Thread | None = None

    def available(self) -> int:
        """As it is now; others may take of it."""
        return self._available()

    def start(self) -> None:
        """Begin to look."""
        self.stop()
        self._peak = self._held()
        self._over.clear()
        self._thread = Thread(target=self._sample, name="memory", daemon=True)
        self._thread.start()

    def stop(self) -> int | None:
        """The most that was seen, now included."""
        if self._thread is None:
            return None
        self._over.set()
        self._thread.join()
        self._thread = None
        return max(self._peak, self._held())

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, self._held())


def resident_bytes() -> int:
    """What this process holds."""
    return int(psutil.Process().memory_info().rss)


def reachable_bytes() -> int:
    """What this process could come to hold: its own, and what the machine or container has left."""
    return resident_bytes() + main_memory_free_bytes()
