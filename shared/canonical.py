"""One JSON text for one value, so that equal things hash equal."""

from __future__ import annotations

import hashlib
import json

MAX_EXACT_INTEGER = 2**53
"""Floats beyond it may not be whole numbers written exactly, so they stay floats."""


def canonical_json(value: object) -> str:
    """Serialise with sorted keys, no spaces, UTF-8 as itself, and 5.0 written as 5.

    Close to RFC 8785; floats are Python's shortest round-trip form.

    Raises:
        ValueError: A float is NaN or infinite.
    """
    return json.dumps(
        _whole(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256_hex(text: str) -> str:
    """SHA-256 of the UTF-8 text, 64 hex digits.

    Lone surrogates can't reach here: the border refuses them.
    """
    return hashlib.sha256(text.encode()).hexdigest()


def _whole(value: object) -> object:
    if isinstance(value, float) and value.is_integer() and abs(value) < MAX_EXACT_INTEGER:
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(item) for item in value]
    return value
