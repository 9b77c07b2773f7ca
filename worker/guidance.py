"""A guidance scale for each row of a batch, passed where the pipeline expects one number."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class RowGuidance:
    """Multiplies as one value a row, compares as the greatest of them.

    Pipelines that apply classifier-free guidance outside the model only ask ``scale > 1`` and
    compute ``scale * (prompted - unprompted)``. A number is multiplied in float32 whatever the
    tensor's own format and the product rounded to it; so is each row here, and every row is
    bitwise what its job alone would get.
    """

    def __init__(self, scales: Sequence[float], device: torch.device) -> None:
        # (rows, 1, 1, 1) against latents (rows, channels, height, width)
        self._rows = torch.tensor(scales, dtype=torch.float32, device=device).view(-1, 1, 1, 1)
        self._greatest = max(scales)

    def __gt__(self, other: float) -> bool:
        return self._greatest > other

    def __mul__(self, latents: torch.Tensor) -> torch.Tensor:
        return (self._rows * latents).to(latents.dtype)
