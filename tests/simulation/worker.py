"""A simulated worker: the protocol of worker/, call by call, with the GPU replaced by a clock.

Like the real one it claims the next batch while one renders, begins a batch just before it renders,
renews its leases three times in their lives, uploads and commits beside the next batch, gives a
lease back when it is through with it, drains when it is told to, and has a heartbeat that announces
it, reaps, rings and finalises. What Redis is asked is real. Rendering, uploading, loading the model
and Celery's doorbell are seconds that pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from shared.errors import LeaseLost
from shared.queue import Claim, CommitGroup, JobRef, Phase
from shared.queue_look import Look
from tests.simulation.events import Process, Signal, Steps, Timer

if TYPE_CHECKING:
    from tests.simulation.pool import SimulatedPool

MODEL = "m"
PIN = "p" * 300
"""As long as a real one."""

REAPED = 16
RING_SECONDS = 0.5
RATE_SECONDS = 10.0
RATE_CHANGE = 0.1
GPU_SECONDS = 600.0
"""Like worker/heartbeat.py, worker/serving.py and the watchdog's default."""

IMAGE_BYTES = 400_000
MISSED_BEATS = 4.0 * 1.5
"""An announcement outlives so many mean beats."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of what is not simulated, and of the product's own timers.

    Attributes:
        batch: Jobs claimed at once.
        call_seconds: Of a batch, whatever its size.
        noise: Spread (sigma of the logarithm) of a batch's seconds.
        job_seconds: Recipe to seconds a job.
        cold_seconds: From a replica that is wanted to a pipeline that is loaded.
        upload_seconds: From the last step of a batch to its commit.
        live_poll_seconds: Between looks for cancelled sweeps; None leaves out these looks, which
            write nothing.
    """

    batch: int = 8
    call_seconds: float = 0.3
    noise: float = 0.05
    job_seconds: dict[str, float] = field(default_factory=dict)
    cold_seconds: float = 90.0
    upload_seconds: float = 0.5
    finalise_seconds: float = 1.0
    heartbeat_seconds: float = 10.0
    lease_seconds: float = 30.0
    live_poll_seconds: float | None = None


@dataclass
class Held:
    """A claim in hand."""

    claim: Claim
    phase: Phase = "queued"
    lost: bool = False
    over: bool = False
    renewal: Timer | None = None

    @property
    def refs(self) -> list[JobRef]:
        """All its jobs."""
        return [JobRef(part.sweep_id, at) for part in self.claim.shares for at in part.positions]


class SimulatedWorker:
    """One replica, from the moment it is wanted to its end.

    Attributes:
        ready: Its model is loaded.
        busy_seconds: With a batch on the GPU; the one that is there now is not counted.
        wasted_seconds: Of these, on batches that were lost with it, or that others had done.
    """

    def __init__(self, pool: SimulatedPool, name: str, rng: Random) -> None:
        self.pool = pool
        self.name = name
        self.rng = rng
        self.queue = pool.queue_for(name)
        self.started_at = pool.loop.now
        self.ended_at: float | None = None
        self.ready = False
        self.idle = False
        self.draining = False
        self.busy_since: float | None = None
        self.busy_seconds = 0.0
        self.wasted_seconds = 0.0
        self.prefer: tuple[str, str] | None = None
        self.wake = Signal()
        self._leases: list[Held] = []
        self._storing = 0
        self._stored = Signal()
        self._ringing = False
        self._unanswered = False
        self._told: tuple[str, str, float, float] | None = None
        self._beat: Timer | None = None
        self._processes: list[Process] = []
        self._start(self._live())

    # What the pool does to it

    def drain(self) -> None:
        """SIGTERM, with more grace than a batch takes: it is finished and committed first."""
        self.draining = True
        if not self.ready:
            self._end()
        elif self.idle:
            self.wake.fire()

    def kill(self) -> None:
        """SIGKILL, or a machine that is gone: what it holds stays leased."""
        if self.busy_since is not None:
            seconds = self.pool.loop.now - self.busy_since
            self.busy_seconds += seconds
            self.wasted_seconds += seconds
            self.busy_since = None
        self.wasted_seconds += self.pool.unstored.pop(self.name, 0.0)
        for process in self._processes:
            process.kill()
        for held in self._leases:
            self._stop_renewing(held)
        lives_on = MISSED_BEATS * self.pool.timing.heartbeat_seconds
        self.pool.loop.after(lives_on, lambda: self.pool.queue.withdraw(self.name))
        self._end()

    # What it does itself

    def _start(self, steps: Steps) -> None:
        self._processes = [process for process in self._processes if process.alive]
        self._processes.append(self.pool.loop.start(steps))

    def _live(self) -> Steps:
        yield self.pool.timing.cold_seconds
        self.ready = True
        self._start(self._heartbeat())
        if self.pool.timing.live_poll_seconds is not None:
            self._start(self._poll_live(self.pool.timing.live_poll_seconds))
        while not self.draining:
            self.idle = True
            self.pool.bell.await_ring(self)
            if not self.draining and self.idle:
                yield self.wake
            self.idle = False
            if not self.draining:
                yield from self._serve()
        self.queue.announce(self.name, self._info(), 0.001)
        self._end()

    def _end(self) -> None:
        self.ended_at = self.pool.loop.now
        for process in self._processes:
            process.kill()
        self.pool.ended(self)

    def _serve(self) -> Steps:
        """As worker/serving.py: until nothing is claimable, claiming one batch ahead."""
        self._unanswered = False
        ahead = self._claim()
        while ahead is not None:
            held, ahead = ahead, None
            if self.draining:
                self._let_go(held)
                break
            ahead = self._claim()
            if held.claim.more and not self._unanswered:
                self._ring_soon()
            yield from self._render(held)
        if ahead is not None:
            self._let_go(ahead)
        while self._storing:
            yield self._stored

    def _claim(self) -> Held | None:
        timing = self.pool.timing
        if self.draining:
            return None
        claim = self.queue.claim(
            token=f"{self.rng.getrandbits(96):024x}",
            model=MODEL,
            pin=PIN,
            max_jobs=timing.batch,
            lease_seconds=timing.lease_seconds,
            prefer=self.prefer,
        )
        self.pool.count("claims")
        if claim is None:
            return None
        self.prefer = (claim.lane, claim.recipe)
        held = Held(claim)
        self._leases.append(held)
        self._renew_later(held)
        return held

    def _render(self, held: Held) -> Steps:
        timing, now = self.pool.timing, self.pool.loop.now
        claim = held.claim
        if held.lost:
            self._let_go(held)
            return
        try:
            self.queue.begin(claim.token, held.refs, gpu_seconds=GPU_SECONDS)
        except LeaseLost:
            held.lost = True
            self._let_go(held)
            return
        held.phase = "gpu"
        seconds = timing.call_seconds + claim.size * timing.job_seconds[claim.recipe]
        seconds *= self.rng.lognormvariate(0.0, timing.noise)
        self.busy_since = now
        yield seconds
        self.busy_since = None
        self.busy_seconds += seconds
        self._off_gpu(held)
        self._record_rate(claim, seconds / claim.size)
        self.pool.unstored[self.name] = self.pool.unstored.get(self.name, 0.0) + seconds
        self._storing += 1
        self._start(self._store(held, seconds))

    def _off_gpu(self, held: Held) -> None:
        held.phase = "uploading"
        if not held.lost:
            self._renew_once(held)

    def _record_rate(self, claim: Claim, seconds: float) -> None:
        now = self.pool.loop.now
        if self._told is not None and self._told[:2] == (claim.lane, claim.recipe):
            _, _, at, told = self._told
            if now < at + RATE_SECONDS and abs(seconds - told) <= RATE_CHANGE * told:
                return
        self._told = (claim.lane, claim.recipe, now, seconds)
        self.queue.record_rate(
            MODEL, claim.lane, claim.recipe, seconds_per_job=seconds, batch=claim.size
        )

    def _store(self, held: Held, seconds: float) -> Steps:
        yield self.pool.timing.upload_seconds
        groups = [
            CommitGroup(
                sweep_id=part.sweep_id,
                epoch=part.epoch,
                positions=part.positions,
                bytes=[IMAGE_BYTES] * len(part.positions),
            )
            for part in held.claim.shares
        ]
        committed = self.queue.commit(held.claim.token, groups)
        held.over = committed.lease_over
        self.pool.committed(held.claim, committed)
        self.pool.unstored[self.name] -= seconds
        self.wasted_seconds += seconds * (1 - committed.newly_done / held.claim.size)
        self._let_go(held)
        self._storing -= 1
        self._stored.fire()

    # Leases

    def _renew_later(self, held: Held) -> None:
        third = self.pool.timing.lease_seconds / 3
        held.renewal = self.pool.loop.after(third, lambda: self._renew(held))

    def _renew(self, held: Held) -> None:
        if self._renew_once(held):
            self._renew_later(held)

    def _renew_once(self, held: Held) -> bool:
        try:
            self.queue.renew(
                held.claim.token, lease_seconds=self.pool.timing.lease_seconds, phase=held.phase
            )
        except LeaseLost:
            held.lost = True
            self.pool.count("leases lost")
        return not held.lost

    def _stop_renewing(self, held: Held) -> None:
        if held.renewal is not None:
            held.renewal.cancel()

    def _let_go(self, held: Held) -> None:
        self._stop_renewing(held)
        self._leases.remove(held)
        if not held.lost and not held.over:
            self.queue.release(held.claim.token)

    def _poll_live(self, seconds: float) -> Steps:
        yield seconds * self.rng.random()
        while True:
            wanted = {
                (part.sweep_id, part.epoch) for held in self._leases for part in held.claim.shares
            }
            if wanted:
                self.queue.live(sorted(wanted))
            yield seconds

    # Heartbeat

    def _heartbeat(self) -> Steps:
        mean = self.pool.timing.heartbeat_seconds
        while True:
            look = self.queue.look()
            self.queue.announce(self.name, self._info(), MISSED_BEATS * mean)
            if look.expired:
                self.queue.reap(REAPED)
            self._ring_where_claimable(look)
            if look.finalise_items or look.expired:
                yield from self._finalise()
            yield mean * self.rng.uniform(0.5, 1.5)

    def _finalise(self) -> Steps:
        token = f"{self.rng.getrandbits(96):024x}"
        lease_seconds = self.pool.timing.lease_seconds
        item = self.queue.finalise(token=token, lease_seconds=lease_seconds)
        if item is not None:
            yield self.pool.timing.finalise_seconds
            self.queue.finish(token, item.sweep_id, item.epoch)

    def _info(self) -> dict[str, object]:
        return {
            "host": "simulated",
            "draining": self.draining,
            "served": [{"key": MODEL, "model": MODEL, "revision": None, "pin": PIN}],
        }

    def _ring_soon(self) -> None:
        """Claims in quick succession are answered by one ring."""
        if not self._ringing:
            self._ringing = True
            self.pool.loop.after(RING_SECONDS, self._ring_if_alive)

    def _ring_if_alive(self) -> None:
        self._ringing = False
        if self.ended_at is None:
            self._ring_where_claimable(self.queue.look())

    def _ring_where_claimable(self, look: Look) -> None:
        self._unanswered = False
        if look.claimable(MODEL, PIN):
            self.pool.look_at_broker()
            self._unanswered = not self.pool.bell.ring()
