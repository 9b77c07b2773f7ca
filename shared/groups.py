"""Which fields of an axis decide lane and recipe, and which of its values agree in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.fields import FIELDS, Value


@dataclass(frozen=True, kw_only=True)
class Group:
    """Values of an axis that lead to one lane and recipe.

    Attributes:
        numbers: Of the values, in the user's order; lazy where there are many.
        deciding: What the first of them has in the fields that decide.
    """

    numbers: Sequence[int]
    deciding: dict[str, Value]


def deciding_fields(names: Sequence[str]) -> tuple[str, ...]:
    """Those of the fields that decide lane or recipe."""
    return tuple(name for name in names if FIELDS[name].decides != "row")


def group_key(names: Sequence[str], values: Sequence[Value]) -> tuple[object, ...]:
    """What values of deciding fields must share to be one group: of guidance, being above 1; of an
    init image, being given."""
    return tuple(
        _deciding(FIELDS[name].decides, value) for name, value in zip(names, values, strict=True)
    )


def _deciding(decides: str, value: Value) -> Value:
    if decides in ("kind", "given"):
        return value is not None
    return _guided(value) if decides == "guidance" else value


def _guided(value: Value) -> bool:
    return isinstance(value, int | float) and value > 1.0
