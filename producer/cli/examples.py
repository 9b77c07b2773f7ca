"""The examples that every command's help ends in."""

from __future__ import annotations

HEADING = "Examples:"


def examples(*lines: str) -> str:
    """An epilog that click prints as it stands."""
    return "\n".join(["\b", HEADING, *(f"  {line}" for line in lines)])


def example_lines(epilog: str | None) -> list[str]:
    """The command lines in an epilog, for the reference and the tests."""
    _, _, listed = (epilog or "").partition(HEADING)
    return [line.strip() for line in listed.splitlines() if line.strip()]
