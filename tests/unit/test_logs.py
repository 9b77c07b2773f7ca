"""Logging is set up by entry points, and only for their own time."""

from __future__ import annotations

import logging

import pytest

from producer.cli.main import main

NAMES = (None, "worker", "producer", "shared")


def levels() -> list[int]:
    return [logging.getLogger(name).level for name in NAMES]


@pytest.mark.parametrize("options", [[], ["--debug"]], ids=["quiet", "debug"])
def test_a_command_leaves_the_logging_of_its_process_as_it_was(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger("worker"), "level", logging.INFO)
    before = levels()

    with pytest.raises(SystemExit):
        main([*options, "schema"])

    assert levels() == before
    assert logging.getLogger().handlers == []
