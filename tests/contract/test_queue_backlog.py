"""One look at the open work: bounded, of one moment, and whole where nothing is malformed.

That it agrees with the queue wherever jobs are, the random lives of a pool check at every step.
"""

from __future__ import annotations

import pytest

from shared.backlog import UNPINNED
from shared.queue import JobQueue
from shared.queue_look import short_pin
from tests.queue_checks import read_everything
from tests.queue_play import (
    MODEL,
    PIN,
    make_block,
    make_record,
    must_take,
    refs_of,
    store_positions,
    take,
)


def test_an_empty_pool_has_no_work(queue: JobQueue) -> None:
    backlog = queue.backlog()
    assert (backlog.waiting, backlog.held, backlog.models) == ((), (), set())
    assert (backlog.sweeps, backlog.sweeps_unread, backlog.leases_unread) == (0, 0, 0)
    assert (queue.tallies(), queue.seconds_per_job([])) == ({}, {})


def test_a_look_writes_nothing(queue: JobQueue) -> None:
    queue.submit(make_record("a", make_block(5), make_block(3, recipe="s")))
    claim = must_take(queue, 2)
    queue.cancel("a")
    queue.submit(make_record("b"))
    before = read_everything(queue.client, queue.keys.base)

    queue.backlog()

    assert claim.size == 2
    assert read_everything(queue.client, queue.keys.base) == before


@pytest.mark.parametrize(("pages", "jobs", "unread"), [(20, 70, 0), (3, 60, 1), (1, 20, 5)])
def test_a_look_at_many_sweeps_is_put_together_from_pages_up_to_a_bound(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch, pages: int, jobs: int, unread: int
) -> None:
    monkeypatch.setattr("shared.queue_backlog.PAGE_BLOCKS", 2)
    monkeypatch.setattr("shared.queue_backlog.MOST_PAGES", pages)
    for number in range(7):
        owner = "ann" if number % 3 else "bob"
        queue.submit(make_record(f"s{number}", make_block(10, cost=2.0), owner=owner))

    backlog = queue.backlog()

    (row,) = backlog.waiting
    assert (row.jobs, row.cost) == (jobs, 2.0 * jobs)
    assert (backlog.sweeps, backlog.sweeps_unread) == (7, unread)
    if not unread:
        assert backlog.oldest[MODEL] == min(status.submitted_at for status in queue.sweeps())


@pytest.mark.parametrize(("pages", "jobs", "unread"), [(20, 10, 0), (2, 8, 1), (1, 4, 3)])
def test_a_look_at_many_leases_is_put_together_from_pages_up_to_a_bound(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch, pages: int, jobs: int, unread: int
) -> None:
    monkeypatch.setattr("shared.queue_backlog.PAGE_LEASES", 2)
    monkeypatch.setattr("shared.queue_backlog.MOST_PAGES", pages)
    queue.submit(make_record("s", make_block(10)))
    for _ in range(5):
        must_take(queue, 2)

    backlog = queue.backlog()

    (row,) = backlog.held
    assert (row.jobs, backlog.leases_unread) == (jobs, unread)
    assert backlog.waiting == ()


def test_a_sweep_of_many_blocks_is_read_as_one_of_few(queue: JobQueue) -> None:
    blocks = [make_block(3 + number % 5, recipe=f"r{number}") for number in range(40)]
    queue.submit(make_record("s", *blocks))
    claims = [must_take(queue, 2) for _ in range(6)]
    for claim in claims:
        queue.release(claim.token, refs_of(claim)[:1])

    backlog = queue.backlog()

    held = {row.recipe: row.jobs for row in backlog.held}
    waiting = {row.recipe: row.jobs for row in backlog.waiting}
    assert sum(held.values()) == 6
    for block in blocks:
        assert waiting.get(block.recipe, 0) + held.get(block.recipe, 0) == block.size


def test_a_malformed_sweep_hides_no_other(queue: JobQueue) -> None:
    queue.submit(make_record("bad"))
    queue.submit(make_record("good"))
    queue.client.delete(f"{queue.keys.base}:open:bad:{MODEL}")
    queue.client.set(f"{queue.keys.base}:open:bad:{MODEL}", "not a sorted set")

    (row,) = queue.backlog().waiting

    assert row.jobs == 10


def test_jobs_are_told_by_pin(queue: JobQueue) -> None:
    queue.submit(make_record("mine", make_block(4)))
    take(queue, 1)
    queue.submit(make_record("new", make_block(6)))

    rows = {row.pin: row.jobs for row in queue.backlog().waiting}

    assert rows == {short_pin(PIN): 3, UNPINNED: 6}


def test_a_paused_sweep_s_jobs_wait_for_nobody_but_those_that_are_held(queue: JobQueue) -> None:
    queue.submit(make_record("s", make_block(10)))
    must_take(queue, 3)
    queue.pause("s")

    backlog = queue.backlog()

    assert backlog.waiting == ()
    assert [row.jobs for row in backlog.held] == [3]
    assert backlog.oldest == {}


def test_done_jobs_are_counted_under_the_model_of_their_block(queue: JobQueue) -> None:
    queue.submit(make_record("s", make_block(4), make_block(4, model="n"), make_block(4)))
    store_positions(queue, "s", [1, 5, 6, 9, 10])
    store_positions(queue, "s", [1, 5])  # again: nothing new

    assert {model: tally.done for model, tally in queue.tallies().items()} == {MODEL: 3, "n": 2}


def test_a_rate_that_cannot_be_read_is_left_out(queue: JobQueue) -> None:
    queue.record_rate("m", "l", "r", 0.5, 8)
    for name, text in (("m l x", "{"), ("m l y", "{}"), ("m l z", '{"seconds_per_job": null}')):
        queue.client.hset(queue.keys.rates, name, text)

    asked = [("m", "l", recipe) for recipe in "rxyz0"]
    assert queue.seconds_per_job(asked) == {("m", "l", "r"): 0.5}


def test_redis_tells_its_memory(queue: JobQueue) -> None:
    used, limit = queue.redis_memory()
    assert used > 0
    assert limit == 0
