"""A broker that is away is looked for every few seconds, however long it stays away."""

from __future__ import annotations

import pytest
from kombu import Connection
from kombu.exceptions import OperationalError
from kombu.utils import functional

from tests.s3_server import free_ports
from worker.app import eager


def test_a_broker_that_is_away_for_long_is_found_within_five_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(functional, "sleep", lambda seconds: None)
    waits: list[float] = []
    (port,) = free_ports(1)
    with Connection(f"redis://127.0.0.1:{port}/0") as away, pytest.raises(OperationalError):
        eager(away).ensure_connection(lambda exc, seconds: waits.append(seconds), 12)
    assert waits == [1, 2, 3, 4, *[5] * 8]
