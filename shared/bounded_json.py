"""JSON from strangers, read only where what it would take in memory is bounded beforehand.

A parsed list takes twenty times the memory of its two brackets. So values are counted in the text
first, which takes no more memory than the text itself.
"""

from __future__ import annotations

import json

from shared.errors import InvalidManifest
from shared.mistakes import shown

MAX_ITEMS = 4_000_000
"""Values of one text, lists and objects among them: about 300 MB when each is an empty list."""


def read_json(text: str, what: str) -> object:
    """The value, in which no object has a member twice and every number is finite.

    Args:
        what: The text's name, for messages.

    Raises:
        InvalidManifest: It is not such JSON, or has more than MAX_ITEMS values.
    """
    if _items(text) > MAX_ITEMS:
        raise InvalidManifest(f"{what}: more than {MAX_ITEMS:,} values: split it")

    def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for name, value in pairs:  # of two alike, readers would not agree which one counts
            if name in found:
                raise InvalidManifest(f"{what}: member {shown(name)} is given twice: keep one")
            found[name] = value
        return found

    def constant(token: str) -> object:
        raise InvalidManifest(f"{what}: {token} is not JSON: numbers are finite")

    try:
        value: object = json.loads(text, object_pairs_hook=members, parse_constant=constant)
    except (ValueError, RecursionError) as exc:
        raise InvalidManifest(f"{what}: not JSON ({str(exc)[:100]})") from exc
    return value


def _items(text: str) -> int:
    """Lists, objects, strings and commas: never fewer than there are values."""
    bare = text.replace("\\\\", "").replace('\\"', "")  # no quote is left that ends no string
    quotes = bare.count('"')
    if quotes > 2 * MAX_ITEMS:
        return quotes
    outside = "".join(bare.split('"')[::2])
    return 1 + outside.count("[") + outside.count("{") + outside.count(",")
