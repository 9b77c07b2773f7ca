"""What allocators say: recognised, and read for how much they were asked."""

from __future__ import annotations

import pytest

from worker.allocators import bytes_asked_for, bytes_text, says_out_of_memory

GIB = 1 << 30
MIB = 1 << 20


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        (
            "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 15 GiB",
            5 * GIB // 2,
        ),
        ("CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 14.75 GiB total)", 20 * MIB),
        ("CUDA out of memory. Tried to allocate 1024 bytes. GPU 0 has", 1024),
        (
            "MPS backend out of memory (MPS allocated: 9 GB, max allowed: 9.07 GB). "
            "Tried to allocate 256.00 MB on private pool.",
            256 * MIB,
        ),
        (
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 34359738368 bytes. Error code 12 (Cannot allocate)",
            32 * GIB,
        ),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", None),
        ("out of memory: tried to allocate ... MiB", None),
    ],
)
def test_an_allocators_message_is_recognised_and_read(message: str, asked: int | None) -> None:
    assert says_out_of_memory(message)
    assert bytes_asked_for(message) == asked


def test_other_messages_are_not_an_allocators() -> None:
    assert not says_out_of_memory("mat1 and mat2 shapes cannot be multiplied")
    assert bytes_asked_for("mat1 and mat2 shapes cannot be multiplied") is None


@pytest.mark.parametrize(
    ("count", "text"),
    [(12, "12 bytes"), (2048, "2 KiB"), (20 * MIB, "20 MiB"), (5 * GIB // 2, "2.50 GiB")],
)
def test_bytes_are_written_as_allocators_write_them(count: int, text: str) -> None:
    assert bytes_text(count) == text
