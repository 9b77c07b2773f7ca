"""Ranges: ``0..31``, ``0..30..2`` and ``1.0..7.5..0.5``, both ends included."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from fractions import Fraction

from shared.errors import InvalidSweep
from shared.field_values import check_value
from shared.fields import FIELDS, Field, Value
from shared.mistakes import shown
from shared.numbers import finite_number, whole_number

_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?\s*")

MAX_JOBS = 1_000_000_000
"""Of one sweep: positions, counters and bitmap segments are sized for it."""
MAX_VALUES = 1_000_000
"""Bounds a list of values in one manifest; whole-number ranges of seeds are never listed."""


def parse_range(name: str, text: str) -> range | tuple[Value, ...] | None:
    """Read a range of a numeric field, or None if the text is not one.

    Args:
        name: Field whose values these are; text fields have no ranges.
        text: ``start..stop`` or ``start..stop..step``; numbers with a fraction need the step.

    Returns:
        A lazy ``range`` for seeds, a tuple for the others.

    Raises:
        InvalidSweep: It is empty, endless, out of the field's bounds, or too long.
    """
    field = FIELDS[name]
    if field.kind not in ("integer", "number"):
        return None
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    start, stop, step = (_part(field, text, part or "1") for part in match.groups())
    if match[3] is None and not start.denominator == stop.denominator == 1:
        raise _bad(name, text, f"has fractions but no step: write {text.strip()}..0.5")
    if step <= 0 or stop < start:
        raise _bad(name, text, "is an empty range: write the smaller end first and a step above 0")
    for end in (start, stop):
        if not (field.minimum or 0) <= end <= (field.maximum or 0):
            check_value(name, match[1] if end is start else match[2])  # says what is allowed
    count = int((stop - start) / step) + 1
    if field.decides == "row" and field.kind == "integer":
        if count > MAX_JOBS:
            raise _bad(name, text, f"has {count:,} values: a sweep has at most {MAX_JOBS:,} jobs")
        return range(int(start), int(start + (count - 1) * step) + 1, int(step))
    if count > MAX_VALUES:
        raise _bad(name, text, f"has {count:,} values: at most {MAX_VALUES:,} can be listed")
    if field.multiple_of > 1 and step % field.multiple_of:
        remedy = f"{match[1]}..{match[2]}..{field.multiple_of}"
        why = f"steps by {step}, which is no multiple of {field.multiple_of}: write {remedy}"
        raise _bad(name, text, why)
    # A Fraction becomes the float nearest to it: 0..1..0.1 holds 0.3, not 0.30000000000000004
    numbers = (start + step * number for number in range(count))
    if field.kind == "integer":
        return tuple(check_value(name, int(number)) for number in numbers)
    return tuple(check_value(name, float(number)) for number in numbers)


def checked_range(name: str, values: range) -> range | tuple[Value, ...]:
    """The values of a Python ``range``, lazy where the field allows it.

    Raises:
        InvalidSweep: It is empty, out of the field's bounds, or too long.
    """
    field = FIELDS[name]
    if field.kind not in ("integer", "number"):
        raise InvalidSweep(f"{name} is a range of numbers: it takes texts", field=name)
    if not values:
        raise InvalidSweep(f"{name} is an empty range: give at least one value", field=name)
    check_value(name, values[0])
    check_value(name, values[-1])
    count = (values[-1] - values[0]) // values.step + 1  # len() overflows beyond 2**63 - 1
    lazy = values.step > 0 and field.kind == "integer" and field.decides == "row"
    if count > (MAX_JOBS if lazy else MAX_VALUES):
        most = f"a sweep has at most {MAX_JOBS:,} jobs" if lazy else f"at most {MAX_VALUES:,}"
        raise InvalidSweep(
            f"{name} {shown(values)} has {count:,} values: {most}", field=name, value=values
        )
    if lazy:
        return range(values[0], values[-1] + 1, values.step)
    return tuple(check_value(name, value) for value in values)


def compact(name: str, values: Sequence[Value]) -> Sequence[Value]:
    """Distinct values as their one canonical form: evenly rising seeds are a range.

    So ``[0, 1, 2]``, ``0..2`` and ``range(3)`` are one sweep with one id.
    """
    field = FIELDS[name]
    if isinstance(values, range) or len(values) < 2:
        return values
    if field.kind != "integer" or field.decides != "row":
        return values
    first, second, last = values[0], values[1], values[-1]
    if not (isinstance(first, int) and isinstance(second, int) and isinstance(last, int)):
        return values
    step = second - first
    if step < 1 or last - first != step * (len(values) - 1):
        return values
    even = range(first, last + 1, step)
    return even if all(map(operator.eq, values, even)) else values


def _part(field: Field, text: str, part: str) -> Fraction:
    """One of a range's numbers, exactly as written."""
    if field.kind == "integer":
        whole = whole_number(part)
        if whole is None:
            raise _bad(field.name, text, f"has {part}: {field.name} takes whole numbers")
        return Fraction(whole)
    number = finite_number(part)
    if number is None:
        raise _bad(field.name, text, f"has {part}, which is too large")
    return Fraction(repr(number))


def _bad(name: str, text: str, why: str) -> InvalidSweep:
    return InvalidSweep(f"{name} {shown(text)} {why}", field=name, value=text)
