"""Printing: results to stdout, prose to stderr."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any

import click

from producer.cli.numbers import Whole

json_option = click.option("--json", "as_json", is_flag=True, help="print JSON on stdout")


def limit_option(shown: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--limit`` of a listing of jobs, of which so many are printed unless told otherwise."""
    return click.option(
        "--limit",
        type=Whole(0),
        default=shown,
        show_default=True,
        metavar="N",
        help="most jobs to print; 0 is all",
    )


def say(text: str) -> None:
    """Prose for people, out of the way of whatever reads stdout."""
    click.echo(text, err=True)


def print_json(value: Any) -> None:
    """One JSON value on one line."""
    click.echo(json.dumps(plain(value), ensure_ascii=False))


def plain(value: Any) -> Any:
    """Our frozen values as JSON's own."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def print_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Columns as wide as their widest cell; numbers to the right."""
    cells = [headings, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    for row in cells:
        click.echo(
            "  ".join(
                cell.rjust(width) if _numeric(rows, column) else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
        )


def one_line(text: str) -> str:
    """The text with control characters escaped, safe on a terminal."""
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else char
        for char in text
    )


def size_text(count: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def time_text(seconds: float) -> str:
    """A duration for people."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"


def _numeric(rows: list[tuple[str, ...]], column: int) -> bool:
    return bool(rows) and all(row[column].replace(",", "").isdecimal() for row in rows)
