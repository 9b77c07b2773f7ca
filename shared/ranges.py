"""Ranges: ``0..31``, ``0..30..2`` and ``1.0..7.5..0.5``, both ends included."""

from __future__ import annotations

import re
from decimal import Decimal

from shared.errors import InvalidSweep
from shared.fields import FIELDS, Value, check_value, shown

_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?\s*")

MAX_VALUES = 1_000_000
"""Bounds a list of values in one manifest; whole-number ranges of seeds are never listed."""


def parse_range(name: str, text: str) -> range | tuple[Value, ...] | None:
    """Read a range of a numeric field, or None if the text is not one.

    Args:
        name: Field whose values these are; text fields have no ranges.
        text: ``start..stop`` or ``start..stop..step``; numbers with a fraction need the step.

    Returns:
        A lazy ``range`` for whole-number fields, a tuple for the others.

    Raises:
        InvalidSweep: It is empty, endless, out of the field's bounds, or too long.
    """
    field = FIELDS[name]
    if field.kind not in ("integer", "number"):
        return None
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    start, stop = Decimal(match[1]), Decimal(match[2])
    if match[3] is None and not (start == int(start) and stop == int(stop)):
        raise InvalidSweep(
            f"{name} {shown(text)} has fractions but no step: write {text.strip()}..0.5",
            field=name,
            value=text,
        )
    step = Decimal(match[3]) if match[3] is not None else Decimal(1)
    if step <= 0 or stop < start:
        raise InvalidSweep(
            f"{name} {shown(text)} is an empty range: write the smaller end first "
            f"and a step above 0",
            field=name,
            value=text,
        )
    count = int((stop - start) / step) + 1
    last = start + (count - 1) * step
    if field.kind == "integer":
        for part in (start, step):
            if part != int(part):
                raise InvalidSweep(
                    f"{name} {shown(text)} has a fraction: {name} takes whole numbers",
                    field=name,
                    value=text,
                )
        check_value(name, int(start))
        check_value(name, int(last))
        if field.decides == "row":
            return range(int(start), int(last) + 1, int(step))
    if count > MAX_VALUES:
        raise InvalidSweep(
            f"{name} {shown(text)} has {count:,} values: at most {MAX_VALUES:,} can be listed",
            field=name,
            value=text,
        )
    return tuple(check_value(name, str(start + step * number)) for number in range(count))
