"""What lies in a pool's keys and nobody of ours wrote: it is left out, and stops no reader."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from shared.errors import InvalidManifest, QueueError, UnknownSweep
from shared.manifest import MAX_MANIFEST_BYTES
from shared.queue import Failure, JobQueue
from tests.queue_play import MODEL, PIN, make_block, make_record, take
from tests.redis_server import RedisServer


@pytest.fixture
def queue(redis_server: RedisServer) -> Iterator[JobQueue]:
    """Connected as producers and workers are."""
    queue = JobQueue.connect(redis_server.url, "test")
    queue.client.flushall()
    yield queue
    queue.client.close()


GARBAGE = (b"", b"{", b"[1]", b"1", b"null", b'"x"', b"\xff\xfe", b"[" * 5000, b"{}")


def test_notes_of_strangers_are_left_out(queue: JobQueue) -> None:
    keys = queue.keys
    for number, text in enumerate(GARBAGE):
        queue.client.hset(keys.rates, f"m l r{number}", text)
        queue.client.hset(keys.capacities, f"c{number}", text)
        queue.client.hset(keys.weights, f"w{number}", text)
        queue.client.set(keys.worker(f"w{number}"), text)
        queue.client.sadd(keys.workers, f"w{number}")
    queue.client.hset(keys.rates, b"\xff", b"{}")
    queue.client.sadd(keys.workers, b"\xff")
    queue.record_rate("m", "l", "r", seconds_per_job=1.5, batch=2)
    queue.announce("mine", {"name": "mine"}, ttl_seconds=60)

    assert [rate.seconds_per_job for rate in queue.rates()] == [1.5]
    # an object is all that a worker's note has to be
    assert [worker["id"] for worker in queue.workers()] == ["mine", f"w{len(GARBAGE) - 1}"]
    assert queue.capacities() == []
    assert queue.weights([f"w{number}" for number in range(len(GARBAGE))]) == {}


def test_failures_of_strangers_are_left_out(queue: JobQueue) -> None:
    queue.submit(make_record("s", make_block(4)))
    for number, text in enumerate(GARBAGE):
        queue.client.hset(queue.keys.failures("s"), str(number), text)
    entry = {"attempts": 1, "reason": "r", "worker": "w", "at": 1_000_000, "dead": True}
    queue.client.hset(queue.keys.failures("s"), "3", json.dumps(entry))
    queue.client.hset(queue.keys.failures("s"), b"\xff", json.dumps(entry))
    (found,) = queue.failures("s")
    assert found == Failure(position=3, attempts=1, reason="r", worker="w", at=1.0, dead=True)


def test_names_that_are_no_text_are_claimed_and_given_back(queue: JobQueue) -> None:
    """A sweep whose id is no UTF-8 stands first in line: it is told, paused and passed."""
    name = b"\xff\xfe".decode(errors="surrogateescape")
    # past what `submit` looks at
    queue._run("submit", name, "d", "o", 100, "1.0", "token", "{}", f"{MODEL} l r 4 1.0")
    queue.submit(make_record("good", make_block(2)))

    claim = take(queue, 1)
    assert claim is not None
    assert claim.shares[0].sweep_id == name
    assert queue.manifest(name) == "{}"
    assert queue.refuse(name, "manifest: another's") == "paused"
    queue.release(claim.token)
    again = take(queue, 1)
    assert again is not None
    assert again.shares[0].sweep_id == "good"
    assert {status.id for status in queue.sweeps()} >= {"good", name}
    assert queue.status(name).refused == "manifest: another's"
    assert queue.look().models == [MODEL]
    assert queue.look().claimable(MODEL, pin=PIN)


def test_a_manifest_is_read_up_to_its_limit_and_no_further(queue: JobQueue) -> None:
    queue.submit(make_record("s"))
    key = queue.keys.manifest("s")
    queue.client.setrange(key, MAX_MANIFEST_BYTES - 1, b"x")
    assert len(queue.manifest("s")) == MAX_MANIFEST_BYTES
    queue.client.setrange(key, 100 * 2**20, b"x")
    with pytest.raises(InvalidManifest, match="longer than the 16,777,216 bytes"):
        queue.manifest("s")
    queue.client.set(key, b"\xff")
    with pytest.raises(InvalidManifest, match="not UTF-8"):
        queue.manifest("s")
    queue.client.set(key, b"")
    assert queue.manifest("s") == ""
    queue.client.delete(key)
    with pytest.raises(UnknownSweep):
        queue.manifest("s")
    queue.client.rpush(key, "x")
    with pytest.raises(InvalidManifest, match="is no string"):
        queue.manifest("s")


def test_a_refusal_is_shown_until_the_sweep_is_resumed(queue: JobQueue) -> None:
    queue.submit(make_record("s"))
    assert queue.status("s").refused == ""
    assert queue.pause("s") == "paused"
    assert queue.status("s").refused == ""
    queue.resume("s")
    assert queue.refuse("s", "manifest: \udcff is no text" + "x" * 5000) == "paused"
    assert queue.status("s").refused.startswith("manifest: ? is no text")
    assert len(queue.status("s").refused) == 2000
    assert queue.resume("s") == "running"
    assert queue.status("s").refused == ""
    with pytest.raises(UnknownSweep):
        queue.refuse("nobody", "x")


def test_a_status_that_is_no_text_is_malformed(queue: JobQueue) -> None:
    queue.submit(make_record("s"))
    queue.client.hset(queue.keys.sweep("s"), "owner", b"\xff")
    with pytest.raises(QueueError, match="malformed"):
        queue.status("s")
