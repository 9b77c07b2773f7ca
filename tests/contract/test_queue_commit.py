"""Commits: accepted whoever holds the jobs, counted once, and done dominates."""

import pytest

from shared.errors import InvalidManifest, LeaseLost, UnknownSweep
from shared.queue import CommitGroup, JobRef
from shared.scripts import run_script
from tests.queue_play import (
    MODEL,
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

SEGMENT = 1 << 20


def test_only_bits_that_change_are_counted(queue):
    queue.submit(make_record())
    claim = must_take(queue, 4)
    assert store(queue, claim).newly_done == 4
    assert store(queue, claim).newly_done == 0
    assert store_positions(queue, "sweep", [2, 3, 4, 5], reused=True).newly_done == 2
    status = queue.status("sweep")
    assert (status.done, status.reused, status.bytes) == (6, 2, 600)


def test_images_that_a_safety_checker_blacked_out_are_counted_once(queue):
    epoch = queue.submit(make_record()).epoch
    group = CommitGroup(
        sweep_id="sweep", epoch=epoch, positions=[3, 9, 1], bytes=[1, 1, 1], flagged=[9, 1]
    )
    queue.commit(None, [group])
    queue.commit(None, [group])
    assert (queue.status("sweep").done, queue.status("sweep").flagged) == (3, 2)


def test_one_commit_may_concern_several_sweeps(queue):
    a, b = queue.submit(make_record("a")), queue.submit(make_record("b"))
    groups = [
        CommitGroup(sweep_id="a", epoch=a.epoch, positions=[9, 0], bytes=[1, 2]),
        CommitGroup(sweep_id="b", epoch=b.epoch, positions=list(range(10)), bytes=[1] * 10),
        CommitGroup(sweep_id="b", epoch=b.epoch - 1, positions=[0], bytes=[1]),
        CommitGroup(sweep_id="c", epoch=1, positions=[0], bytes=[1]),
        CommitGroup(sweep_id="a", epoch=a.epoch, positions=[], bytes=[]),
    ]
    committed = queue.commit(None, groups)
    assert committed.newly_done == 12
    assert committed.finalising == ("b",)
    assert committed.stale == ("b", "c")
    assert queue.status("a").bytes == 3


def test_a_late_commit_takes_the_jobs_from_their_present_holder(queue):
    queue.submit(make_record())
    late = must_take(queue, 4)
    expire(queue, late.token)
    present = must_take(queue, 4)
    assert positions_of(present) == positions_of(late)

    assert store(queue, late).newly_done == 4

    with pytest.raises(LeaseLost):
        queue.begin(present.token, refs_of(present), gpu_seconds=1)
    assert queue.status("sweep").leased == 0
    assert store(queue, present).newly_done == 0


def test_a_late_commit_of_some_leaves_the_present_holder_the_others(queue):
    queue.submit(make_record())
    late = must_take(queue, 4)
    expire(queue, late.token)
    present = must_take(queue, 4)
    store_positions(queue, "sweep", positions_of(late)[:3])
    queue.begin(present.token, refs_of(present), gpu_seconds=1)
    assert queue.release(present.token) == 1


@pytest.mark.parametrize("place", ["beyond", "retry", "solo", "dead", "leased"])
def test_done_dominates_wherever_a_position_was(queue, place):
    queue.submit(make_record("s", make_block(3)))
    if place == "retry":
        queue.release(must_take(queue, 1).token)
    elif place == "solo":
        crash(queue, 1)
        crash(queue, 1)
    elif place == "dead":
        claim = must_take(queue, 1)
        queue.fail(claim.token, JobRef("s", 0), reason="x", worker="w", permanent=True)
    elif place == "leased":
        must_take(queue, 1)

    assert store_positions(queue, "s", [0]).newly_done == 1

    status = queue.status("s")
    assert (status.done, status.dead, status.leased, status.pending) == (1, 0, 0, 2)
    assert queue.failures("s") == []
    assert [positions_of(claim) for claim in drain(queue)] == [[1, 2]]


@pytest.mark.parametrize("change", ["pause", "cancel"])
def test_work_done_on_a_paused_or_cancelled_sweep_counts(queue, change):
    queue.submit(make_record())
    claim = must_take(queue, 4)
    state = getattr(queue, change)("sweep")
    assert store(queue, claim).newly_done == 4
    assert store_positions(queue, "sweep", [8]).newly_done == 1
    status = queue.status("sweep")
    assert (status.state, status.done, status.leased) == (state, 5, 0)
    assert status.pending + status.cancelled == 5
    assert take(queue) is None


def test_completing_a_paused_sweep_finalises_it_and_a_cancelled_one_stays_cancelled(queue):
    queue.submit(make_record("p"))
    queue.submit(make_record("c"))
    queue.pause("p")
    queue.cancel("c")
    assert store_positions(queue, "p", range(10)).finalising == ("p",)
    assert store_positions(queue, "c", range(10)).finalising == ()
    assert {finish(queue), finish(queue)} == {"p", "c"}
    assert finish(queue) is None
    assert queue.status("c").state == "cancelled"


def test_another_epoch_and_an_unknown_sweep_are_stale_and_write_nothing(queue):
    epoch = queue.submit(make_record()).epoch
    claim = must_take(queue, 4)
    queue.delete("sweep")
    queue.submit(make_record())
    before = snapshot(queue)
    assert store(queue, claim).stale == ("sweep",)
    assert store_positions(queue, "nobody", [0], epoch=epoch).stale == ("nobody",)
    assert snapshot(queue) == before


@pytest.mark.parametrize("positions", [[10], [-1], [0, 10], [-1, 0]])
def test_a_position_outside_its_sweep_is_refused_and_nothing_is_written(queue, positions):
    queue.submit(make_record())
    before = snapshot(queue)
    with pytest.raises(InvalidManifest, match="does not have"):
        store_positions(queue, "sweep", positions)
    assert snapshot(queue) == before


def test_bits_live_in_segments_of_a_megabit_and_nothing_is_allocated_before(queue):
    queue.submit(make_record("s", make_block(SEGMENT), make_block(SEGMENT, recipe="x")))
    assert not queue.client.keys("*:bits:*")
    edges = [0, SEGMENT - 1, SEGMENT, 2 * SEGMENT - 1]
    assert store_positions(queue, "s", edges).newly_done == 4
    assert sorted(queue.client.keys("*:bits:*")) == [
        b"seedbed:{test}:bits:s:0",
        b"seedbed:{test}:bits:s:1",
    ]
    assert queue.client.strlen("seedbed:{test}:bits:s:1") == SEGMENT // 8
    assert queue.client.hgetall("seedbed:{test}:segments:s") == {b"0": b"2", b"1": b"2"}


def test_the_done_mask_is_read_across_segments(queue):
    queue.submit(make_record("s", make_block(2 * SEGMENT)))
    done = {8, 15, SEGMENT - 1, SEGMENT, SEGMENT + 9}
    store_positions(queue, "s", done)

    def positions(start: int, count: int) -> set[int]:
        mask = queue.done_mask("s", start, count)
        assert len(mask) == (count + 7) // 8
        return {
            start + 8 * i + bit
            for i, byte in enumerate(mask)
            for bit in range(8)
            if byte & (0x80 >> bit)
        }

    assert positions(0, 2 * SEGMENT) == done
    assert positions(SEGMENT - 8, 18) == {SEGMENT - 1, SEGMENT, SEGMENT + 9}
    assert positions(SEGMENT - 8, 17) == {SEGMENT - 1, SEGMENT}
    assert positions(8, 0) == set()
    with pytest.raises(ValueError, match="multiple of 8"):
        queue.done_mask("s", 4, 8)


def test_a_hundred_thousand_stored_images_are_prefilled_in_bounded_calls(queue):
    queue.submit(make_record("s", make_block(100_001)))
    queue.client.config_resetstat()
    assert store_positions(queue, "s", range(100_000), reused=True).newly_done == 100_000
    slowest = max((entry["duration"] for entry in queue.client.slowlog_get(128)), default=0)
    assert slowest < 500_000
    assert [positions_of(claim) for claim in drain(queue)] == [[100_000]]


def test_retry_revives_the_dead_with_a_clean_slate_and_reopens_a_finished_sweep(queue):
    first = queue.submit(make_record("s", make_block(3)))
    claim = must_take(queue, 3)
    queue.begin(claim.token, refs_of(claim), gpu_seconds=60)
    for position in (0, 2):
        queue.fail(claim.token, JobRef("s", position), reason="x", worker="w", permanent=True)
    store_positions(queue, "s", [1])
    finish(queue)
    assert (queue.status("s").state, queue.status("s").dead) == ("done", 2)

    assert queue.retry("s", [1, 2, 77]) == 1

    status = queue.status("s")
    assert (status.state, status.done, status.dead, status.pending) == ("running", 1, 1, 1)
    assert status.epoch > first.epoch
    assert [failure.position for failure in queue.failures("s")] == [0]
    assert positions_of(must_take(queue)) == [2]
    assert queue.retry("s") == 1
    assert queue.status("s").epoch == status.epoch
    crash(queue)
    assert queue.failures("s")[0].attempts == 1


def test_retry_revives_thousands_in_bounded_calls(queue):
    queue.submit(make_record("s", make_block(2500)))
    while (claim := take(queue, 1000)) is not None:
        for ref in refs_of(claim):
            queue.fail(claim.token, ref, reason="x", worker="w", permanent=True)
    assert queue.status("s").state == "finalising"
    assert queue.retry("s") == 2500
    assert queue.status("s").pending == 2500


def test_repair_has_missing_images_made_again_under_a_new_epoch(queue):
    first = queue.submit(make_record("s", make_block(6), make_block(4, recipe="x")))
    claims = drain(queue)
    finish(queue)

    assert queue.repair("s", missing=[9, 1, 1, 5, 12, -3]) == 3

    status = queue.status("s")
    assert (status.state, status.done, status.pending) == ("running", 7, 3)
    assert status.epoch > first.epoch
    assert all(store(queue, claim).stale == ("s",) for claim in claims)
    again = drain(queue)
    assert sorted(position for claim in again for position in positions_of(claim)) == [1, 5, 9]
    assert finish(queue) == "s"


def test_repair_of_a_sweep_under_way_keeps_its_epoch_its_leases_and_its_cursors(queue):
    first = queue.submit(make_record("s", make_block(8)))
    store(queue, must_take(queue, 2))  # 0 and 1, which the cursor passes
    store_positions(queue, "s", [5, 7], reused=True)  # which it has not come to
    claim = must_take(queue, 2)
    assert positions_of(claim) == [2, 3]

    assert queue.repair("s", missing=[0, 3, 4, 5]) == 2

    status = queue.status("s")
    assert (status.state, status.epoch, status.done) == ("running", first.epoch, 2)
    assert (status.leased, status.pending) == (2, 4)
    assert queue.census("s").whole
    assert store(queue, claim).newly_done == 2
    assert positions_of(must_take(queue, 16)) == [0, 4, 5, 6]


def test_a_second_repair_in_one_epoch_is_not_taken_for_the_first_run_twice(queue):
    queue.submit(make_record("s", make_block(4)))
    store_positions(queue, "s", [0, 1])
    assert queue.repair("s", missing=[0]) == 1
    assert queue.repair("s", missing=[1]) == 1
    assert queue.repair("s", missing=[0, 1]) == 0
    assert queue.status("s").pending == 4


def test_a_list_of_missing_objects_of_another_epoch_undoes_nothing(queue):
    epoch = queue.submit(make_record("s", make_block(2))).epoch
    store_positions(queue, "s", [0, 1])
    assert queue.repair("s", missing=[0], epoch=epoch - 1) == 0
    assert queue.status("s").done == 2


def test_the_census_finds_jobs_that_redis_has_lost_the_place_of(queue):
    queue.submit(make_record("s", make_block(6), make_block(6, recipe="x")))
    queue.release(must_take(queue, 4).token)
    store_positions(queue, "s", [4, 11])
    census = queue.census("s")
    assert (census.total, census.bits, census.claimable, census.whole) == (12, 2, 10, True)

    lost = [f"{queue.keys.base}:retry:s:{block}" for block in (0, 1)]
    assert queue.client.delete(*lost) == 1
    assert not queue.census("s").whole
    with pytest.raises(UnknownSweep):
        queue.census("other")


def test_the_census_finds_done_bits_that_redis_has_lost(queue):
    queue.submit(make_record("s", make_block(6)))
    store_positions(queue, "s", range(6))
    queue.client.delete(queue.keys.bits("s", 0))
    assert not queue.census("s").whole


def test_a_sweep_can_be_pinned_before_anybody_claims_from_it(queue):
    queue.submit(make_record("s", make_block(4)))
    assert queue.pin("s", MODEL, "their-weights")
    assert queue.pin("s", MODEL, "their-weights")
    assert not queue.pin("s", MODEL, "other-weights")
    assert not queue.pin("s", "no-such-model", "their-weights")
    assert queue.status("s").pins == {MODEL: "their-weights"}
    assert take(queue, pin="other-weights") is None
    assert take(queue, pin="their-weights") is not None


def test_repair_of_thousands_goes_in_chunks_of_one_epoch(queue):
    queue.submit(make_record("s", make_block(5000)))
    store_positions(queue, "s", range(5000))
    assert queue.repair("s", missing=range(0, 5000, 2)) == 2500
    status = queue.status("s")
    assert (status.done, status.pending, status.state) == (2500, 2500, "running")
    drain(queue, 1000)
    assert queue.status("s").done == 5000


def test_a_chunk_of_a_repair_that_redis_runs_twice_undoes_nothing_twice(queue):
    epoch = queue.submit(make_record()).epoch
    drain(queue)
    chunk = ["sweep", epoch, "one", 1, "3,4"]
    assert run_script(queue.client, "repair", queue.keys.base, chunk) == 2
    drain(queue)
    assert run_script(queue.client, "repair", queue.keys.base, chunk) == 2
    assert queue.status("sweep").done == 10
    later_chunk = ["sweep", epoch, "one", 2, "5"]
    assert run_script(queue.client, "repair", queue.keys.base, later_chunk) == 1
    other_list = ["sweep", epoch, "two", 1, "6"]
    assert run_script(queue.client, "repair", queue.keys.base, other_list) == -2


def test_live_tells_which_sweeps_still_want_their_jobs(queue):
    epochs = {name: queue.submit(make_record(name)).epoch for name in "abcd"}
    queue.pause("b")
    queue.cancel("c")
    queue.delete("d")
    queue.submit(make_record("d"))
    assert queue.live([*epochs.items(), ("e", 5)]) == {"a", "b"}
    assert queue.live([]) == set()


def test_the_commit_that_takes_a_lease_s_last_job_says_that_it_is_over(queue):
    queue.submit(make_record("s", make_block(4)))
    claim = must_take(queue, 4, token="t")
    (share,) = claim.shares

    def commit(token: str, *positions: int) -> bool:
        group = CommitGroup(
            sweep_id="s", epoch=share.epoch, positions=positions, bytes=[1] * len(positions)
        )
        return queue.commit(token, [group]).lease_over

    assert not commit("t", 0, 1)
    assert not commit("another", 2)  # whose lease this is not
    assert commit("t", 3)
    assert not commit("t", 3)  # it was over before
    assert queue.release("t") == 0


def test_sizes_and_flags_count_for_the_positions_that_were_not_done(queue):
    queue.submit(make_record("s", make_block(100)))
    epoch = queue.status("s").epoch

    def commit(*positions: int, flagged: tuple[int, ...] = ()) -> int:
        group = CommitGroup(
            sweep_id="s",
            epoch=epoch,
            positions=positions,
            bytes=[1000 + position for position in positions],
            flagged=flagged,
        )
        return queue.commit(None, [group]).newly_done

    # given runs of more than 32, with gaps, with some done already, and one named twice
    assert commit(*range(10, 60), flagged=(11, 59)) == 50
    assert commit(3, 5, 5, 7, *range(50, 70), flagged=(7, 55)) == 13

    done = {*range(10, 70), 3, 5, 7}
    status = queue.status("s")
    assert status.done == len(done)
    assert status.bytes == sum(1000 + position for position in done)
    assert status.flagged == 3
    mask = queue.done_mask("s", 0, 100)
    assert {at for at in range(100) if mask[at // 8] & (0x80 >> at % 8)} == done
