"""What allocators say when memory is out, and how much they were asked for."""

from __future__ import annotations

import re

OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "status_alloc_failed",
)
"""How the CPU, MPS, cuBLAS and cuDNN allocators say it; CUDA's own has a class."""

ASKED = re.compile(r"tried to allocate ([\d.]+) ?([KMGT]?i?B|bytes)", re.IGNORECASE)

UNITS = {"b": 1, "bytes": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}
"""Powers of two: MPS writes GB where CUDA writes GiB, and both mean this."""


def says_out_of_memory(text: str) -> bool:
    """Whether a message is an allocator's."""
    lower = text.lower()
    return any(words in lower for words in OUT_OF_MEMORY)


def bytes_asked_for(text: str) -> int | None:
    """The allocation that failed, or None where the message does not tell."""
    found = ASKED.search(text)
    if found is None:
        return None
    unit = found.group(2).lower().replace("i", "")
    try:
        return int(float(found.group(1)) * UNITS[unit])
    except (ValueError, KeyError):
        return None


def bytes_text(count: float) -> str:
    """As allocators write it: ``"2.00 GiB"``."""
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}"
        count /= 1024
    return f"{count:,.2f} GiB"
