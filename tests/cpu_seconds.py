"""A plugin of pytest's that tells what each module's tests took of a processor.

    python -m pytest -p tests.cpu_seconds tests/contract

Seconds of this process and of its children that have ended: other than those of a clock, they are
much the same on a busy machine. What outlives its module (a detached stack) is not seen.
"""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator

import pytest

TAKEN: Counter[str] = Counter()
"""Milliseconds by module."""


def _milliseconds() -> int:
    own, children = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return round(1000 * seconds)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    """Count a test, with the fixtures that it sets up and tears down."""
    before = _milliseconds()
    result = yield
    TAKEN[item.nodeid.split("::")[0]] += _milliseconds() - before
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, the slowest first."""
    terminalreporter.section("processor seconds")
    for module, taken in TAKEN.most_common():
        terminalreporter.write_line(f"{taken / 1000:8.1f} {module}")
