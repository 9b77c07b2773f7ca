"""Numbers as people and programs write them: ``5``, ``5.0``, ``"5"`` and ``"5e0"`` are one."""

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation

from shared.canonical import MAX_EXACT_INTEGER

INTEGER = re.compile(r"[-+]?[0-9]+")
NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
MAX_DIGITS = 1_000
"""Of a number's text: far above any field's range, below what CPython refuses to convert."""


def whole_number(value: object) -> int | None:
    """The exact whole number that a value says, or None if it says none.

    A float of 2**53 or more says none: it may have been rounded on its way here.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        exact = value.is_integer() and abs(value) < MAX_EXACT_INTEGER
        return int(value) if exact else None
    if not isinstance(value, str) or finite_number(value) is None:
        return None
    text = value.strip()
    if INTEGER.fullmatch(text):
        return int(text)
    try:
        number = Decimal(text)
        return int(number) if number == number.to_integral_value() else None
    except InvalidOperation:  # an exponent of twenty digits
        return None


def finite_number(value: object) -> float | None:
    """The finite float that a value says, or None if it says none; -0.0 is 0.0."""
    if isinstance(value, str):
        text = value.strip()
        if len(text) > MAX_DIGITS or not NUMBER.fullmatch(text):
            return None
        number = float(text)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            return None
    else:
        return None
    return number + 0.0 if math.isfinite(number) else None
