"""Whose turn it is, and what a claim is filled with."""

from collections import Counter

import pytest

from shared.queue import Claim, JobQueue
from tests.queue_play import (
    crash,
    drain,
    make_block,
    make_record,
    must_take,
    positions_of,
    store,
    store_positions,
    take,
)

JOBS = 4
"""Jobs of one claim, the grain of fairness here."""


def sweeps_of(claim: Claim) -> list[str]:
    return [share.sweep_id for share in claim.shares]


def jobs_served(queue: JobQueue, claims: int, max_jobs: int = JOBS) -> Counter[str]:
    """Jobs each sweep gets out of so many claims."""
    served: Counter[str] = Counter()
    for _ in range(claims):
        for share in must_take(queue, max_jobs).shares:
            served[share.sweep_id] += len(share.positions)
    return served


def test_the_highest_priority_is_served_first(queue):
    queue.submit(make_record("low", make_block(4, lane="a"), priority=-5))
    queue.submit(make_record("high", make_block(4, lane="b"), priority=7))
    queue.submit(make_record("normal", make_block(4, lane="c")))
    assert [sweeps_of(claim) for claim in drain(queue)] == [["high"], ["normal"], ["low"]]


def test_owners_share_alike_however_many_sweeps_each_has(queue):
    for i in range(3):
        queue.submit(make_record(f"ann{i}", make_block(1000, recipe=f"a{i}"), owner="ann"))
    queue.submit(make_record("bob", make_block(1000, recipe="b"), owner="bob"))
    served = jobs_served(queue, 60)
    assert served["bob"] == 120
    assert {served[f"ann{i}"] for i in range(3)} == {40}


def test_a_sweep_of_twice_the_weight_gets_twice_the_jobs(queue):
    queue.submit(make_record("light", make_block(1000, recipe="a"), weight=1.0))
    queue.submit(make_record("heavy", make_block(1000, recipe="b"), weight=2.0))
    served = jobs_served(queue, 60)
    assert served["heavy"] == 2 * served["light"]


def test_a_sweep_whose_jobs_cost_three_times_as_much_gets_a_third_of_them(queue):
    queue.submit(make_record("cheap", make_block(1000, recipe="a", cost=1.0), owner="ann"))
    queue.submit(make_record("dear", make_block(1000, recipe="b", cost=3.0), owner="bob"))
    served = jobs_served(queue, 80)
    assert served["cheap"] == 3 * served["dear"]


def test_a_newcomer_starts_at_the_clock_and_not_with_all_the_time_it_missed(queue):
    queue.submit(make_record("old", make_block(1000, recipe="a"), owner="ann"))
    jobs_served(queue, 50)
    queue.submit(make_record("new", make_block(1000, recipe="b"), owner="bob"))
    served = jobs_served(queue, 20)
    assert abs(served["new"] - served["old"]) <= 2 * JOBS


def test_a_new_sweep_of_the_same_owner_starts_at_the_clock_too(queue):
    queue.submit(make_record("old", make_block(1000, recipe="a")))
    jobs_served(queue, 50)
    queue.submit(make_record("new", make_block(1000, recipe="b")))
    served = jobs_served(queue, 20)
    assert abs(served["new"] - served["old"]) <= 2 * JOBS


def test_a_resumed_sweep_starts_at_the_clock(queue):
    queue.submit(make_record("steady", make_block(1000, recipe="a"), owner="ann"))
    queue.submit(make_record("stopped", make_block(1000, recipe="b"), owner="bob"))
    queue.pause("stopped")
    jobs_served(queue, 50)
    queue.resume("stopped")
    served = jobs_served(queue, 20)
    assert abs(served["stopped"] - served["steady"]) <= 2 * JOBS


def test_a_refund_does_not_set_the_clock_back(queue):
    for name in ("ann", "bob"):
        queue.submit(make_record(name, make_block(1000, recipe=name), owner=name))
    held = [must_take(queue) for _ in range(10)]
    clock = float(queue.client.hget("seedbed:{test}:clock:m:0", "clock"))
    queue.release(held[0].token)
    assert sweeps_of(must_take(queue)) == sweeps_of(held[0])
    assert float(queue.client.hget("seedbed:{test}:clock:m:0", "clock")) >= clock > 0


def test_released_jobs_are_not_charged(queue):
    queue.submit(make_record("a", make_block(1000, recipe="a"), owner="ann"))
    queue.submit(make_record("b", make_block(1000, recipe="b"), owner="bob"))
    for _ in range(10):
        claim = must_take(queue, 4)
        if sweeps_of(claim) == ["a"]:
            queue.release(claim.token)
            assert sweeps_of(must_take(queue, 4)) == ["a"]
    served = Counter({s.id: s.leased for s in queue.sweeps()})
    assert abs(served["a"] - served["b"]) <= JOBS


def test_reused_images_are_not_charged(queue):
    queue.submit(make_record("a", make_block(1000, recipe="a"), owner="ann"))
    queue.submit(make_record("b", make_block(1000, recipe="b"), owner="bob"))
    first = must_take(queue, 4)
    second = must_take(queue, 4)
    reused = second.shares[0]
    store_positions(queue, reused.sweep_id, reused.positions, reused=True)
    third = must_take(queue, 4)
    assert sweeps_of(second) != sweeps_of(first)
    assert sweeps_of(third) == sweeps_of(second)


def test_without_a_preference_the_fullest_block_is_taken(queue):
    queue.submit(
        make_record(
            "s",
            make_block(5, recipe="small"),
            make_block(50, recipe="big"),
            make_block(20, recipe="middling"),
        )
    )
    assert must_take(queue).recipe == "big"


def test_a_worker_stays_on_its_lane_and_recipe_but_not_for_ever(queue):
    queue.submit(make_record("s", make_block(500, recipe="a"), make_block(300, recipe="b")))
    claims = [must_take(queue, 1, prefer=("l", "b")) for _ in range(34)]
    assert Counter(claim.recipe for claim in claims) == {"b": 32, "a": 2}
    assert {claim.recipe for claim in claims[:16]} == {"b"}


def test_a_preference_does_not_pass_another_sweep_whose_turn_it_is(queue):
    queue.submit(make_record("mine", make_block(100, recipe="a"), owner="ann"))
    queue.submit(make_record("theirs", make_block(100, recipe="b"), owner="bob"))
    claims = [must_take(queue, 4, prefer=("l", "a")) for _ in range(10)]
    assert Counter(claim.recipe for claim in claims) == {"a": 5, "b": 5}


def test_a_batch_is_filled_from_other_sweeps_of_the_same_lane_and_recipe(queue):
    for i in range(6):
        queue.submit(make_record(f"s{i}", make_block(3), owner=f"owner{i}"))
    claim = must_take(queue, 16)
    assert claim.size == 16
    assert len(set(sweeps_of(claim))) == 6
    assert store(queue, claim).newly_done == 16


def test_filling_goes_by_priority_and_then_by_virtual_time_over_owners(queue):
    queue.submit(make_record("ann", make_block(100), owner="ann"))
    queue.submit(make_record("bob", make_block(100), owner="bob"))
    for claim in (must_take(queue, 4), must_take(queue, 4)):
        assert claim.size == 4
    queue.submit(make_record("first", make_block(1), owner="cyd", priority=1))
    queue.submit(make_record("later", make_block(2), owner="dan", priority=-1))
    # ann and bob have been charged alike; ann is charged once more here.
    assert sweeps_of(must_take(queue, 2)) == ["first", "ann"]
    assert sweeps_of(must_take(queue, 2)) == ["bob"]
    # Whatever is left of both is taken before the lower priority's.
    claim = must_take(queue, 1000)
    assert sweeps_of(claim)[-1] == "later"
    assert claim.size == 200 - 8 - 3 + 2


def test_a_claim_never_mixes_lanes_or_recipes(queue):
    for i, (lane, recipe) in enumerate([("l", "r"), ("l", "s"), ("k", "r"), ("k", "s")] * 2):
        queue.submit(make_record(f"s{i}", make_block(3, lane=lane, recipe=recipe)))
    claims = drain(queue)
    assert sorted(claim.size for claim in claims) == [6, 6, 6, 6]
    for claim in claims:
        kinds = {int(share.sweep_id[1:]) % 4 for share in claim.shares}
        assert len(kinds) == 1


def test_a_claim_takes_jobs_of_its_model_only(queue):
    queue.submit(make_record("s", make_block(3, model="m"), make_block(4, model="n", lane="k")))
    assert must_take(queue, 16, model="n").size == 4
    assert must_take(queue, 16, model="m").size == 3
    assert take(queue, model="m") is None


def test_blocks_of_one_sweep_with_one_lane_and_recipe_share_a_batch(queue):
    queue.submit(make_record("s", make_block(3), make_block(5, recipe="x"), make_block(4)))
    claim = must_take(queue, 7, prefer=("l", "r"))
    assert sorted(positions_of(claim)) == [0, 1, 2, 8, 9, 10, 11]


def test_jobs_given_back_come_before_the_cursor(queue):
    queue.submit(make_record("s", make_block(100)))
    first = must_take(queue, 4)
    must_take(queue, 4)
    queue.release(first.token)
    assert positions_of(must_take(queue, 6)) == [0, 1, 2, 3, 8, 9]


def test_a_suspect_comes_last_and_alone(queue):
    queue.submit(make_record("s", make_block(3)))
    crash(queue, 1)
    assert positions_of(crash(queue, 1)) == [0]
    claims = [must_take(queue, 16), must_take(queue, 16)]
    assert [(positions_of(claim), claim.solo) for claim in claims] == [([1, 2], False), ([0], True)]


def test_what_is_done_beyond_the_cursor_is_passed_over(queue):
    queue.submit(make_record("s", make_block(40)))
    done = {0, 1, 2, 7, 8, 9, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 39}
    store_positions(queue, "s", done)
    taken = [position for claim in drain(queue, 5) for position in positions_of(claim)]
    assert taken == sorted(set(range(40)) - done)
    assert queue.status("s").state == "finalising"


SEGMENT = 1 << 20


@pytest.mark.parametrize(
    "holes",
    [
        [0],
        [SEGMENT - 1],
        [SEGMENT],
        [SEGMENT - 1, SEGMENT, SEGMENT + 1],
        [5, SEGMENT + 9, 2 * SEGMENT - 1, 2 * SEGMENT, 2 * SEGMENT + 99],
    ],
)
def test_holes_are_found_in_a_sweep_whose_segments_are_nearly_all_done(queue, holes):
    """The bits of what is done are written directly here: a million commits take their time."""
    total = 2 * SEGMENT + 100
    queue.submit(make_record("s", make_block(total)))
    base = queue.keys.base
    for segment in range(3):
        size = min(SEGMENT, total - segment * SEGMENT)
        bits = bytearray(b"\xff" * (size // 8)) + (b"\xf0" if size % 8 else b"")
        inside = [hole % SEGMENT for hole in holes if hole // SEGMENT == segment]
        for hole in inside:
            bits[hole // 8] &= ~(0x80 >> hole % 8)
        queue.client.set(f"{base}:bits:s:{segment}", bytes(bits))
        queue.client.hset(f"{base}:segments:s", str(segment), size - len(inside))
    queue.client.hset(f"{base}:sweep:s", "done", total - len(holes))
    queue.client.hset(f"{base}:cursors:s", mapping={"0:at": 0, "0:left": len(holes)})
    queue.client.zadd(f"{base}:open:s:m", {"0": len(holes)})

    claims = drain(queue, 2)

    assert [position for claim in claims for position in positions_of(claim)] == holes
    assert queue.status("s").state == "finalising"


def test_the_first_claim_pins_a_sweep_and_other_weights_pass_it_by(queue):
    queue.submit(make_record("first", make_block(20)))
    assert sweeps_of(must_take(queue, pin="weights-a")) == ["first"]
    assert queue.status("first").pins == {"m": "weights-a"}

    assert take(queue, pin="weights-b") is None

    queue.submit(make_record("second", make_block(4), priority=-1))
    assert sweeps_of(must_take(queue, pin="weights-b")) == ["second"]
    assert sweeps_of(must_take(queue, 32, pin="weights-a")) == ["first"]


def test_models_of_one_sweep_are_pinned_each_to_its_own(queue):
    queue.submit(make_record("s", make_block(2, model="m"), make_block(2, model="n", lane="k")))
    must_take(queue, model="m", pin="p")
    must_take(queue, model="n", pin="q")
    assert queue.status("s").pins == {"m": "p", "n": "q"}


def test_filling_pins_too_and_passes_other_weights_by(queue):
    queue.submit(make_record("a", make_block(2), priority=1))
    queue.submit(make_record("b", make_block(2)))
    queue.submit(make_record("c", make_block(2), owner="zoe"))
    queue.pause("b")
    assert must_take(queue, 1, pin="x").size == 1
    queue.pause("a")
    assert sweeps_of(must_take(queue, 1, pin="y")) == ["c"]
    queue.resume("a")
    queue.resume("b")

    claim = must_take(queue, 16, pin="y")

    assert sorted(sweeps_of(claim)) == ["b", "c"]
    assert queue.status("b").pins == {"m": "y"}


def test_a_thousand_sweeps_of_other_weights_are_in_nobodys_way(queue):
    for i in range(100):
        queue.submit(make_record(f"s{i}", make_block(20), priority=5))
    for _ in range(100):
        must_take(queue, 1, pin="weights-b")
    while take(queue, 50, pin="weights-b") is not None and any(
        not status.pins for status in queue.sweeps()
    ):
        pass
    queue.submit(make_record("mine", make_block(4)))
    assert sweeps_of(must_take(queue, pin="weights-a")) == ["mine"]


def test_claimable_says_what_a_claim_would_find(queue):
    assert not queue.look().claimable("m")
    queue.submit(make_record("s", make_block(4), make_block(1, model="n", lane="k")))
    assert queue.look().models == ["m", "n"]
    claim = must_take(queue, 4, pin="weights-a")
    assert not queue.look().claimable("m")
    queue.release(claim.token)
    assert queue.look().claimable("m")
    assert queue.look().claimable("m", pin="weights-a")
    assert not queue.look().claimable("m", pin="weights-b")
    queue.pause("s")
    assert queue.look().models == []


def test_a_claim_tells_whether_there_is_more_for_the_same_weights(queue):
    queue.submit(make_record("s", make_block(6)))
    assert must_take(queue, 4, token="t").more
    assert not must_take(queue, 4).more
    assert not must_take(queue, 4, token="t").more, "asked again, it tells what is true now"
    queue.submit(make_record("n", make_block(4, model="n")))
    queue.submit(make_record("new", make_block(4)))
    assert not must_take(queue, 4).more
