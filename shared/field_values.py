"""Reads and checks one value of one field, by its row in the table of fields."""

from __future__ import annotations

from typing import TypeVar

from shared.errors import InvalidSweep
from shared.fields import DEVICES, FIELDS, INPUT_KEY, MAX_TEXT_BYTES, SWITCH, Field, Value
from shared.mistakes import nearest, shown
from shared.numbers import finite_number, whole_number
from shared.schedulers import SCHEDULERS
from shared.structured import Unfit, structured_text

Number = TypeVar("Number", int, float)


def check_value(name: str, value: object) -> Value:
    """Validate one value of one field; text is read by the field's type.

    Args:
        name: A key of FIELDS.
        value: From YAML, JSON, the command line or Python.

    Returns:
        The value in its field's type: ``"5"``, ``5`` and ``5.0`` are one number.

    Raises:
        InvalidSweep: Names field, value and remedy.
    """
    field = FIELDS[name]
    if value is None:
        if field.nullable:
            return None
        raise InvalidSweep(f"{name} is null: give it {_wanted(field)}", field=name)
    if field.kind == "flag":
        return _flag(field, value)
    if field.structured:
        return _structured(field, value)
    if field.kind in ("integer", "number"):
        number = whole_number(value) if field.kind == "integer" else finite_number(value)
        if number is None:
            raise _bad(field, value)
        return _in_range(field, number)
    if field.kind == "text" and finite_number(value) is not None:
        value = str(value)
    if not isinstance(value, str):
        raise _bad(field, value)
    return _text(field, value)


def _flag(field: Field, value: object) -> Value:
    """True, or None for false: a flag that is down is as if nothing were said."""
    said = value.strip().lower() if isinstance(value, str) else value
    if said is True or said == "true":
        return True
    if said is False or said == "false":
        return None
    raise _bad(field, value)


def check_whole(name: str, place: str) -> None:
    """Refuse a field of the whole sweep where values vary.

    Args:
        place: Where it stands, after "in".

    Raises:
        InvalidSweep: It is such a field.
    """
    if FIELDS[name].whole:
        raise InvalidSweep(
            f"{name} is one value for the whole sweep, and can't vary in {place}: write it once, "
            f"as {name}: true, or leave it out",
            field=name,
        )


def _structured(field: Field, value: object) -> Value:
    try:
        text = structured_text(field.kind, value)
    except Unfit as exc:
        raise InvalidSweep(
            f"{field.name} {shown(value)} {exc}", field=field.name, value=value
        ) from exc
    return text


def _text(field: Field, value: str) -> str:
    name = field.name
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidSweep(
            f"{name} {shown(value)} has a lone surrogate: write it as valid Unicode text",
            field=name,
            value=value,
        ) from None
    if size > MAX_TEXT_BYTES:
        raise InvalidSweep(
            f"{name} {shown(value)} is {size} bytes long: at most {MAX_TEXT_BYTES} are allowed",
            field=name,
            value=value,
        )
    if "\0" in value:
        raise InvalidSweep(
            f"{name} {shown(value)} has a NUL character: take it out", field=name, value=value
        )
    if field.kind == "scheduler" and value not in SCHEDULERS:
        raise InvalidSweep(
            f"scheduler {shown(value)} is not known: {nearest(value, sorted(SCHEDULERS))}",
            field=name,
            value=value,
        )
    if field.kind == "input" and not INPUT_KEY.fullmatch(value):
        raise InvalidSweep(
            f"{name} {shown(value)} is not in the bucket's inputs/: give a file's path, or the key "
            f"of one that was uploaded, 'inputs/' and 64 hex digits",
            field=name,
            value=value,
        )
    if field.kind == "device" and value not in DEVICES:
        raise InvalidSweep(
            f"{name} {shown(value)} is not known: write cpu or cuda", field=name, value=value
        )
    if field.kind == "switch" and value not in SWITCH:
        raise InvalidSweep(
            f"{name} {shown(value)} is not known: write on, off or null", field=name, value=value
        )
    if field.decides == "lane" and not value.strip():
        remedy = f"say which {name} to use" + (", or leave it out" if field.nullable else "")
        raise InvalidSweep(f"{name} is empty: {remedy}", field=name, value=value)
    return value


def _in_range(field: Field, value: Number) -> Number:
    if (field.minimum is not None and value < field.minimum) or (
        field.maximum is not None and value > field.maximum
    ):
        raise _bad(field, value)
    if field.multiple_of > 1 and value % field.multiple_of:
        below = int(value) // field.multiple_of * field.multiple_of
        near = [str(n) for n in (below, below + field.multiple_of) if n >= (field.minimum or 0)]
        raise InvalidSweep(
            f"{field.name} {value} is not a multiple of {field.multiple_of}: "
            f"write {' or '.join(near)}",
            field=field.name,
            value=value,
        )
    return value


def _wanted(field: Field) -> str:
    if field.kind in ("integer", "number"):
        noun = "a whole number" if field.kind == "integer" else "a number"
        return f"{noun} from {field.minimum:g} to {_bound(field.maximum)}"
    return {
        "text": "a text",
        "scheduler": "a diffusers scheduler's class name",
        "input": "a file's path",
        "switch": "on or off",
        "flag": "true or false",
    }.get(field.kind, "cpu or cuda")


def _bound(maximum: float | None) -> str:
    return "2**63-1" if maximum is not None and maximum > 2**60 else f"{maximum:g}"


def _bad(field: Field, value: object) -> InvalidSweep:
    return InvalidSweep(
        f"{field.name} {shown(value)} is not {_wanted(field)}", field=field.name, value=value
    )
