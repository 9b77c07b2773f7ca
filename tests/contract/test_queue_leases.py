"""Leases: tokens, deadlines, phases, and whose fault a crash is."""

import time

import pytest

from shared.errors import LeaseLost
from shared.queue import JobRef
from tests.queue_play import (
    LONG_LEASE,
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
    store,
    store_positions,
    take,
)


def lease_keys(queue):
    return [key for key in all_keys(queue) if b":lease" in key]


def test_a_replayed_claim_gives_the_same_lease(queue):
    queue.submit(make_record())
    first = must_take(queue, token="t")
    assert must_take(queue, token="t") == first
    queue.begin("t", refs_of(first)[:1], gpu_seconds=1)
    assert must_take(queue, token="t") == first
    assert queue.status("sweep").leased == 4


@pytest.mark.parametrize("how", ["committed", "released", "failed", "reaped", "expired"])
def test_a_token_that_is_over_is_gone_for_good(queue, how):
    queue.submit(make_record())
    claim = must_take(queue, 1, token="t")
    if how == "committed":
        store(queue, claim)
    elif how == "released":
        queue.release("t")
    elif how == "failed":
        queue.fail("t", refs_of(claim)[0], reason="bad", worker="w")
    else:
        expire(queue, "t")
        if how == "reaped":
            queue.reap()
    for _ in range(2):
        with pytest.raises(LeaseLost):
            take(queue, token="t")
    with pytest.raises(LeaseLost):
        queue.begin("t", refs_of(claim), gpu_seconds=1)
    with pytest.raises(LeaseLost):
        queue.renew("t", lease_seconds=1, phase="queued")
    with pytest.raises(LeaseLost):
        queue.finalise(token="t", lease_seconds=1)


def test_a_lease_expires_by_the_server_s_clock(queue):
    queue.submit(make_record())
    claim = must_take(queue, lease_seconds=0.02)
    assert 0 < queue.renew(claim.token, lease_seconds=0.02, phase="queued") <= 0.02
    time.sleep(0.03)
    with pytest.raises(LeaseLost):
        queue.renew(claim.token, lease_seconds=0.02, phase="queued")
    assert queue.look().claimable("m")
    assert queue.reap() == 1
    assert queue.status("sweep").leased == 0


def test_a_lease_outlives_a_missed_renewal_or_two(queue):
    """A renewal every third of a lease leaves room for two that are lost."""
    queue.submit(make_record())
    claim = must_take(queue, lease_seconds=1.5)
    for _ in range(2):
        time.sleep(1.0)
        assert queue.renew(claim.token, lease_seconds=1.5, phase="queued") > 1.25


def test_a_hung_gpu_cannot_renew_for_ever(queue):
    queue.submit(make_record())
    claim = must_take(queue)
    queue.begin(claim.token, refs_of(claim), gpu_seconds=0.02)
    assert queue.renew(claim.token, lease_seconds=60, phase="gpu") <= 0.02
    time.sleep(0.03)
    with pytest.raises(LeaseLost):
        queue.renew(claim.token, lease_seconds=60, phase="gpu")


def test_a_gpu_phase_that_is_over_cannot_be_renewed_though_the_lease_is_not(queue):
    queue.submit(make_record())
    claim = must_take(queue, lease_seconds=60)
    queue.begin(claim.token, refs_of(claim), gpu_seconds=0.01)
    time.sleep(0.02)
    with pytest.raises(LeaseLost):
        queue.renew(claim.token, lease_seconds=60, phase="gpu")


def test_uploading_may_take_an_hour_and_queueing_ten_minutes(queue):
    queue.submit(make_record())
    claim = must_take(queue)
    assert 599 < queue.renew(claim.token, lease_seconds=3600, phase="queued") <= 600
    queue.begin(claim.token, refs_of(claim), gpu_seconds=5)
    assert 4 < queue.renew(claim.token, lease_seconds=3600, phase="gpu") <= 5
    assert 3599 < queue.renew(claim.token, lease_seconds=3600, phase="uploading") <= 3600


def test_renewing_in_the_same_phase_does_not_move_its_bound(queue):
    queue.submit(make_record())
    claim = must_take(queue)
    bound = queue.renew(claim.token, lease_seconds=3600, phase="queued")
    time.sleep(0.02)
    assert queue.renew(claim.token, lease_seconds=3600, phase="queued") <= bound - 0.02
    queue.begin(claim.token, [], gpu_seconds=50)
    bound = queue.renew(claim.token, lease_seconds=60, phase="gpu")
    time.sleep(0.02)
    assert queue.renew(claim.token, lease_seconds=60, phase="gpu") <= bound - 0.02
    # Only begin starts a GPU phase: saying so in a renewal changes nothing.
    queue.renew(claim.token, lease_seconds=60, phase="uploading")
    assert queue.renew(claim.token, lease_seconds=3600, phase="gpu") > 3500


def test_a_lease_from_a_future_the_clock_was_set_back_from_is_over(queue):
    queue.submit(make_record())
    claim = must_take(queue)
    queue.client.zadd(f"{queue.keys.base}:leases", {claim.token: (time.time() + 86400) * 1e6})
    with pytest.raises(LeaseLost):
        queue.renew(claim.token, lease_seconds=1, phase="queued")
    assert queue.reap() == 1
    assert queue.status("sweep").leased == 0


def test_a_claim_reaps_a_few_expired_leases_first(queue):
    queue.submit(make_record("s", make_block(12)))
    for i in range(6):
        must_take(queue, 2, token=f"t{i}")
    assert not queue.look().claimable("m")
    for i in range(6):
        expire(queue, f"t{i}")
    assert queue.look().claimable("m")
    claim = must_take(queue, 16)
    assert claim.size == 8
    assert must_take(queue, 16).size == 4


def test_reaping_is_bounded_by_its_limit(queue):
    queue.submit(make_record("s", make_block(40)))
    for i in range(20):
        must_take(queue, 2, token=f"t{i}")
    for i in range(20):
        expire(queue, f"t{i}")
    assert [queue.reap(limit=8), queue.reap(), queue.reap()] == [8, 12, 0]
    assert queue.status("s").pending == 40


def test_only_jobs_that_had_begun_are_charged_when_a_worker_vanishes(queue):
    queue.submit(make_record())
    claim = must_take(queue, 4)
    queue.begin(claim.token, refs_of(claim)[:2], gpu_seconds=60)
    expire(queue, claim.token)
    queue.reap()
    failures = queue.failures("sweep")
    assert [(failure.position, failure.attempts) for failure in failures] == [(0, 1), (1, 1)]
    assert failures[0].reason == "the worker vanished while it was rendering this job"
    assert not failures[0].dead


def test_five_crashes_make_a_job_dead_two_in_company_and_three_alone(queue):
    queue.submit(make_record("s", make_block(2)))
    company = [crash(queue, 2) for _ in range(2)]
    assert [(claim.size, claim.solo) for claim in company] == [(2, False), (2, False)]
    alone = [crash(queue, 2) for _ in range(6)]
    assert all(claim.solo and claim.size == 1 for claim in alone)
    assert take(queue) is None
    status = queue.status("s")
    assert (status.dead, status.state) == (2, "finalising")
    assert [failure.attempts for failure in queue.failures("s")] == [5, 5]
    assert {failure.reason for failure in queue.failures("s")} == {
        "killed its worker 3 times while alone"
    }


def test_only_what_is_on_the_gpu_when_a_worker_vanishes_is_charged(queue):
    queue.submit(make_record())
    claim = must_take(queue, 4)
    refs = refs_of(claim)
    queue.begin(claim.token, refs[:2], gpu_seconds=60)
    queue.begin(claim.token, refs[2:], gpu_seconds=60, worker="w7")  # the first two are rendered
    expire(queue, claim.token)
    queue.reap()
    charged = [(failure.position, failure.worker) for failure in queue.failures("sweep")]
    assert charged == [(2, "w7"), (3, "w7")]


def test_an_image_that_waits_for_storage_is_not_charged_with_its_worker_s_end(queue):
    queue.submit(make_record("s", make_block(1)))
    for _ in range(8):
        claim = must_take(queue)
        queue.begin(claim.token, refs_of(claim), gpu_seconds=60)
        queue.renew(claim.token, lease_seconds=60, phase="uploading")
        expire(queue, claim.token)
        assert queue.reap() == 1
    assert queue.failures("s") == []
    assert not must_take(queue).solo


def test_a_job_that_dies_of_other_reasons_keeps_the_last_one(queue):
    queue.submit(make_record("s", make_block(1)))
    for _ in range(3):
        crash(queue)
    assert queue.failures("s")[0].reason == (
        "the worker vanished while it was rendering this job alone (1 of 3)"
    )
    crash(queue)
    claim = must_take(queue)
    queue.begin(claim.token, refs_of(claim), gpu_seconds=120)
    queue.fail(claim.token, refs_of(claim)[0], reason="exceeded 120 s on the GPU", worker="w")
    (failure,) = queue.failures("s")
    assert (failure.reason, failure.dead) == ("exceeded 120 s on the GPU", True)
    assert queue.retry("s") == 1
    for _ in range(4):
        crash(queue)
    claim = must_take(queue)
    queue.begin(claim.token, refs_of(claim), gpu_seconds=60)
    queue.fail(claim.token, refs_of(claim)[0], reason="a tantrum", worker="w")
    assert queue.failures("s")[0].reason == "a tantrum"


def test_a_worker_that_vanishes_at_last_is_not_put_on_a_job_that_failed_before(queue):
    queue.submit(make_record("s", make_block(1)))
    for number in range(3):
        claim = must_take(queue)
        queue.begin(claim.token, refs_of(claim), gpu_seconds=60)
        queue.fail(claim.token, refs_of(claim)[0], reason=f"a tantrum, {number}", worker="w")
    crash(queue)
    assert queue.failures("s")[0].reason == (
        "the worker vanished while it was rendering this job alone (2 of 3)"
    )
    crash(queue)
    (failure,) = queue.failures("s")
    assert failure.dead
    assert failure.reason == "a tantrum, 2; the worker of its last attempt vanished"


def test_a_job_that_fails_is_tried_again_and_a_permanent_failure_is_not(queue):
    queue.submit(make_record("s", make_block(2)))
    claim = must_take(queue, 2)
    queue.begin(claim.token, refs_of(claim), gpu_seconds=60)
    queue.fail(claim.token, JobRef("s", 0), reason="flaky", worker="w1")
    queue.fail(claim.token, JobRef("s", 1), reason="hopeless", worker="w1", permanent=True)
    flaky, hopeless = queue.failures("s")
    assert (flaky.reason, flaky.worker, flaky.attempts, flaky.dead) == ("flaky", "w1", 1, False)
    assert (hopeless.reason, hopeless.dead) == ("hopeless", True)
    assert abs(hopeless.at - time.time()) < 60
    assert positions_of(must_take(queue, 16)) == [0]


def test_releases_and_failures_before_the_gpu_never_charge_an_attempt(queue):
    queue.submit(make_record("s", make_block(1)))
    for _ in range(8):
        queue.release(must_take(queue).token)
        claim = must_take(queue)
        queue.fail(claim.token, JobRef("s", 0), reason="not begun", worker="w")
    claim = must_take(queue)
    assert not claim.solo
    assert queue.failures("s")[0].attempts == 0


def test_a_failure_that_redis_runs_twice_counts_once(queue):
    queue.submit(make_record("s", make_block(1)))
    claim = must_take(queue)
    queue.begin(claim.token, refs_of(claim), gpu_seconds=60)
    for _ in range(2):
        queue.fail(claim.token, JobRef("s", 0), reason="bad", worker="w")
    assert queue.failures("s")[0].attempts == 1


def test_a_job_of_another_s_lease_cannot_be_failed(queue):
    queue.submit(make_record())
    mine, theirs = must_take(queue, 2), must_take(queue, 2)
    with pytest.raises(LeaseLost):
        queue.fail(mine.token, refs_of(theirs)[0], reason="no", worker="w")
    assert queue.release(mine.token, refs_of(theirs)) == 0
    assert queue.status("sweep").leased == 4


def test_release_gives_back_what_is_named_and_keeps_the_rest(queue):
    queue.submit(make_record())
    claim = must_take(queue, 4)
    assert queue.release(claim.token, [JobRef("sweep", 1), JobRef("sweep", 2)]) == 2
    assert queue.status("sweep").leased == 2
    assert queue.release(claim.token, []) == 0
    assert queue.release(claim.token) == 2
    assert queue.release(claim.token) == 0
    assert lease_keys(queue) == []


def test_success_wipes_the_slate(queue):
    queue.submit(make_record("s", make_block(1)))
    crash(queue)
    store(queue, must_take(queue))
    assert queue.failures("s") == []
    assert queue.status("s").state == "finalising"


def test_reasons_are_cut_short_and_survive_any_text(queue):
    queue.submit(make_record("s", make_block(2)))
    claim = must_take(queue, 2)
    queue.fail(claim.token, JobRef("s", 0), reason="ü" * 5000, worker="w", permanent=True)
    queue.fail(claim.token, JobRef("s", 1), reason='"\\\n\x00\udc80', worker="w", permanent=True)
    long, odd = queue.failures("s")
    assert long.reason == "ü" * 2000
    assert odd.reason == '"\\\n\x00?'


def test_after_a_thousand_failures_reasons_are_kept_short(queue):
    queue.submit(make_record("s", make_block(1002)))
    claim = must_take(queue, 1002)
    for ref in refs_of(claim):
        queue.fail(claim.token, ref, reason="ü" * 2000, worker="w", permanent=True)
    lengths = [len(failure.reason) for failure in queue.failures("s", limit=2000)]
    assert lengths == [2000] * 1000 + [100, 100]
    assert len(queue.failures("s", limit=7)) == 7


def test_a_finalise_item_is_leased_renewed_released_and_reaped_like_any_other(queue):
    queue.submit(make_record())
    drain(queue)
    item = queue.finalise(token="a", lease_seconds=LONG_LEASE)
    assert item is not None
    assert queue.finalise(token="a", lease_seconds=LONG_LEASE) == item
    assert queue.finalise(token="b", lease_seconds=LONG_LEASE) is None
    assert queue.renew("a", lease_seconds=30, phase="uploading") == 30
    assert queue.release("a") == 1

    assert queue.finalise(token="c", lease_seconds=LONG_LEASE) == item
    expire(queue, "c")
    assert queue.finalise(token="d", lease_seconds=LONG_LEASE) == item
    with pytest.raises(LeaseLost):
        queue.finish("c", item.sweep_id, item.epoch)
    for _ in range(2):
        queue.finish("d", item.sweep_id, item.epoch)
    status = queue.status("sweep")
    assert status.state == "done"
    assert status.finished_at is not None
    assert status.finished_at >= status.submitted_at
    assert lease_keys(queue) == []
    assert finish(queue) is None


def test_a_sweep_that_is_reopened_takes_its_finalise_item_back(queue):
    queue.submit(make_record())
    drain(queue)
    item = queue.finalise(token="a", lease_seconds=LONG_LEASE)
    assert item is not None
    assert queue.repair("sweep", missing=[3]) == 1
    with pytest.raises(LeaseLost):
        queue.finish("a", item.sweep_id, item.epoch)
    expire(queue, "a")
    assert queue.finalise(token="b", lease_seconds=LONG_LEASE) is None
    drain(queue)
    assert finish(queue) == "sweep"


def test_a_cancelled_sweep_is_indexed_once_nobody_holds_a_job_of_it(queue):
    queue.submit(make_record())
    claim = must_take(queue, 2, token="t")
    queue.cancel("sweep")
    assert queue.finalise(token="a", lease_seconds=LONG_LEASE) is None

    queue.release(claim.token)
    item = queue.finalise(token="b", lease_seconds=LONG_LEASE)

    assert item is not None
    for _ in range(2):
        queue.finish("b", item.sweep_id, item.epoch)
    assert queue.status("sweep").state == "cancelled"
    assert finish(queue) is None
    assert lease_keys(queue) == []


def test_a_late_commit_on_a_cancelled_sweep_calls_for_another_index_and_not_at_once(queue):
    queue.submit(make_record())
    queue.cancel("sweep")
    first = queue.finalise(token="a", lease_seconds=LONG_LEASE)
    assert first is not None

    # given: while the first index is being written, a late image is committed
    store_positions(queue, "sweep", [3])

    assert queue.finalise(token="b", lease_seconds=LONG_LEASE) is None
    queue.finish("a", first.sweep_id, first.epoch)
    assert finish(queue) == "sweep"
    assert finish(queue) is None


def test_a_finaliser_of_a_cancelled_sweep_that_dies_is_followed_by_another(queue):
    queue.submit(make_record())
    queue.cancel("sweep")
    item = queue.finalise(token="a", lease_seconds=LONG_LEASE)
    expire(queue, "a")

    assert queue.finalise(token="b", lease_seconds=LONG_LEASE) == item


def test_a_cancelled_sweep_that_starts_again_has_no_index_due(queue):
    queue.submit(make_record())
    queue.cancel("sweep")
    item = queue.finalise(token="a", lease_seconds=LONG_LEASE)
    assert queue.submit(make_record()).outcome == "restarted"

    with pytest.raises(LeaseLost):
        queue.finish("a", item.sweep_id, item.epoch)
    expire(queue, "a")
    assert finish(queue) is None


def test_an_index_may_take_hours(queue):
    queue.submit(make_record())
    queue.cancel("sweep")
    queue.finalise(token="a", lease_seconds=LONG_LEASE)
    until = int(queue.client.hget(f"{queue.keys.base}:lease:a", "phase_until"))
    assert until - time.time() * 1e6 > 5.9 * 3600e6


def test_a_lease_on_a_deleted_sweep_does_no_harm(queue):
    queue.submit(make_record("gone"))
    queue.submit(make_record("kept"))
    claim = must_take(queue, 16)
    assert claim.size == 16
    queue.begin(claim.token, refs_of(claim), gpu_seconds=60)
    queue.delete("gone")
    queue.submit(make_record("gone"))
    assert store_positions(queue, "gone", [0]).newly_done == 1

    expire(queue, claim.token)
    queue.reap()

    gone, kept = queue.status("gone"), queue.status("kept")
    assert (gone.done, gone.leased, gone.pending) == (1, 0, 9)
    assert (kept.leased, kept.pending) == (0, 10)
    assert queue.failures("gone") == []


@pytest.mark.parametrize("seconds", [0.0, -1.0, 3601.0])
def test_a_lease_lasts_an_hour_at_most(queue, seconds):
    with pytest.raises(ValueError, match="lease_seconds"):
        take(queue, lease_seconds=seconds)
    with pytest.raises(ValueError, match="max_jobs"):
        take(queue, 0)
