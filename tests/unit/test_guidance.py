"""A scale for each row is, bit for bit, the number that the row's job alone would use."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs the worker's dependencies")

import torch

from worker.guidance import RowGuidance

SCALES = [1.01, 1.5, 3.3, 7.5, 12.1, 100.0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_each_row_is_multiplied_as_by_its_own_number(dtype: str) -> None:
    latents = torch.randn(len(SCALES), 4, 8, 8, generator=torch.Generator().manual_seed(0))
    latents = latents.to(getattr(torch, dtype))

    together = RowGuidance(SCALES, torch.device("cpu")) * latents

    alone = torch.cat([scale * latents[row : row + 1] for row, scale in enumerate(SCALES)])
    assert together.dtype == alone.dtype
    assert torch.equal(together, alone)


def test_it_compares_as_its_greatest() -> None:
    guidance = RowGuidance([1.5, 7.5], torch.device("cpu"))

    assert guidance > 1
    assert guidance > 7
    assert not guidance > 7.5
