"""What a sweep may be given instead of values written out: something to read them from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from shared.errors import InvalidSweep

MAX_FAULTS = 20
"""Told in one go; a file with more of them has one cause."""


class Fault(str):
    """What is wrong with a row, in its place."""


@runtime_checkable
class ValueSource(Protocol):
    """Values of one field, such as the lines of a file."""

    @property
    def what(self) -> str:
        """What they come from, for messages: ``prompts.txt``."""

    @property
    def unit(self) -> str:
        """What counts them: ``line``."""

    def numbered(self) -> Iterator[tuple[int, object]]:
        """Each value, or its fault, with its number in the source.

        Raises:
            InvalidSweep: It can't be read.
        """


@runtime_checkable
class RowSource(Protocol):
    """Rows whose columns are fields of a job."""

    @property
    def what(self) -> str:
        """What they come from, for messages: ``jobs.csv``."""

    def header(self) -> Sequence[str]:
        """The columns' names.

        Raises:
            InvalidSweep: It can't be read.
        """

    def rows(self) -> Iterator[Sequence[object] | Fault]:
        """Each row's cells in the order of the header, or the row's fault.

        Raises:
            InvalidSweep: It can't be read on.
        """


class Faults:
    """What is wrong with a source, told in one go."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._found: list[str] = []

    def add(self, fault: str) -> None:
        """Note one.

        Raises:
            InvalidSweep: They are MAX_FAULTS by now.
        """
        self._found.append(fault)
        if len(self._found) == MAX_FAULTS:
            raise self._error(f"at least {MAX_FAULTS} faults: ")

    def raise_any(self) -> None:
        """End the reading if there were any.

        Raises:
            InvalidSweep: All of them.
        """
        if self._found:
            count = len(self._found)
            raise self._error("" if count == 1 else f"{count} faults: ")

    def _error(self, head: str) -> InvalidSweep:
        return InvalidSweep(f"{self._what} has {head or 'a fault: '}{'; '.join(self._found)}")
