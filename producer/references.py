"""Which sweep a person means: a whole id, a unique beginning of one, or a name."""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import InvalidInput, UnknownSweep

DIGEST_PART = 13
"""Characters an id ends with: a dash and 12 hex digits of the manifest's digest."""
SHOWN = 4
"""How many candidates an ambiguous reference lists."""


def pick_sweep(reference: str, known: Sequence[str]) -> str:
    """The one sweep id that a reference means.

    Args:
        reference: As the user wrote it.
        known: Ids of the pool's sweeps.

    Raises:
        UnknownSweep: None matches.
        InvalidInput: Several do.
    """
    if reference in known:
        return reference
    named = [item for item in known if item[:-DIGEST_PART] == reference]
    matches = named or [item for item in known if reference and item.startswith(reference)]
    if not matches:
        raise UnknownSweep(reference)
    if len(matches) > 1:
        listed = ", ".join(matches[:SHOWN]) + (", ..." if len(matches) > SHOWN else "")
        raise InvalidInput(f"sweep {reference!r} can be {listed}: write more of the id")
    return matches[0]
