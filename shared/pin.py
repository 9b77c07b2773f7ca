"""What the first worker to claim from a sweep pins it to: the weights and how they render."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields

from shared.canonical import canonical_json
from shared.errors import InvalidManifest
from shared.mistakes import shown

TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "str | None": (str, type(None)),
}
"""What each member's annotation lets it be."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Everything of a worker that decides pixels, and the checkpoint's own defaults.

    Attributes:
        weights: Resolved hub commit, or a hash over the weight files.
        dtype: ``"float16"``, ``"bfloat16"`` or ``"float32"``.
        renderer: Version of the renderer's arithmetic; a new one makes new images.
        height: The checkpoint's own, pixels.
        width: The checkpoint's own, pixels.
        scheduler: The checkpoint's own, a diffusers class name.
        embeds_guidance: Whether the model itself takes the guidance scale (LCM, Flux).
        unconditional: Whether it makes images of noise alone (DDPM): a prompt can't act.
        autocast: Format that matrix products are computed in, where it is not the weights' own.
        vae_tiling: The VAE decodes large images in overlapping tiles.
    """

    weights: str
    dtype: str
    renderer: str
    height: int
    width: int
    scheduler: str
    embeds_guidance: bool
    unconditional: bool = False
    autocast: str | None = None
    vae_tiling: bool = False

    def to_record(self) -> dict[str, object]:
        """Its members; one that a later version added is left out where it says nothing new."""
        later = {item.name: item.default for item in fields(self) if item.default is not MISSING}
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in later or value != later[name]
        }

    def to_text(self) -> str:
        """Canonical JSON: workers with equal text may serve one sweep."""
        return canonical_json(self.to_record())

    @classmethod
    def from_text(cls, text: str) -> Pin:
        """Read it back.

        Raises:
            InvalidManifest: It is not a pin of this version.
        """
        try:
            pin = cls(**json.loads(text))
            pin.to_text().encode()  # no NaN, no lone surrogates
        except (ValueError, TypeError, RecursionError) as exc:
            raise InvalidManifest(f"pin {shown(text)} is not one of this version") from exc
        for item in fields(cls):
            value = getattr(pin, item.name)
            if type(value) not in TYPES[str(item.type)]:
                raise InvalidManifest(f"pin: {item.name} {shown(value)} is not of type {item.type}")
        if pin.height < 1 or pin.width < 1:
            raise InvalidManifest(f"pin: {pin.height} x {pin.width} pixels is no image's size")
        return pin
