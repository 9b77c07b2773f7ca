"""What the queue makes of bad data, lost data, and a Redis that is not there or not one."""

import contextlib
import socketserver
import threading
from collections.abc import Iterator

import pytest

from shared.errors import (
    InvalidSettings,
    LeaseLost,
    QueueError,
    QueueUnavailable,
    UnknownSweep,
)
from shared.keys import KEY_TABLE
from shared.queue import JobQueue, JobRef
from shared.weights import WeightsName
from tests.factories import make_capacity
from tests.queue_play import (
    all_keys,
    crash,
    drain,
    expire,
    finish,
    make_block,
    make_record,
    must_take,
    positions_of,
    refs_of,
    snapshot,
    store,
    store_positions,
    take,
)
from tests.redis_server import RedisServer

BASE = "seedbed:{test}"


@pytest.fixture
def server_of_my_own(redis_server: RedisServer) -> Iterator[RedisServer]:
    """A server a test may kill or lock; it answers on the same kind of binary."""
    with RedisServer(redis_server.binary) as server:
        yield server


def a_string(queue: JobQueue, name: str) -> None:
    queue.client.delete(f"{BASE}:{name}")
    queue.client.set(f"{BASE}:{name}", "not ours")


CORRUPTIONS = {
    "its hash is a string": lambda q: a_string(q, "sweep:bad"),
    "its hash is gone": lambda q: q.client.delete(f"{BASE}:sweep:bad"),
    "its hash has no total": lambda q: q.client.hdel(f"{BASE}:sweep:bad", "total"),
    "its weight is no number": lambda q: q.client.hset(f"{BASE}:sweep:bad", "weight", "heavy"),
    "its state is unknown": lambda q: q.client.hset(f"{BASE}:sweep:bad", "state", "odd"),
    "its virtual time is no number": lambda q: q.client.hset(f"{BASE}:sweep:bad", "vt:m", "x"),
    "its blocks are gone": lambda q: q.client.delete(f"{BASE}:blocks:bad"),
    "its blocks are a string": lambda q: a_string(q, "blocks:bad"),
    "its blocks are foreign": lambda q: (
        q.client.delete(f"{BASE}:blocks:bad"),
        q.client.zadd(f"{BASE}:blocks:bad", {"what is this": 0}),
    ),
    "its cursors are a string": lambda q: a_string(q, "cursors:bad"),
    "its open blocks are a string": lambda q: a_string(q, "open:bad:m"),
    "its lanes are a string": lambda q: a_string(q, "lanes:bad"),
    "a retry set is a string": lambda q: a_string(q, "retry:bad:0"),
    "its leased hash is a string": lambda q: a_string(q, "leased:bad"),
    "its segment is a list": lambda q: (
        store_positions(q, "bad", [0]),
        q.client.delete(f"{BASE}:bits:bad:0"),
        q.client.rpush(f"{BASE}:bits:bad:0", "x"),
    ),
    "its manifest is foreign": lambda q: q.client.set(f"{BASE}:manifest:bad", b"\xff\x00{"),
    "a tree names a sweep that never was": lambda q: q.client.zadd(
        f"{BASE}:turn:m:-:9:ann", {"ghost": 0}
    ),
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_malformed_sweep_stands_in_nobodys_way_and_can_be_deleted(queue, corruption):
    # given a sweep whose turn it always is, and one behind it
    queue.submit(make_record("bad", make_block(4), priority=9))
    queue.submit(make_record("good", make_block(30)))
    CORRUPTIONS[corruption](queue)

    # then the other is served and listed
    for prefer in (None, ("l", "r")):
        served = [
            share.sweep_id for _ in range(3) for share in must_take(queue, prefer=prefer).shares
        ]
        assert "good" in served
    assert "good" in {status.id for status in queue.sweeps()}

    # and the bad one can be made anew
    with contextlib.suppress(UnknownSweep):
        queue.delete("bad")
    assert queue.submit(make_record("bad", make_block(4), priority=9)).outcome in (
        "created",
        "unchanged",
    )
    if corruption not in ("its manifest is foreign", "a tree names a sweep that never was"):
        taken = sorted(p for p in positions_of(must_take(queue, 4)))
        assert taken == [0, 1, 2, 3]


def test_a_tree_that_lists_a_sweep_of_other_weights_does_not_hand_it_out(queue):
    queue.submit(make_record("theirs"))
    must_take(queue, 1, pin="weights-b")
    queue.submit(make_record("mine", make_block(2), priority=-1))
    for owners in ("turn:m:-", "fill:m:-:l:r"):
        queue.client.zadd(f"{BASE}:{owners}", {"0": 0})
        queue.client.zadd(f"{BASE}:{owners}:0", {"ann": 0})
        queue.client.zadd(f"{BASE}:{owners}:0:ann", {"theirs": 0})
    claim = must_take(queue, 16, pin="weights-a")
    assert [share.sweep_id for share in claim.shares] == ["mine"]


def test_a_malformed_sweep_is_named_with_its_remedy(queue):
    queue.submit(make_record("bad"))
    queue.client.hdel(f"{BASE}:sweep:bad", "total")
    with pytest.raises(QueueError, match="seedbed delete bad"):
        queue.status("bad")
    with pytest.raises(QueueError, match="seedbed delete bad"):
        queue.submit(make_record("bad"))


def test_leftovers_of_a_lost_sweep_do_not_count_as_done(queue):
    queue.submit(make_record())
    drain(queue)
    queue.client.delete(f"{BASE}:sweep:sweep")
    assert queue.submit(make_record()).outcome == "created"
    assert sorted(p for claim in drain(queue) for p in positions_of(claim)) == list(range(10))


def test_a_kill_loses_nothing_that_was_acknowledged(server_of_my_own):
    queue = JobQueue.connect(server_of_my_own.url, "test")
    queue.submit(make_record())
    store(queue, must_take(queue, 3))
    claim = must_take(queue, 3)
    before = queue.status("sweep")

    server_of_my_own.restart()

    assert queue.status("sweep") == before
    queue.begin(claim.token, refs_of(claim), gpu_seconds=60)
    assert store(queue, claim).newly_done == 3
    queue.client.close()


def test_rolling_redis_back_repeats_work_and_leaves_no_gap(queue):
    queue.submit(make_record("s", make_block(30)))
    store(queue, must_take(queue, 4))
    remembered = must_take(queue, 4)
    old = snapshot(queue)

    # given work that the rollback forgets
    store(queue, remembered)
    forgotten = must_take(queue, 4)
    store(queue, forgotten)
    crash(queue, 4)
    held_on = must_take(queue, 4)
    late = queue.submit(make_record("late", make_block(2)))

    # when Redis is set back
    queue.client.flushall()
    for key, value in old.items():
        queue.client.restore(key, 0, value)

    # then leases it does not know are lost, commits count, and everything is done in the end
    with pytest.raises(LeaseLost):
        queue.renew(held_on.token, lease_seconds=60, phase="queued")
    assert store(queue, held_on).newly_done == 4
    assert store(queue, forgotten).newly_done == 4
    expire(queue, remembered.token)
    drain(queue)
    status = queue.status("s")
    assert (status.state, status.done) == ("finalising", 30)
    assert queue.submit(make_record("late", make_block(2))).epoch > late.epoch


def test_losing_everything_leaves_stale_commits_and_a_resubmit_mends_it(queue):
    queue.submit(make_record())
    claim = must_take(queue, 4)
    queue.client.flushall()
    assert store(queue, claim).stale == ("sweep",)
    assert all_keys(queue) == []
    queue.submit(make_record())
    assert store(queue, claim).stale == ("sweep",)
    assert store_positions(queue, "sweep", positions_of(claim), reused=True).newly_done == 4
    assert len([p for found in drain(queue) for p in positions_of(found)]) == 6


def test_scripts_come_back_after_redis_forgot_them(queue):
    queue.submit(make_record("a"))
    queue.submit(make_record("b"))
    claim = must_take(queue, 16)
    queue.client.script_flush()
    assert store(queue, claim).newly_done == 16
    queue.client.script_flush()
    assert take(queue) is not None


def test_a_redis_that_is_full_refuses_in_whole_and_names_the_remedy(queue):
    queue.submit(make_record())
    claim = must_take(queue, 4)
    before = snapshot(queue)
    try:
        queue.client.config_set("maxmemory", "100kb")
        for write in (
            lambda: queue.submit(make_record("more")),
            lambda: take(queue),
            lambda: store(queue, claim),
            lambda: queue.begin(claim.token, refs_of(claim), gpu_seconds=9),
        ):
            with pytest.raises(QueueUnavailable, match="maxmemory"):
                write()
        assert snapshot(queue) == before
        queue.delete("sweep")
    finally:
        queue.client.config_set("maxmemory", "0")
    assert queue.sweeps() == []


def test_a_redis_that_is_not_there_is_unavailable(server_of_my_own):
    queue = JobQueue.connect(server_of_my_own.url, "test")
    queue.submit(make_record())
    server_of_my_own.kill()
    with pytest.raises(QueueUnavailable):
        queue.status("sweep")
    server_of_my_own.start()
    assert queue.status("sweep").pending == 10
    queue.client.close()


def test_wrong_credentials_are_a_setting_to_mend(server_of_my_own):
    with server_of_my_own.client() as client:
        client.config_set("requirepass", "right")
        queue = JobQueue.connect(server_of_my_own.url.replace("unix://", "unix://:wrong@"), "test")
        with pytest.raises(InvalidSettings, match="credentials") as refused:
            queue.sweeps()
        assert "wrong@" not in str(refused.value)
        queue.client.close()
        client.config_set("requirepass", "")


def test_a_database_that_is_not_there_is_a_setting_to_mend(redis_server):
    queue = JobQueue.connect(f"{redis_server.url}?db=99", "test")
    with pytest.raises(InvalidSettings, match="database"):
        queue.sweeps()
    queue.client.close()


class Webserver(socketserver.StreamRequestHandler):
    """Answers whatever it is sent as web servers do."""

    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def test_what_is_not_a_redis_is_a_setting_to_mend():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Webserver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            queue = JobQueue.connect(f"redis://127.0.0.1:{server.server_address[1]}/0", "test")
            with pytest.raises(InvalidSettings, match="not a Redis"):
                queue.sweeps()
            queue.client.close()
        finally:
            server.shutdown()
            thread.join()


def test_a_port_nobody_listens_on_is_unavailable():
    queue = JobQueue.connect("redis://127.0.0.1:1/0", "test")
    with pytest.raises(QueueUnavailable):
        queue.submit(make_record())
    queue.client.close()


@pytest.mark.parametrize("url", ["redis://localhost:port/0", "http://x", "redis://localhost:99999"])
def test_a_url_that_cannot_be_one_is_a_setting_to_mend(url):
    with pytest.raises(InvalidSettings, match="SEEDBED_REDIS_URL"):
        JobQueue.connect(url, "test")


def test_a_key_of_another_program_is_a_setting_to_mend(queue):
    queue.client.set(f"{BASE}:sweeps", "taken")
    with pytest.raises(InvalidSettings, match="SEEDBED_POOL"):
        queue.sweeps()


def test_every_key_in_use_is_in_the_key_table_with_its_type(queue):
    # given a pool in which everything there is has happened
    queue.submit(make_record("s", make_block(40), make_block(5, recipe="x"), make_block(2)))
    crash(queue, 2)
    crash(queue, 2)
    queue.submit(make_record("idle", owner="owner: with {odd} name"))
    claim = must_take(queue, 4)
    queue.begin(claim.token, refs_of(claim), gpu_seconds=9)
    queue.fail(claim.token, refs_of(claim)[0], reason="x", worker="w", permanent=True)
    queue.release(claim.token, refs_of(claim)[1:2])
    store_positions(queue, "s", [30])
    queue.submit(make_record("full", make_block(1, recipe="y")))
    store_positions(queue, "full", [0])
    queue.record_rate("m", "l", "r", 0.5, 8)
    queue.record_capacity(make_capacity())
    queue.begin_load("m cpu", enough=3, rest_seconds=60)
    queue.announce("w", {}, 60)
    queue.note_weights([WeightsName(model="m", vae="v")])
    types = {pattern: kind for pattern, kind, _ in KEY_TABLE}
    seen = set()

    # then every key matches one line of the table
    for key in all_keys(queue):
        name = key.decode().removeprefix(f"{BASE}:")
        matching = [pattern for pattern in types if matches(pattern, name)]
        assert len(matching) == 1, name
        assert queue.client.type(key).decode() == types[matching[0]], name
        seen.add(matching[0])

    # and every line was needed
    assert seen == set(types)


def matches(pattern: str, name: str) -> bool:
    """Whether a key is of a kind: as many parts, and the same words where they are in lower case.

    An owner is the last part and may hold colons.
    """
    kinds = pattern.split(":")
    parts = name.split(":", len(kinds) - 1) if kinds[-1] == "OWNER" else name.split(":")
    return len(kinds) == len(parts) and kinds[0] == parts[0]


def test_rates_and_workers_are_told_and_forgotten(queue):
    queue.record_rate("m", "l", "r", 0.5, 8)
    queue.record_rate("m", "l", "r", 0.25, 16)
    (rate,) = queue.rates()
    assert (rate.lane, rate.seconds_per_job, rate.batch) == ("l", 0.25, 16)

    assert queue.workers() == []
    queue.announce("w2", {"gpu": "none", "models": ["m"]}, 60)
    queue.announce("w1", {}, 60)
    assert queue.workers() == [{"id": "w1"}, {"gpu": "none", "models": ["m"], "id": "w2"}]
    queue.client.delete(f"{BASE}:worker:w1")
    assert [worker["id"] for worker in queue.workers()] == ["w2"]
    assert queue.client.ttl(f"{BASE}:worker:w2") > 50


def test_weights_that_end_one_worker_after_another_are_let_alone_for_a_while(queue):
    def begin(what="m cpu", rest_seconds=3600.0):
        return queue.begin_load(what, enough=3, rest_seconds=rest_seconds)

    assert [begin() for _ in range(5)] == [0, 0, 0, 3, 3]
    assert begin("m gpu") == begin("other cpu") == 0, "others are not meant"
    assert begin(rest_seconds=0) == 0, "one tries again"
    assert begin() == 4, "and if that ends as well, it was one more"

    assert begin(rest_seconds=0) == 0
    queue.end_load("m cpu")
    assert [begin() for _ in range(4)] == [0, 0, 0, 3], "who lives through it wipes the slate"


def test_a_count_of_loads_that_is_none_or_from_the_future_stops_nobody(queue):
    for text in ("", "x", "3", "9 x", f"9 {10**17}"):
        queue.client.hset(f"{BASE}:loads", "m cpu", text)
        assert queue.begin_load("m cpu", enough=3, rest_seconds=3600) == 0


def test_a_measured_capacity_is_found_by_what_it_holds_for_alone(queue):
    capacity = make_capacity()
    queue.record_capacity(capacity)
    queue.record_capacity(make_capacity(device="Large GPU, 80 GiB"))

    assert queue.capacity(capacity.key) == capacity
    assert queue.capacity(make_capacity(height=72).key) is None
    assert queue.capacity(make_capacity(software={"torch": "9"}).key) is None
    assert [item.key.device for item in queue.capacities()] == [
        "Large GPU, 80 GiB",
        "Small GPU, 8 GiB",
    ]


@pytest.mark.parametrize("text", ["", "{", "null", '{"version":1}', make_capacity().to_text()])
def test_a_corrupt_or_foreign_capacity_is_none(queue, text):
    wanted = make_capacity(height=72)
    queue.client.hset(f"{BASE}:capacities", wanted.key.name, text)

    assert queue.capacity(wanted.key) is None
    assert all(item != wanted for item in queue.capacities())


def test_the_oldest_capacities_are_forgotten_beyond_a_bound(queue, monkeypatch):
    monkeypatch.setattr("shared.queue_board.MOST_CAPACITIES", 3)
    queue.client.hset(f"{BASE}:capacities", "broken", "{")
    for at in (40.0, 10.0, 30.0, 20.0):
        queue.record_capacity(make_capacity(height=8 * int(at), at=at))

    assert sorted(item.at for item in queue.capacities()) == [20.0, 30.0, 40.0]
    assert queue.client.hlen(f"{BASE}:capacities") == 3


def test_two_pools_on_one_redis_do_not_meet(queue):
    other = JobQueue(queue.client, "other")
    queue.submit(make_record())
    assert other.sweeps() == []
    assert take(other) is None
    assert other.submit(make_record()).outcome == "created"
    queue.delete("sweep")
    assert must_take(other).size == 4
    assert finish(queue) is None
    assert JobRef("sweep", 0) in refs_of(must_take(other, 16)) or other.status("sweep").leased == 10


def test_a_redis_that_takes_no_more_connections_is_said_to_and_used_again_afterwards(
    server_of_my_own: RedisServer,
) -> None:
    with server_of_my_own.client() as admin, contextlib.ExitStack() as stack:
        admin.config_set("maxclients", 1)
        queue = JobQueue.connect(server_of_my_own.url, "test")
        stack.callback(queue.client.close)
        with pytest.raises(QueueUnavailable, match="reached its maxclients"):
            queue.look()
        admin.config_set("maxclients", 100)
        assert queue.look().models == []
