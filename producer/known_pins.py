"""With which weights a sweep will be rendered, told before any worker has claimed from it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from producer.models import weights_of
from producer.references import DIGEST_PART
from shared.errors import InvalidManifest, ObjectMissing, UnknownSweep
from shared.pin import Pin

if TYPE_CHECKING:
    from producer.client import Client
    from shared.storage import Storage
    from shared.sweep import Sweep

WALKED_RECORDS = 20_000
"""Objects under ``sweeps/`` looked through for earlier pins: 20 requests."""
READ_PINS = 32
"""Earlier pins of one model that are read."""
PIN_KEY = re.compile(r"sweeps/[^/]+/pins/([0-9a-f]{16})\.json")


@dataclass(frozen=True, kw_only=True)
class KnownPin:
    """The weights of one model, and who says so.

    Attributes:
        key: The queue's name for the model.
        option: The model as people write it.
        pin: None where nobody knows.
        source: Such as ``a worker``.
    """

    key: str
    option: str
    pin: Pin | None
    source: str


def known_pins(client: Client, sweep: Sweep) -> tuple[KnownPin, ...]:
    """For each model of the sweep, the pin that its next worker will most likely have.

    What pins the sweep itself comes first, then what live workers have loaded, then what earlier
    sweeps of the model were rendered with, first in the queue, then in storage.

    Raises:
        QueueUnavailable: Redis does not answer.
        StorageError: Storage does not answer.
    """
    found = {item.key: item.option for item in weights_of(sweep.layout)}
    known: dict[str, tuple[str, str]] = {}
    for key, text, source in _in_queue(client, sweep.id):
        known.setdefault(key, (text, source))
    if set(found) - set(known):
        for key, text, source in _in_storage(client.storage, sweep, set(found) - set(known)):
            known.setdefault(key, (text, source))
    return tuple(
        KnownPin(
            key=key,
            option=option,
            pin=_parsed(known[key][0]) if key in known else None,
            source=known[key][1] if key in known else "",
        )
        for key, option in found.items()
    )


def _in_queue(client: Client, sweep_id: str) -> Iterator[tuple[str, str, str]]:
    """Model key, pin and source; the best first."""
    try:
        for key, text in client.queue.status(sweep_id).pins.items():
            yield key, text, "this sweep"
    except UnknownSweep:
        pass
    served = [item for item in client.models() if item.pin is not None]
    for item in sorted(served, key=lambda item: -item.workers):
        yield item.key, str(item.pin), "a worker"
    for status in client.sweeps():
        for key, text in status.pins.items():
            yield key, text, f"sweep {status.id}"


def _in_storage(storage: Storage, sweep: Sweep, wanted: set[str]) -> Iterator[tuple[str, str, str]]:
    """Of earlier sweeps with its name, else of any; where they differ, the most frequent pin."""
    named = f"sweeps/{sweep.id[:-DIGEST_PART]}-"
    for prefix in (named, "sweeps/"):
        keys = _pin_keys(storage, prefix)
        for model in sorted(wanted):
            texts = _read(storage, keys.get(model, ()))
            if texts:
                yield model, texts.most_common(1)[0][0], "an earlier sweep"
                wanted = wanted - {model}
        if not wanted:
            return


def _pin_keys(storage: Storage, prefix: str) -> dict[str, list[str]]:
    """Model key to where its pins lie, among the first records under a prefix."""
    keys: dict[str, list[str]] = {}
    for item in islice(storage.list(prefix), WALKED_RECORDS):
        match = PIN_KEY.fullmatch(item.key)
        if match:
            keys.setdefault(match[1], []).append(item.key)
    return keys


def _read(storage: Storage, keys: Sequence[str]) -> Counter[str]:
    texts: Counter[str] = Counter()
    for key in keys[:READ_PINS]:
        try:
            text = storage.get(key).decode(errors="replace")
        except ObjectMissing:
            continue
        if _parsed(text) is not None:
            texts[text] += 1
    return texts


def _parsed(text: str) -> Pin | None:
    """The pin, or None for one of another version: its images are not this one's."""
    try:
        return Pin.from_text(text)
    except InvalidManifest:
        return None
