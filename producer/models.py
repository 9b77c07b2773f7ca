"""The weights a sweep needs, as a worker is told of them."""

from __future__ import annotations

from dataclasses import dataclass

from shared.lanes import model_key
from shared.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One set of weights.

    Attributes:
        key: The queue's name for them.
        model: Hub id or local folder.
        revision: Hub branch, tag or commit.
        variant: Weight files' variant.
        jobs: How many jobs of the sweep need them.
    """

    key: str
    model: str
    revision: str | None
    variant: str | None
    jobs: int

    @property
    def option(self) -> str:
        """``MODEL`` or ``MODEL@REVISION``, as ``seedbed worker --model`` takes it."""
        return self.model if self.revision is None else f"{self.model}@{self.revision}"


def weights_of(layout: Layout) -> tuple[Weights, ...]:
    """Every set of weights of a sweep, in the order of its blocks."""
    sizes: dict[tuple[str, str | None, str | None], int] = {}
    for block in layout.blocks:
        job = layout.job_at(block.offset)
        name = (job.model, job.revision, job.variant)
        sizes[name] = sizes.get(name, 0) + block.size
    return tuple(
        Weights(key=model_key(*name), model=name[0], revision=name[1], variant=name[2], jobs=jobs)
        for name, jobs in sizes.items()
    )
