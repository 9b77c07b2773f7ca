"""One look at what a pool has to do, for whoever wakes workers or is one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from shared.backlog import UNPINNED


def short_pin(pin: str) -> str:
    """How the trees of turns name a pin, and so ``Waiting.pin``."""
    return hashlib.sha1(pin.encode()).hexdigest()[:16] if pin else UNPINNED


@dataclass(frozen=True, kw_only=True)
class Look:
    """What there is to do.

    Attributes:
        listed: Models with claimable work, each with the short pin of who may claim it.
        expired: Models of leases whose time is over, "" for finalise items; the jobs are claimable.
        finalise_items: Sweeps that wait for their index.
    """

    listed: frozenset[tuple[str, str]]
    expired: tuple[str, ...]
    finalise_items: int

    @classmethod
    def of(cls, listed: Iterable[bytes], expired: Iterable[bytes], finalise_items: int) -> Look:
        """From the reply of ``work.lua``."""
        pairs = (root.decode(errors="replace").partition(" ") for root in listed)
        return cls(
            listed=frozenset((model, pin) for model, _, pin in pairs),
            expired=tuple(model.decode(errors="replace") for model in expired),
            finalise_items=finalise_items,
        )

    @property
    def models(self) -> list[str]:
        """Models with work for anybody."""
        return sorted({model for model, _ in self.listed} | set(self.expired) - {""})

    def claimable(self, model: str, pin: str = "") -> bool:
        """Whether a claim for the model may find work: for any pin by default."""
        pins = {UNPINNED, short_pin(pin)}
        return model in self.expired or any(
            model == name and (not pin or its_pin in pins) for name, its_pin in self.listed
        )
