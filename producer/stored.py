"""Which images of a sweep storage holds, told from pins and digests alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from shared.addressing import address

if TYPE_CHECKING:
    from producer.results import SweepResults

LOOK_UP_LIMIT = 5_000
"""Images asked for one by one; beyond it a listing, 1,000 a request, is cheaper."""


def stored_sizes(results: SweepResults, positions: Iterable[int]) -> dict[int, int]:
    """Bytes of each position's image, for those that are stored.

    Positions of models that no worker has shown its weights for yet are left out.

    Raises:
        StorageError: Storage does not answer.
    """
    keys = _positions_by_key(results, positions)
    if len(keys) <= LOOK_UP_LIMIT:
        sizes: Mapping[str, int] = results.storage.sizes(keys)
    else:
        prefix = results.manifest.output.key.partition("{")[0]
        listed = results.storage.list(prefix)
        sizes = {item.key: item.size for item in listed if item.key in keys}
    return {position: size for key, size in sizes.items() for position in keys[key]}


def _positions_by_key(results: SweepResults, positions: Iterable[int]) -> dict[str, list[int]]:
    """Two positions share a key where fields that can't act are all that tells them apart."""
    layout = results.layout
    keys: dict[str, list[int]] = {}
    for position in positions:
        pin = results.pins.get(layout.block_of(position).model)
        if pin is not None:
            place = address(layout.job_at(position), pin, results.manifest.output)
            keys.setdefault(place.key, []).append(position)
    return keys
