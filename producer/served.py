"""What a pool's workers serve, as they announce it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidManifest
from shared.pin import Pin


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """One set of weights that at least one live worker serves.

    Attributes:
        model: Hub id or folder.
        revision: Hub branch, tag or commit.
        variant: Weight files' variant.
        vae: Put in place of the checkpoint's.
        loras: Put into it.
        key: The queue's name for these three.
        weights: Fingerprint; None, like all that follow from it, until a worker has loaded it,
            or where the worker is of another version.
        dtype: What it computes in.
        height: The checkpoint's own, pixels.
        width: The checkpoint's own, pixels.
        scheduler: The checkpoint's own.
        schedulers: Class names of those that suit it.
        fields: Fields of a job that can act on it.
        pin: All of this that decides pixels, as text.
        workers: How many serve it.
        loaded: How many of them have it loaded now.
        batch_sizes: Images a batch, each size once.
    """

    model: str
    revision: str | None
    variant: str | None
    key: str
    weights: str | None = None
    dtype: str | None = None
    height: int | None = None
    width: int | None = None
    scheduler: str | None = None
    schedulers: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    vae: str | None = None
    loras: tuple[str, ...] = ()
    pin: str | None = None
    workers: int = 0
    loaded: int = 0
    batch_sizes: tuple[int, ...] = ()

    @property
    def option(self) -> str:
        """``MODEL`` or ``MODEL@REVISION``, as ``seedbed worker --model`` takes it."""
        return self.model if self.revision is None else f"{self.model}@{self.revision}"


def served_models(workers: Iterable[Mapping[str, Any]]) -> tuple[ServedModel, ...]:
    """The models of a pool, by name; one with several weights comes once for each.

    Args:
        workers: What the live workers say of themselves.
    """
    found: dict[tuple[str, str | None], list[tuple[Mapping[str, Any], bool]]] = {}
    for worker in workers:
        for served in worker.get("served", ()):
            loaded = served["key"] in worker.get("loaded_keys", [worker.get("loaded_key")])
            found.setdefault((served["key"], served.get("pin")), []).append((served, loaded))
    for key, pin in list(found):
        pins = [other for name, other in found if name == key and other is not None]
        if pin is None and len(pins) == 1:  # those who have yet to load it will have the same
            found[(key, pins[0])] += found.pop((key, pin))
    models = (_describe(pin, group) for (_, pin), group in found.items())
    return tuple(sorted(models, key=lambda item: (item.option, item.variant or "", item.pin or "")))


def mixed_weights(models: Iterable[ServedModel]) -> Iterator[tuple[str, int]]:
    """Models of which workers have different weights loaded, and how many."""
    pins: dict[tuple[str, str], set[str]] = {}
    for item in models:
        if item.pin is not None:
            pins.setdefault((item.key, item.option), set()).add(item.pin)
    yield from ((option, len(found)) for (_, option), found in pins.items() if len(found) > 1)


def _parsed(pin: str) -> Pin | None:
    """The pin, or None for that of a worker of another version, which names it otherwise."""
    try:
        return Pin.from_text(pin)
    except InvalidManifest:
        return None


def _describe(pin: str | None, group: list[tuple[Mapping[str, Any], bool]]) -> ServedModel:
    """What workers with equal weights say of one model."""
    known = max((served for served, _ in group), key=len)  # one that has loaded it says more
    parsed = None if pin is None else _parsed(pin)
    sizes = {served["batch_size"] for served, _ in group if "batch_size" in served}
    return ServedModel(
        model=known["model"],
        revision=known["revision"],
        variant=known["variant"],
        key=known["key"],
        vae=known.get("vae"),
        loras=tuple(known.get("loras", ())),
        weights=parsed.weights if parsed else None,
        dtype=parsed.dtype if parsed else None,
        height=parsed.height if parsed else None,
        width=parsed.width if parsed else None,
        scheduler=parsed.scheduler if parsed else None,
        schedulers=tuple(known.get("schedulers", ())),
        fields=tuple(known.get("fields", ())),
        pin=pin,
        workers=len(group),
        loaded=sum(loaded for _, loaded in group),
        batch_sizes=tuple(sorted(sizes)),
    )
