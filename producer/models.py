"""The weights a sweep needs, as a worker is told of them."""

from __future__ import annotations

from dataclasses import dataclass

from shared.layout import Layout
from shared.weights import WeightsName


@dataclass(frozen=True, kw_only=True)
class Weights(WeightsName):
    """One set of weights.

    Attributes:
        jobs: How many jobs of the sweep need them.
    """

    jobs: int


def weights_of(layout: Layout) -> tuple[Weights, ...]:
    """Every set of weights of a sweep, in the order of its blocks."""
    sizes: dict[WeightsName, int] = {}
    for block in layout.blocks:
        name = WeightsName.of(layout.job_at(block.offset))
        sizes[name] = sizes.get(name, 0) + block.size
    return tuple(Weights(**vars(name), jobs=jobs) for name, jobs in sizes.items())
