"""How much of a sweep storage holds already, told before it is submitted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from producer.known_pins import KnownPin, known_pins
from producer.results import SweepResults
from producer.stored import stored_sizes

if TYPE_CHECKING:
    from producer.client import Client
    from shared.sweep import Sweep

CHECK_LIMIT = 1_000_000
"""Jobs that are all looked up: about 40 s of digests; of larger sweeps, a sample is."""
SAMPLE = 4_000
"""Jobs looked up of a larger sweep: the share found is then within 2% of the true one."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What one model's images were looked up by.

    Attributes:
        model: As people write it.
        weights: The fingerprint; None where nobody knows it.
        source: Who says so.
    """

    model: str
    weights: str | None
    source: str


@dataclass(frozen=True, kw_only=True)
class StorageCheck:
    """What a submit would find.

    Attributes:
        stored: Jobs whose image exists.
        missing: Jobs that will be rendered.
        unknown: Jobs of models whose weights nobody knows: no telling.
        exact: Whether every job was looked up; else the counts are scaled from a sample.
        reuse: Whether stored images are taken: the sweep's own ``reuse``.
        weights: By model.
    """

    stored: int
    missing: int
    unknown: int
    exact: bool
    reuse: bool
    weights: tuple[Weights, ...]


def check_storage(client: Client, sweep: Sweep, *, limit: int = CHECK_LIMIT) -> StorageCheck:
    """Look up the sweep's images, one by one or by a listing, whichever is less work.

    Args:
        limit: Jobs up to which all are looked up.

    Raises:
        QueueUnavailable: Redis does not answer.
        StorageError: Storage does not answer.
    """
    known = known_pins(client, sweep)
    layout = sweep.layout
    pins = {item.key: item.pin for item in known if item.pin is not None}
    results = SweepResults(sweep.manifest, layout, pins, client.storage)
    exact = layout.total <= limit
    looked_at: Sequence[int] = (
        range(layout.total)
        if exact
        # the same sample every time; nothing of it is secret
        else random.Random(0).sample(range(layout.total), SAMPLE)
    )
    stored = len(stored_sizes(results, looked_at)) if pins else 0
    unknown = sum(block.size for block in layout.blocks if block.model not in pins)
    if not exact:
        stored = min(round(stored / len(looked_at) * layout.total), layout.total - unknown)
    return StorageCheck(
        stored=stored,
        missing=layout.total - unknown - stored,
        unknown=unknown,
        exact=exact,
        reuse=sweep.manifest.reuse,
        weights=tuple(map(_weights, known)),
    )


def _weights(item: KnownPin) -> Weights:
    return Weights(
        model=item.option,
        weights=None if item.pin is None else item.pin.weights,
        source=item.source,
    )
