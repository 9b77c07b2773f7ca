"""``--index``: which jobs of a sweep, one by one or in ranges."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

PART = re.compile(r"([0-9]{1,18})(?:\.\.([0-9]{1,18})(?:\.\.([0-9]{1,18}))?)?")


def index_option(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the option; the command takes ranges as ``indices``, None where it was not given.

    Args:
        text: Of its help.
    """
    return click.option(
        "--index",
        "indices",
        multiple=True,
        metavar="LIST",
        callback=_read,
        help=f"{text}, such as 3,17 or 0..31; repeatable",
    )


def _read(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> list[range] | None:
    return [_range(part.strip()) for text in given for part in text.split(",")] or None


def _range(text: str) -> range:
    """``3``, ``0..31`` or ``0..30..2``, both ends included."""
    match = PART.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"{text!r} is no index of a job: write 3, 3,17 or 0..31")
    first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
    if last < first or step < 1:
        raise click.BadParameter(
            f"{text!r} is an empty range: write the smaller end first and a step above 0"
        )
    return range(first, last + 1, step)
