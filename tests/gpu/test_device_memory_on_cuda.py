"""What a worker tells of a CUDA device's memory while it may be at work."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the worker's dependencies")

import torch

from worker.device_memory import device_memory

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_tensors_show_as_allocated_and_come_out_of_what_is_free() -> None:
    device = torch.device("cuda")
    torch.zeros(1, device=device)  # the context itself takes some
    before = device_memory(device)
    held = torch.zeros(256 << 20, dtype=torch.uint8, device=device)
    after = device_memory(device)

    assert after.allocated - before.allocated == held.nbytes
    assert after.reserved >= after.allocated
    assert after.free <= before.free
    assert after.free + after.reserved <= after.limit == before.limit


def test_asking_resets_no_peak() -> None:
    device = torch.device("cuda")
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.zeros(64 << 20, dtype=torch.uint8, device=device)
    peak = torch.cuda.max_memory_allocated(device)
    del held
    device_memory(device)

    assert torch.cuda.max_memory_allocated(device) == peak
