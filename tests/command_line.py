"""Calling ``seedbed`` in a test's own process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from producer.cli.main import main


@dataclass(frozen=True)
class Answer:
    """What one call came to."""

    code: int
    out: str
    err: str

    @property
    def is_one_sentence(self) -> bool:
        """As every mistake gets: nothing on stdout, one line on stderr."""
        lines = self.err.splitlines()
        return self.out == "" and len(lines) == 1 and lines[0].startswith("error: ")


Call = Callable[..., Answer]


def caller(capsys: pytest.CaptureFixture[str]) -> Call:
    """A function that takes the command line's words."""

    def call(*arguments: str) -> Answer:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        printed = capsys.readouterr()
        return Answer(int(ended.value.code or 0), printed.out, printed.err)

    return call
