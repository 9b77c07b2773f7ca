"""Pools on the nodes of a Redis Cluster: each lives whole on the node that has its hash slot."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot

from shared.errors import InvalidSettings
from shared.queue import JobQueue
from tests.contract.conftest import BINARIES
from tests.queue_play import drain, finish, make_record
from tests.redis_server import RedisServer
from tests.s3_server import free_ports

SLOTS = 16_384
NODES = 2
START_SECONDS = 20.0


def start_node(stack: ExitStack, binary: Path, port: int) -> redis.Redis:
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "cluster-enabled": "yes",
        "cluster-node-timeout": "2000",
    }
    stack.enter_context(RedisServer(binary, options))
    return stack.enter_context(redis.Redis(host="127.0.0.1", port=port))


@pytest.fixture(scope="module", params=sorted(BINARIES))
def urls(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Two nodes with half of the slots each."""
    binary = BINARIES[request.param]()
    if binary is None:
        pytest.skip(f"{request.param} is not installed")
    with ExitStack() as stack:
        ports = free_ports(NODES)  # their buses listen at 10,000 more
        nodes = [start_node(stack, binary, port) for port in ports]
        for number, node in enumerate(nodes):
            half = range(number * SLOTS // NODES, (number + 1) * SLOTS // NODES)
            node.execute_command("CLUSTER ADDSLOTS", *half)
        nodes[0].execute_command("CLUSTER MEET", "127.0.0.1", str(ports[1]))
        deadline = time.monotonic() + START_SECONDS
        while not all(node.cluster("info")["cluster_state"] == "ok" for node in nodes) or not all(
            node.cluster("info")["cluster_known_nodes"] == str(NODES) for node in nodes
        ):
            assert time.monotonic() < deadline, "the nodes did not meet"
            time.sleep(0.05)
        yield [f"redis://127.0.0.1:{port}/0" for port in ports]


def pool_on(node: int) -> str:
    """A pool's name whose slot this node has."""
    names = (f"pool-{number}" for number in range(100))
    return next(
        name
        for name in names
        if key_slot(JobQueue(redis.Redis(), name).keys.base.encode()) * NODES // SLOTS == node
    )


def test_each_pool_lives_whole_on_the_node_that_has_its_slot(urls: list[str]) -> None:
    for node, url in enumerate(urls):
        queue = JobQueue.connect(url, pool_on(node))
        queue.submit(make_record("sweep"))
        assert sum(claim.size for claim in drain(queue)) == 10
        assert finish(queue) == "sweep"
        assert queue.status("sweep").state == "done"
        assert queue.backlog().models == set()
        queue.retry("sweep")
        queue.delete("sweep")
        queue.client.close()


def test_the_other_node_refuses_a_pool_in_a_sentence_that_names_the_right_one(
    urls: list[str],
) -> None:
    queue = JobQueue.connect(urls[0], pool_on(1))
    for ask in (lambda: queue.submit(make_record("sweep")), queue.workers, queue.sweeps):
        with pytest.raises(InvalidSettings, match="name the node that has it") as caught:
            ask()
        assert urls[1].split("/")[2] in str(caught.value)
    queue.client.close()
    home = JobQueue.connect(urls[1], pool_on(1))
    assert home.sweeps() == []
    home.client.close()
