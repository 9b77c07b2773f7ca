"""Muon for the matrices of a network and AdamW for the rest: few steps go a long way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

ITERATIONS = 5
"""Newton-Schulz steps; the quintic's coefficients bring singular values into about 0.7..1.2."""

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalised(matrix: Tensor) -> Tensor:
    """The nearest matrix with singular values of about one, by a quintic Newton-Schulz iteration.

    The iteration runs on the Gram matrix of the short side, since its every step is a polynomial
    of that: for a convolution of (96, 96, 3, 3) nine times less work.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/.
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    gram = x @ x.T
    # All factors are polynomials of one symmetric matrix, so they commute.
    identity = torch.eye(len(gram)).to(gram)
    product = identity
    for _ in range(ITERATIONS):
        factor = a * identity + b * gram + c * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is orthogonalised; convolutions count as (out, in * h * w)."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, momentum: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                buffer = state["momentum"]
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(buffer, group["momentum"])
                flat = update.reshape(len(update), -1)
                scale = max(1.0, flat.shape[0] / flat.shape[1]) ** 0.5
                parameter.add_(
                    orthogonalised(flat).reshape_as(parameter), alpha=-group["lr"] * scale
                )


def optimisers(
    modules: Iterable[nn.Module], *, muon_rate: float, adam_rate: float
) -> list[torch.optim.Optimizer]:
    """Muon for hidden matrices and convolutions; AdamW for embeddings, ends, norms and biases."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in modules:
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            at_an_end = "embedding" in name and "time" not in name
            at_an_end = at_an_end or "conv_in" in name or "conv_out." in name or "quant" in name
            (others if parameter.ndim < 2 or at_an_end else matrices).append(parameter)
    return [
        Muon(matrices, lr=muon_rate, momentum=0.95),
        torch.optim.AdamW(others, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
