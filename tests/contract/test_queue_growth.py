"""What Redis keeps of owners, lanes and workers that are gone is bounded."""

from __future__ import annotations

import secrets

import pytest

from shared import queue_board
from shared.queue import JobQueue
from tests.queue_play import MODEL, drain, make_block, make_record, must_take, store

MANY_CLOCKS = 512
"""As lib_turns.lua has it: fields of a clock from which on owners are forgotten."""


def clock_fields(queue: JobQueue) -> dict[str, float]:
    rows = queue.client.hgetall(f"{queue.keys.base}:clock:{MODEL}:0")
    return {name.decode(): float(value) for name, value in rows.items()}


def come_and_go(queue: JobQueue, owners: range) -> None:
    """Each submits a sweep, has it rendered and deletes it."""
    for number in owners:
        record = make_record(f"s{number}", make_block(1, lane="other"), owner=f"owner{number}")
        queue.submit(record)
        claim = must_take(queue, 1, prefer=("other", "r"))
        store(queue, claim)
        queue.delete(record.id)


def test_owners_who_came_and_went_leave_a_bounded_clock(queue: JobQueue) -> None:
    come_and_go(queue, range(MANY_CLOCKS))

    # 16 fields are looked at for each newcomer's two: a clock of the gone alone does not grow
    assert len(clock_fields(queue)) <= MANY_CLOCKS + 2


def test_owners_with_work_are_not_forgotten_among_many_who_are_gone(queue: JobQueue) -> None:
    # given one who has had some turns and has more work, behind everybody else
    queue.submit(make_record("steady", make_block(1000), owner="steady"))
    for _ in range(3):
        must_take(queue, 100)
    served = clock_fields(queue)["owner:steady"]

    come_and_go(queue, range(MANY_CLOCKS))

    assert clock_fields(queue)["owner:steady"] == served
    assert len(clock_fields(queue)) <= MANY_CLOCKS + 4


def test_who_was_forgotten_starts_at_the_clock_again(queue: JobQueue) -> None:
    queue.submit(make_record("first", make_block(4), owner="back"))
    drain(queue)
    queue.client.hdel(
        f"{queue.keys.base}:clock:{MODEL}:0", "owner:back", "clock:back"
    )  # as if newcomers had
    queue.submit(make_record("steady", make_block(1000, recipe="s"), owner="steady"))
    for _ in range(5):
        must_take(queue, 4)
    clock = clock_fields(queue)["clock"]
    assert clock > 0

    queue.submit(make_record("again", make_block(1000), owner="back"))

    assert clock_fields(queue)["owner:back"] == clock


def test_of_many_rates_the_oldest_are_forgotten(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_board, "MOST_RATES", 20)
    moments = iter(range(1000))
    monkeypatch.setattr(queue_board.time, "time", lambda: next(moments))
    queue.client.hset(queue.keys.rates, "m l stranger", "{}")

    for number in range(100):
        queue.record_rate("m", "l", f"r{number}", 0.5, 8)
        assert queue.client.hlen(queue.keys.rates) <= 20

    kept = [rate.recipe for rate in queue.rates()]
    assert sorted(kept) == sorted(f"r{number}" for number in range(100 - len(kept), 100))
    assert 18 <= len(kept) <= 20


def test_workers_that_vanished_are_off_the_list_when_the_next_one_starts(queue: JobQueue) -> None:
    names = [secrets.token_hex(4) for _ in range(100)]
    for name in names:
        queue.announce(name, {}, ttl_seconds=60)
        queue.client.delete(queue.keys.worker(name))  # as the end of its life does

    assert queue.workers() == []  # which a worker asks when it starts

    assert not queue.client.exists(queue.keys.workers)
