"""Random producers and workers against a real Redis and a model of it: invariants I2, I3, I5.

Every step may be run twice by Redis, as a client's retry after a lost reply would; leases expire
by moving their deadline into the past; commits may come late, from anybody, or without a lease.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from shared.errors import LeaseLost, UnknownSweep
from shared.queue import Claim, CommitGroup, JobQueue
from tests.queue_checks import PoolChecks, check_claim
from tests.queue_model import QueueModel
from tests.queue_play import LONG_LEASE, expire, make_block, make_record, refs_of
from tests.redis_server import RedisServer

STEPS = 50

RECORDS = {
    record.id: record
    for record in (
        make_record(
            "a", make_block(2), make_block(2, recipe="s", cost=2.0), make_block(1, model="n")
        ),
        make_record("b", make_block(2), make_block(1), owner="bob", weight=2.0),
        make_record("c", make_block(2, recipe="s"), priority=1),
        make_record("d", make_block(1), owner="bob"),
    )
}
SWEEPS = st.sampled_from(sorted(RECORDS))
PINS = st.sampled_from(["p", "p", "p", "q"])


class StutteringQueue(JobQueue):
    """Runs a script twice when told to, and forgets the first reply."""

    twice = False

    def _run(self, verb: str, *arguments: Any) -> Any:
        if self.twice:
            super()._run(verb, *arguments)
        return super()._run(verb, *arguments)

    def _run_all(self, verb: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        if self.twice:
            super()._run_all(verb, calls)
        return super()._run_all(verb, calls)


class Pool(RuleBasedStateMachine):
    """A pool whose every step is checked against the model."""

    claims = Bundle("claims")

    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        self.client = server.client()
        self.queue = StutteringQueue(self.client, "test")
        self.model = QueueModel()
        self.tokens = 0
        self.refunds = False
        self.checks = PoolChecks(self.queue, self.model)

    @initialize(sweeps=st.sets(SWEEPS, min_size=2))
    def start_with_some_sweeps(self, sweeps: set[str]) -> None:
        self.client.flushall()
        for sweep_id in sorted(sweeps):
            self.submit(sweep_id, twice=False)

    def new_token(self) -> str:
        self.tokens += 1
        return f"t{self.tokens:04}"

    def read_epoch(self, sweep_id: str) -> None:
        """Take over an epoch the queue has minted; it must be a later one."""
        sweep = self.model.sweeps[sweep_id]
        sweep.epoch = self.queue.status(sweep_id).epoch

    # Producers

    @rule(sweep_id=SWEEPS, twice=st.booleans())
    def submit(self, sweep_id: str, twice: bool) -> None:
        self.queue.twice = twice
        before = self.model.sweeps.get(sweep_id)
        submitted = self.queue.submit(RECORDS[sweep_id])
        assert submitted.outcome == self.model.submit(RECORDS[sweep_id], submitted.epoch)
        sweep = self.model.sweeps[sweep_id]
        assert (submitted.state, submitted.epoch) == (sweep.state, sweep.epoch)
        if before is not None and sweep is not before:
            assert sweep.epoch > before.epoch

    @rule(
        sweep_id=SWEEPS,
        verb=st.sampled_from(["pause", "resume", "cancel", "delete"]),
        twice=st.booleans(),
    )
    def control(self, sweep_id: str, verb: str, twice: bool) -> None:
        self.queue.twice = twice
        sweep = self.model.sweeps.get(sweep_id)
        if sweep is None:
            with pytest.raises(UnknownSweep):
                getattr(self.queue, verb)(sweep_id)
            return
        state = getattr(self.queue, verb)(sweep_id)
        if verb == "delete":
            del self.model.sweeps[sweep_id]
            return
        if verb == "cancel":
            self.model.cancel(sweep_id)
        elif (verb, sweep.state) == ("pause", "running"):
            sweep.state = "paused"
        elif (verb, sweep.state) == ("resume", "paused"):
            sweep.state = "running"
        assert state == sweep.state

    @rule(sweep_id=SWEEPS, twice=st.booleans())
    def retry(self, sweep_id: str, twice: bool) -> None:
        self.queue.twice = twice
        if sweep_id in self.model.sweeps:
            revived = self.queue.retry(sweep_id)
            expected = self.model.retry(sweep_id)
            assert twice or revived == expected
            if not self.model.sweeps[sweep_id].epoch:
                self.read_epoch(sweep_id)

    @rule(sweep_id=SWEEPS, missing=st.sets(st.integers(0, 4)), twice=st.booleans())
    def repair(self, sweep_id: str, missing: set[int], twice: bool) -> None:
        self.queue.twice = twice
        if sweep_id in self.model.sweeps:
            cursors = self.cursors(sweep_id)
            repaired = self.queue.repair(sweep_id, missing=sorted(missing))
            assert repaired == self.model.repair(sweep_id, missing, cursors)
            self.checks.forget_done(sweep_id)
            if not self.model.sweeps[sweep_id].epoch:
                self.read_epoch(sweep_id)

    def cursors(self, sweep_id: str) -> dict[int, int]:
        """The first position of each block that its cursor has not passed."""
        row = self.client.hgetall(f"{self.queue.keys.base}:cursors:{sweep_id}")
        sweep = self.model.sweeps[sweep_id]
        blocks = range(len(sweep.record.blocks))
        return {b: sweep.span(b).start + int(row.get(f"{b}:at".encode(), 0)) for b in blocks}

    @rule(sweep_id=SWEEPS, kept=st.sets(st.integers(0, 4), max_size=3), twice=st.booleans())
    def prefill(self, sweep_id: str, kept: set[int], twice: bool) -> None:
        """Commit without a lease, as a listing of storage does, all positions but some."""
        self.queue.twice = twice
        sweep = self.model.sweeps.get(sweep_id)
        positions = set(range(RECORDS[sweep_id].total)) - kept
        self.commit_positions(None, sweep_id, sweep.epoch if sweep else 1, positions)

    # Workers

    @rule(
        target=claims,
        model=st.sampled_from(["m", "m", "n"]),
        pin=PINS,
        max_jobs=st.sampled_from([1, 2, 4, 16]),
        prefer=st.sampled_from([None, ("l", "r"), ("l", "s")]),
        reap_first=st.booleans(),
        twice=st.booleans(),
    )
    def claim(
        self,
        model: str,
        pin: str,
        max_jobs: int,
        prefer: tuple[str, str] | None,
        reap_first: bool,
        twice: bool,
    ) -> Any:
        self.queue.twice = False
        if reap_first:
            self.reap(limit=1000, twice=False)
        self.queue.twice = twice
        owners = self.owners_by_virtual_time(model)
        self.refunds |= any(lease.expired for lease in self.model.leases.values())
        for _ in range(1 + twice):
            self.model.reap(4)
        token = self.new_token()
        claim = self.queue.claim(
            token=token,
            model=model,
            pin=pin,
            max_jobs=max_jobs,
            lease_seconds=LONG_LEASE,
            prefer=prefer,
        )
        if claim is None:
            assert not self.model.open_sweeps(model, pin)
            return multiple()
        check_claim(
            self.model,
            claim,
            pin=pin,
            max_jobs=max_jobs,
            owners=None if self.refunds else owners,
            may_stray=prefer is not None,
        )
        self.model.take(claim, pin)
        return claim

    def owners_by_virtual_time(self, model: str) -> dict[tuple[int, str], float]:
        found = {}
        for record in RECORDS.values():
            value = self.client.hget(
                f"{self.queue.keys.base}:clock:{model}:{record.priority}", f"owner:{record.owner}"
            )
            found[record.priority, record.owner] = float(value or 0)
        return found

    @rule(claim=claims)
    def replay_claim(self, claim: Claim) -> None:
        self.queue.twice = False

        def again() -> Claim | None:
            return self.queue.claim(
                token=claim.token, model=claim.model, pin="p", max_jobs=1, lease_seconds=1
            )

        if self.model.live(claim.token):
            assert again() == claim
        else:
            with pytest.raises(LeaseLost):
                again()

    @rule(claim=claims, part=st.integers(0, 3), twice=st.booleans())
    def begin(self, claim: Claim, part: int, twice: bool) -> None:
        self.queue.twice = twice
        refs = refs_of(claim)[part:]
        if self.model.live(claim.token):
            self.queue.begin(claim.token, refs, gpu_seconds=LONG_LEASE)
            self.model.leases[claim.token].begun = {(ref.sweep_id, ref.position) for ref in refs}
        else:
            with pytest.raises(LeaseLost):
                self.queue.begin(claim.token, refs, gpu_seconds=LONG_LEASE)

    @rule(claim=claims, phase=st.sampled_from(["queued", "gpu", "uploading"]))
    def renew(self, claim: Claim, phase: Any) -> None:
        if self.model.live(claim.token):
            left = self.queue.renew(claim.token, lease_seconds=LONG_LEASE, phase=phase)
            assert 0 < left <= LONG_LEASE
            if phase == "uploading":
                self.model.leases[claim.token].begun.clear()
        else:
            with pytest.raises(LeaseLost):
                self.queue.renew(claim.token, lease_seconds=LONG_LEASE, phase=phase)

    @rule(claim=claims, part=st.integers(0, 3), reused=st.booleans(), twice=st.booleans())
    def commit(self, claim: Claim, part: int, reused: bool, twice: bool) -> None:
        """Of a claim in force, expired, long over, or of another epoch."""
        self.queue.twice = twice
        self.refunds |= reused
        for share in claim.shares:
            self.commit_positions(
                claim.token,
                share.sweep_id,
                share.epoch,
                set(share.positions[part:]),
                reused=reused,
            )

    def commit_positions(
        self,
        token: str | None,
        sweep_id: str,
        epoch: int,
        positions: set[int],
        *,
        reused: bool = False,
    ) -> None:
        sweep = self.model.sweeps.get(sweep_id)
        was = sweep.state if sweep else None
        group = CommitGroup(
            sweep_id=sweep_id,
            epoch=epoch,
            positions=sorted(positions),
            bytes=[7] * len(positions),
            reused=reused,
        )
        committed = self.queue.commit(token, [group])
        expected = self.model.commit(sweep_id, epoch, positions)
        assert committed.stale == ((sweep_id,) if expected is None and positions else ())
        if not self.queue.twice:
            assert committed.newly_done == (expected or 0)
            moved = sweep is not None and sweep.state != was
            assert committed.finalising == ((sweep_id,) if moved else ())

    @rule(claim=claims, some=st.one_of(st.none(), st.integers(0, 3)), twice=st.booleans())
    def release(self, claim: Claim, some: int | None, twice: bool) -> None:
        self.queue.twice = twice
        self.refunds = True
        refs = None if some is None else refs_of(claim)[some:]
        jobs = None if refs is None else [(ref.sweep_id, ref.position) for ref in refs]
        released = self.queue.release(claim.token, refs)
        expected = self.model.release(claim.token, jobs)
        assert twice or released == expected

    @rule(
        claim=claims,
        which=st.integers(0, 3),
        permanent=st.booleans(),
        begun=st.booleans(),
        twice=st.booleans(),
    )
    def fail(self, claim: Claim, which: int, permanent: bool, begun: bool, twice: bool) -> None:
        ref = refs_of(claim)[which % claim.size]
        job = (ref.sweep_id, ref.position)
        if begun and self.model.live(claim.token):
            self.queue.begin(claim.token, [ref], gpu_seconds=LONG_LEASE)
            self.model.leases[claim.token].begun = {job}
        self.refunds = True
        self.queue.twice = twice
        held = job in self.model.held_by(claim.token)
        cancelled = held and self.model.sweeps[ref.sweep_id].state == "cancelled"
        try:
            self.queue.fail(claim.token, ref, reason="why", worker="w", permanent=permanent)
        except LeaseLost:
            assert not held or (cancelled and twice)
        if held:
            self.model.fail(claim.token, job, permanent=permanent)

    @rule(claim=claims)
    def expire(self, claim: Claim) -> None:
        if self.model.live(claim.token):
            expire(self.queue, claim.token)
            self.model.leases[claim.token].expired = True

    @rule(limit=st.sampled_from([1, 16]), twice=st.booleans())
    def reap(self, limit: int, twice: bool) -> None:
        self.queue.twice = twice
        self.refunds |= any(lease.expired for lease in self.model.leases.values())
        reaped = self.queue.reap(limit)
        expected = self.model.reap(limit)
        if twice:
            self.model.reap(limit)
        else:
            assert reaped == expected

    @rule(claim=consumes(claims), begun=st.sampled_from([True, True, False]))
    def crash(self, claim: Claim, begun: bool) -> None:
        """A worker vanishes for good, mostly with its whole claim on the GPU."""
        if begun:
            self.begin(claim, part=0, twice=False)
        self.expire(claim)

    @rule(how=st.sampled_from(["finish", "release", "expire", "leave"]), twice=st.booleans())
    def finalise(self, how: str, twice: bool) -> None:
        self.queue.twice = twice
        self.refunds |= any(lease.expired for lease in self.model.leases.values())
        self.model.reap(4)
        token = self.new_token()
        item = self.queue.finalise(token=token, lease_seconds=LONG_LEASE)
        waiting = self.model.may_be_finalised()
        if item is None:
            assert not waiting
            return
        sweep = self.model.sweeps[item.sweep_id]
        assert item.sweep_id in waiting
        assert item.epoch == sweep.epoch
        self.model.finalise(token, item.sweep_id)
        if how == "finish":
            self.queue.finish(token, item.sweep_id, item.epoch)
            if sweep.state == "finalising":
                sweep.state = "done"
            self.model.end(token)
        elif how == "release":
            self.queue.release(token)
            self.model.release(token, None)
        elif how == "expire":
            expire(self.queue, token)
            self.model.leases[token].expired = True

    @invariant()
    def redis_agrees_with_the_model(self) -> None:
        self.checks.check()

    def teardown(self) -> None:
        """In the end whatever is not cancelled can be finished: there is no gap."""
        try:
            self.finish_everything()
        finally:
            self.client.close()

    def finish_everything(self) -> None:
        self.queue.twice = False
        for token in list(self.model.leases):
            if self.model.live(token):
                expire(self.queue, token)
        self.queue.reap(1000)
        for sweep_id in self.model.sweeps:
            self.queue.resume(sweep_id)
        for model in ("m", "n"):
            for pin in ("p", "q"):
                while claim := self.queue.claim(
                    token=self.new_token(),
                    model=model,
                    pin=pin,
                    max_jobs=16,
                    lease_seconds=LONG_LEASE,
                ):
                    for share in claim.shares:
                        self.queue.commit(
                            claim.token,
                            [
                                CommitGroup(
                                    sweep_id=share.sweep_id,
                                    epoch=share.epoch,
                                    positions=share.positions,
                                    bytes=[7] * len(share.positions),
                                )
                            ],
                        )
        for status in self.queue.sweeps():
            assert status.leased == 0
            if status.state != "cancelled":
                assert status.done + status.dead == status.total
                assert status.state in ("finalising", "done")
        assert self.queue.look().models == []


def test_random_lives_of_a_pool_keep_the_invariants(redis_server):
    run_state_machine_as_test(
        lambda: Pool(redis_server),
        settings=settings(
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
