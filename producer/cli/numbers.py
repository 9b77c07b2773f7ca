"""Numbers in options: what is none, or out of range, is told with what would be right."""

from __future__ import annotations

from typing import Any

import click

from shared.numbers import finite_number, whole_number


class Whole(click.IntRange):
    """A whole number, both bounds included."""

    name = "number"

    def __init__(self, least: int, most: int | None = None) -> None:
        super().__init__(least, most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number that a text says; what is no text is the option's default."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        number = whole_number(value)
        if number is None or not _within(self, number):
            self.fail(f"{value!r} is not a whole number {_bounds(self)}", param, ctx)
        return number


class Number(click.FloatRange):
    """A finite number, both bounds included."""

    name = "number"

    def __init__(self, least: float, most: float | None = None) -> None:
        super().__init__(least, most)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number that a text says; what is no text is the option's default."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        number = finite_number(value)
        if number is None or not _within(self, number):
            self.fail(f"{value!r} is not a number {_bounds(self)}", param, ctx)
        return number


def _within(kind: click.IntRange | click.FloatRange, number: float) -> bool:
    return (kind.min is None or number >= kind.min) and (kind.max is None or number <= kind.max)


def _bounds(kind: click.IntRange | click.FloatRange) -> str:
    return f"of at least {kind.min:g}" if kind.max is None else f"from {kind.min:g} to {kind.max:g}"
