"""A deployment of simulated workers on one real Redis: it comes, goes, is preempted, is counted."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

import redis

from shared.queue import BlockSpec, Claim, Committed, SweepRecord
from tests.simulation.events import Loop
from tests.simulation.load import Submission
from tests.simulation.virtual_queue import VirtualQueue
from tests.simulation.worker import MODEL, SimulatedWorker, Timing

POOL = "simulation"
RING_LATENCY_SECONDS = 0.02
"""From a doorbell to a worker that looks."""


class Bell:
    """Celery's queue of doorbells, which holds one message at most."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting = False
        self._idle: deque[SimulatedWorker] = deque()

    def await_ring(self, worker: SimulatedWorker) -> None:
        """A worker has nothing to do; it is woken at once where a doorbell lies already."""
        self._idle.append(worker)
        if self._waiting:
            self._waiting = False
            self._deliver()

    def ring(self) -> bool:
        """Send one message, unless there is one. Returns whether it was sent."""
        if self._waiting:
            return False
        self._waiting = not self._deliver()
        return True

    def _deliver(self) -> bool:
        while self._idle:
            worker = self._idle.popleft()
            if worker.ended_at is None and not worker.draining:
                self._loop.after(RING_LATENCY_SECONDS, partial(self._wake, worker))
                return True
        return False

    def _wake(self, worker: SimulatedWorker) -> None:
        # acknowledged early, a message dies with its worker; another's timer rings again
        if worker.ended_at is None:
            worker.idle = False
            worker.wake.fire()


@dataclass
class SweepLife:
    """What became of one submission."""

    submission: Submission
    done: int = 0
    first_at: float | None = None
    finished_at: float | None = None
    renders: bytearray = field(default_factory=bytearray)

    @property
    def first_seconds(self) -> float:
        """From its submission to its first image."""
        return math.inf if self.first_at is None else self.first_at - self.submission.at

    @property
    def whole_seconds(self) -> float:
        """From its submission to its last image."""
        return math.inf if self.finished_at is None else self.finished_at - self.submission.at


class SimulatedPool:
    """Workers, sweeps and what is counted of them.

    Args:
        client: Of an empty Redis.
        preempted_an_hour: Share of the workers that are killed without warning.
        replace_seconds: From a preemption to the replica in its stead, which is cold.
        notice_seconds: None kills at once; else a preempted worker is told to drain first.
        connect: Makes a connection for each worker; without it, they share one.
        look_at_broker: What a worker asks the broker before it rings: nothing by default.
    """

    def __init__(
        self,
        client: redis.Redis,
        loop: Loop,
        timing: Timing,
        seed: int,
        *,
        preempted_an_hour: float = 0.0,
        replace_seconds: float = 5.0,
        notice_seconds: float | None = None,
        connect: Callable[[], redis.Redis] | None = None,
        look_at_broker: Callable[[], object] = lambda: None,
    ) -> None:
        self.loop = loop
        self.timing = timing
        self.queue = VirtualQueue(client, POOL, lambda: loop.now)
        self.bell = Bell(loop)
        self.counts: Counter[str] = Counter()
        self.unstored: dict[str, float] = {}
        self.workers: list[SimulatedWorker] = []
        self.past: list[SimulatedWorker] = []
        self.lives: dict[str, SweepLife] = {}
        self.replicas = 0
        self.unfinished = 0
        self._hazard = -math.log(1 - preempted_an_hour) / 3600.0 if preempted_an_hour else 0.0
        self._replace_seconds = replace_seconds
        self._notice_seconds = notice_seconds
        self._connect = connect
        self.look_at_broker = look_at_broker
        self._rng = Random(f"{seed} pool")
        self._seed = seed
        self._number = 0

    def queue_for(self, worker: str) -> VirtualQueue:
        """The queue as this worker reaches it."""
        if self._connect is None:
            return self.queue
        return VirtualQueue(self._connect(), POOL, lambda: self.loop.now)

    def count(self, what: str, by: int = 1) -> None:
        """One more of it."""
        self.counts[what] += by

    # Sweeps

    def submit_all(self, submissions: list[Submission]) -> None:
        """Enter each at its time."""
        for submission in submissions:
            self.loop.at(submission.at, lambda given=submission: self.submit(given))

    def submit(self, submission: Submission) -> None:
        """Enter one now, as ``seedbed submit`` does: and ring."""
        blocks = tuple(
            BlockSpec(
                model=MODEL,
                lane=part.lane,
                recipe=part.recipe,
                size=part.jobs,
                cost=part.cost,
            )
            for part in submission.parts
        )
        self.unfinished += 1
        self.lives[submission.id] = SweepLife(submission, renders=bytearray(submission.jobs))
        record = SweepRecord(
            id=submission.id, digest="d", manifest="{}", blocks=blocks, owner=submission.owner
        )
        outcome = self.queue.submit(record).outcome
        assert outcome == "created", f"{submission.id}: {outcome}"
        self.bell.ring()

    def committed(self, claim: Claim, committed: Committed) -> None:
        """Count a commit: every render of every position."""
        self.count("commits")
        self.count("images", claim.size)
        self.count("newly done", committed.newly_done)
        for part in claim.shares:
            life = self.lives[part.sweep_id]
            for position in part.positions:
                life.done += life.renders[position] == 0
                life.renders[position] += 1
            if life.first_at is None:
                life.first_at = self.loop.now
            if life.finished_at is None and life.done == life.submission.jobs:
                life.finished_at = self.loop.now
                self.unfinished -= 1

    @property
    def nothing_leased(self) -> bool:
        """Whether no worker holds or will claim anything; leases of the dead may run still."""
        return self.queue.client.zcard(f"{self.queue.keys.base}:leases") == 0

    # Replicas

    def scale_to(self, replicas: int) -> None:
        """Start or drain, as a ReplicaSet does: those that are not ready go first, then the newest.

        Replicas that are draining are not counted.
        """
        self.replicas = replicas
        serving = [worker for worker in self.workers if not worker.draining]
        for _ in range(len(serving), replicas):
            self._add()
        if len(serving) > replicas:
            ranked = sorted(serving, key=lambda worker: (worker.ready, -worker.started_at))
            for worker in ranked[: len(serving) - replicas]:
                worker.drain()

    def _add(self) -> None:
        self._number += 1
        name = f"worker-{self._number}"
        worker = SimulatedWorker(self, name, Random(f"{self._seed} {name}"))
        self.workers.append(worker)
        if self._hazard:
            self.loop.after(self._rng.expovariate(self._hazard), lambda: self._preempt(worker))

    def _preempt(self, worker: SimulatedWorker) -> None:
        if worker.ended_at is not None or worker.draining:
            return
        self.count("preempted")
        if self._notice_seconds is None:
            worker.kill()
        else:
            worker.drain()
            self.loop.after(self._notice_seconds, lambda: self._take_away(worker))
        self.loop.after(self._replace_seconds, lambda: self.scale_to(self.replicas))

    def _take_away(self, worker: SimulatedWorker) -> None:
        if worker.ended_at is None:
            worker.kill()

    def ended(self, worker: SimulatedWorker) -> None:
        """A worker is gone."""
        if worker in self.workers:
            self.workers.remove(worker)
            self.past.append(worker)

    # Sums

    def gpu_seconds(self) -> float:
        """From when each replica was wanted to its end, or to now."""
        return math.fsum(
            (self.loop.now if worker.ended_at is None else worker.ended_at) - worker.started_at
            for worker in [*self.workers, *self.past]
        )

    def busy_seconds(self) -> float:
        """Of these, with a batch on the GPU."""
        return math.fsum(worker.busy_seconds for worker in [*self.workers, *self.past])

    def wasted_seconds(self) -> float:
        """Of these, on images that were lost or had been made."""
        return math.fsum(worker.wasted_seconds for worker in [*self.workers, *self.past])
