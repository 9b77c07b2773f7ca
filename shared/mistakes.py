"""How a message repeats a mistaken value, and hints at the right name."""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Sequence

SHOWN_CHARS = 60
"""How much of a bad value an error message repeats."""
SHOWN_BITS = 160
"""Integers beyond it are told by their size: CPython refuses to print the very long ones."""
NEAR = 0.4
"""difflib's ratio from which a name is a likely slip: DDIM is 0.47 of DDIMScheduler."""
SHOWN_NAMES = 30
"""How many right names an error message lists at most."""


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint with the nearest right name, or the list of them where none is near."""
    slip = name[:SHOWN_CHARS].lower()
    rights = {right.lower(): right for right in known}
    close = difflib.get_close_matches(slip, rights, n=1, cutoff=NEAR)
    holding = [right for right in rights if slip in right] if len(slip) > 2 else []
    if holding:  # "steps" is meant for num_inference_steps, though it is spelt more like "seed"
        close = [min(holding, key=lambda right: (*_depth(slip, right), len(right)))]
    if close:
        return f"did you mean {rights[close[0]]!r}?"
    listed = ", ".join(known[:SHOWN_NAMES])
    return f"it can be {listed}{', ...' if len(known) > SHOWN_NAMES else ''}"


def _depth(slip: str, right: str) -> tuple[bool, int]:
    """Where a slip stands in a right name: as a word of it comes before inside one."""
    return slip not in right.split("_"), right.index(slip)


def shown(value: object) -> str:
    """The value as an error message repeats it: quoted, cut, one line, whatever it is."""
    text = _BRIEF.repr(value).replace("\n", " ")
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 3] + "..."


class _Brief(reprlib.Repr):
    """A repr whose cost is bounded: of nested, endless and hostile values too."""

    def repr_str(self, x: str, level: int) -> str:
        return repr(x[:SHOWN_CHARS])

    def repr_int(self, x: int, level: int) -> str:
        if x.bit_length() <= SHOWN_BITS:
            return repr(x)
        return f"a whole number of about {int(x.bit_length() * math.log10(2)) + 1} digits"


_BRIEF = _Brief()
