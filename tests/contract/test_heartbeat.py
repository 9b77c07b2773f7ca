"""When a worker's heartbeat looks at the queue and at its bell, on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from shared.doorbell import Doorbell, doorbell_queue, make_app
from shared.queue import JobQueue
from tests.pool import eventually
from tests.queue_play import MODEL, PIN, finish, make_block, make_record, must_take, store
from tests.redis_server import RedisServer
from worker.heartbeat import Heartbeat

SELDOM = 3600.0
"""Between beats: only the first one is, at the start."""


@contextmanager
def beating(
    server: RedisServer, queue: JobQueue, models: tuple[str, ...] = (MODEL,)
) -> Iterator[tuple[Heartbeat, list[str]]]:
    """A heartbeat after its first beat; and what it has been told to do."""
    told: list[str] = []

    def finalise() -> int:
        told.append("finalise")
        return 0 if finish(queue) is None else 1

    with closing(Doorbell(make_app(server.url, "test"), "test")) as doorbell:
        heartbeat = Heartbeat(
            queue=queue,
            doorbell=doorbell,
            discover=lambda with_work: told.append("discover"),
            pins=lambda: dict.fromkeys(models, PIN),
            worker="w",
            describe=dict,
            finalise=finalise,
            mean_seconds=SELDOM,
            on_work=lambda found: told.append("look"),
            on_turn=lambda seconds: told.append("turn"),  # it has done what there was to do
        )
        heartbeat.start()
        eventually(lambda: "turn" in told, seconds=30, what="the first beat")
        told.clear()
        try:
            yield heartbeat, told
        finally:
            heartbeat.stop()


def take_bell(queue: JobQueue) -> bool:
    """As an idle worker does."""
    name = f"seedbed:{{test}}:celery:{doorbell_queue('test', MODEL)}"
    return queue.client.lpop(name) is not None


def test_a_bell_that_waits_is_looked_at_again_when_this_worker_has_taken_one(
    redis_server: RedisServer, queue: JobQueue
) -> None:
    queue.submit(make_record("s", make_block(100)))
    with beating(redis_server, queue) as (heartbeat, told):
        # given the bell of the first beat, which nobody takes
        heartbeat.ring_soon(more=True)
        eventually(lambda: told == ["look", "turn"], seconds=30, what="it finds that bell")

        # when there are further claims, nobody looks
        heartbeat.ring_soon(more=True)
        assert not heartbeat._ring.is_set()

        # until a worker has heard it: that one rings after its own claim
        assert take_bell(queue)
        heartbeat.answered()
        heartbeat.ring_soon(more=True)
        eventually(lambda: take_bell(queue), seconds=30, what="it rings for the next one")


def test_a_claim_that_left_nothing_rings_nobody_unless_other_models_are_served(
    redis_server: RedisServer, queue: JobQueue
) -> None:
    with beating(redis_server, queue) as (heartbeat, _):
        heartbeat.ring_soon(more=False)
        assert not heartbeat._ring.is_set()
    with beating(redis_server, queue, models=(MODEL, "n")) as (heartbeat, told):
        heartbeat.ring_soon(more=False)
        eventually(lambda: "look" in told, seconds=30, what="it looks for the other's work")


def test_a_beat_with_nothing_to_end_asks_the_queue_once(
    redis_server: RedisServer, queue: JobQueue
) -> None:
    queue.submit(make_record("s", make_block(4)))
    queue.look()  # so that the script is known
    queue.client.config_resetstat()

    with beating(redis_server, queue):
        stats = queue.client.info("commandstats")
        assert stats["cmdstat_evalsha"]["calls"] == 1, "no reap, and no finalise"


def test_a_beat_ends_expired_leases_and_sweeps_that_are_through(
    redis_server: RedisServer, queue: JobQueue
) -> None:
    queue.submit(make_record("s", make_block(4)))
    store(queue, must_take(queue, 4))
    queue.submit(make_record("t", make_block(4)))
    queue.client.zadd(f"{queue.keys.base}:leases", {must_take(queue, 4, token="dead").token: 1})

    with beating(redis_server, queue):
        eventually(lambda: queue.status("s").state == "done", seconds=30, what="s has ended")
        assert queue.status("t").pending == 4
