"""Submitting: what it costs, what a second submit does, what is refused."""

import dataclasses
import time

import pytest

from shared.errors import InvalidSweep, UnknownSweep
from shared.queue import JobQueue, SweepConflict
from shared.scripts import run_script
from tests.queue_play import (
    all_keys,
    crash,
    drain,
    finish,
    make_block,
    make_record,
    must_take,
    positions_of,
    snapshot,
    store,
    store_positions,
    take,
)


def stored_bytes(queue: JobQueue) -> int:
    return sum(queue.client.memory_usage(key, samples=0) for key in all_keys(queue))


def test_ten_million_jobs_take_milliseconds_and_kilobytes(queue):
    queue.submit(make_record("warm"))
    blocks = [make_block(1_000_000, recipe=f"r{i}") for i in range(10)]
    before = stored_bytes(queue)

    started = time.perf_counter()
    queue.submit(make_record("big", *blocks, manifest="x" * 4000))
    seconds = time.perf_counter() - started

    assert seconds < 0.5
    assert stored_bytes(queue) - before < 100_000
    assert queue.status("big").total == 10_000_000


def test_4096_blocks_can_be_submitted_and_claimed_from(queue):
    blocks = [make_block(2, lane=f"l{i % 64}", recipe=f"r{i}") for i in range(4096)]
    queue.submit(make_record("wide", *blocks))
    assert queue.status("wide").blocks == 4096
    claim = must_take(queue, 16)
    assert claim.size == 2
    assert queue.pause("wide") == "paused"
    assert take(queue) is None
    assert queue.resume("wide") == "running"
    assert take(queue) is not None


def test_a_sweep_that_is_under_way_or_done_is_left_alone(queue):
    record = make_record()
    created = queue.submit(record)
    assert (created.outcome, created.state) == ("created", "running")
    again = queue.submit(record)
    assert (again.outcome, again.state, again.epoch) == ("unchanged", "running", created.epoch)
    queue.pause("sweep")
    assert queue.submit(record).outcome == "unchanged"
    queue.resume("sweep")
    drain(queue)
    assert queue.submit(record).state == "finalising"
    finish(queue)
    assert queue.submit(record).outcome == "done"
    assert queue.status("sweep").done == 10


def test_a_cancelled_sweep_starts_again_under_a_new_epoch_with_everything_pending(queue):
    first = queue.submit(make_record())
    store_positions(queue, "sweep", [0, 1])
    lost = must_take(queue, 3)
    queue.cancel("sweep")

    second = queue.submit(make_record())

    assert second.outcome == "restarted"
    assert second.epoch > first.epoch
    status = queue.status("sweep")
    assert (status.done, status.leased, status.pending) == (0, 0, 10)
    assert status.pins == {}
    assert store(queue, lost).stale == ("sweep",)
    assert [p for claim in drain(queue) for p in positions_of(claim)] == list(range(10))


def test_the_same_id_with_another_digest_is_refused_and_nothing_is_written(queue):
    queue.submit(make_record(digest="d1"))
    before = snapshot(queue)
    with pytest.raises(SweepConflict, match="another name"):
        queue.submit(make_record(digest="d2"))
    assert snapshot(queue) == before


def test_a_submit_that_redis_runs_twice_says_created_twice(queue):
    arguments = ["sweep", "d", "ann", 0, "1.0", "token-of-this-call", "{}", "m l r 3 1.0"]
    replies = [run_script(queue.client, "submit", queue.keys.base, arguments) for _ in range(2)]
    assert replies[0][0] == b"created"
    assert replies[0] == replies[1]
    arguments[5] = "another-call"
    assert run_script(queue.client, "submit", queue.keys.base, arguments)[0] == b"unchanged"


def test_epochs_grow_over_delete_and_over_the_loss_of_everything(queue):
    epochs = [queue.submit(make_record()).epoch]
    queue.delete("sweep")
    epochs.append(queue.submit(make_record()).epoch)
    queue.client.flushall()
    epochs.append(queue.submit(make_record()).epoch)
    assert epochs == sorted(set(epochs))


def test_an_epoch_grows_even_where_the_clock_was_set_back(queue):
    future = 4_000_000_000_000_000
    queue.client.set(f"{queue.keys.base}:epoch", future)
    assert queue.submit(make_record()).epoch == future + 1


def test_delete_removes_every_key_of_the_sweep(queue):
    queue.submit(make_record("other"))
    queue.submit(make_record("gone", make_block(20), make_block(5, model="n", lane="k")))
    queue.pause("other")
    must_take(queue, 3)
    claim = must_take(queue, 3)
    queue.begin(claim.token, [], gpu_seconds=1)
    queue.release(claim.token)
    store_positions(queue, "gone", [19])

    queue.delete("gone")

    assert [status.id for status in queue.sweeps()] == ["other"]
    assert not [key for key in all_keys(queue) if b"gone" in key.split(b":")[3:]]
    assert queue.look().models == []
    with pytest.raises(UnknownSweep):
        queue.status("gone")


def test_a_cancelled_sweep_keeps_no_lists_of_what_is_to_do(queue):
    queue.submit(make_record())
    crash(queue, 2)
    crash(queue, 2)
    queue.release(must_take(queue, 2).token)
    queue.cancel("sweep")
    kinds = {key.split(b":")[2] for key in all_keys(queue)}
    assert not kinds & {b"retry", b"solo", b"open", b"lanes", b"turn", b"fill"}


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "delete", "retry", "status"])
def test_verbs_on_an_unknown_sweep_say_so_and_write_nothing(queue, verb):
    queue.submit(make_record())
    before = snapshot(queue)
    with pytest.raises(UnknownSweep, match="seedbed ls"):
        getattr(queue, verb)("nobody-knows-me")
    assert snapshot(queue) == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "a b"),
        ("id", "a:b"),
        ("id", ""),
        ("owner", ""),
        ("owner", "x" * 201),
        ("priority", 101),
        ("priority", -101),
        ("weight", 0.0),
        ("weight", float("nan")),
        ("weight", float("inf")),
        ("blocks", ()),
        ("blocks", (make_block(1),) * 4097),
        ("blocks", (make_block(0),)),
        ("blocks", (make_block(1_000_000_000), make_block(1))),
        ("blocks", (make_block(lane="a b"),)),
        ("blocks", (make_block(recipe=""),)),
        ("blocks", (make_block(cost=0.0),)),
        ("blocks", (make_block(cost=float("inf")),)),
    ],
)
def test_a_record_out_of_bounds_is_refused_before_anything_is_written(queue, field, value):
    record = dataclasses.replace(make_record(), **{field: value})
    with pytest.raises(InvalidSweep):
        queue.submit(record)
    assert all_keys(queue) == []


def test_manifests_come_back_as_they_went_in(queue):
    manifest = '{"seed":[9223372036854775807],"prompt":"ein Stern ☆"}'
    queue.submit(make_record(manifest=manifest))
    assert queue.manifest("sweep") == manifest
    with pytest.raises(UnknownSweep):
        queue.manifest("other")


def test_sweeps_are_listed_newest_first(queue):
    for name in ("first", "second", "third"):
        queue.submit(make_record(name))
    assert [status.id for status in queue.sweeps()] == ["third", "second", "first"]
