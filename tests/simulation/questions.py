"""What the simulator is asked, each with a table and a picture."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from producer.wishes import Scaling
from tests.simulation.autoscaler import SCALE_DOWN, Rules, ScaledObject
from tests.simulation.charts import Panel, Series
from tests.simulation.load import SIZES, Submission, big_sweep, bursts, day, mixed_sweeps
from tests.simulation.oracle import oracle, work_seconds
from tests.simulation.redis_share import cpu_by_call, expiry_cpu, measure, token_bytes
from tests.simulation.run import TIMING, Elastic, Fixed, Preemption, Run, play

CORE = 1.0
BATCH_IMAGES = 16


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A table, a picture, and what else is to be said."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    panels: Sequence[Panel] = ()
    notes: Sequence[str] = ()


def percentile(values: Sequence[float], share: float) -> float:
    """Of sorted or unsorted values, at least one: the nearest rank."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


# How many GPUs one Redis carries


def redis_core(seed: int, scale: float) -> Answer:
    """CPU of Redis for so many GPUs at 2 s a batch of 16."""
    counts = [max(20, round(gpus * scale)) for gpus in (500, 1000, 2500, 5000)]
    found = [measure(gpus, seconds=10.0, seed=seed) for gpus in counts]
    expiry, token = expiry_cpu(), token_bytes()
    calls = ", ".join(f"{name} {spent:.0f}" for name, spent in cpu_by_call().items())
    most = found[-1]
    rate = most.cycles / most.seconds
    return Answer(
        title="How many GPUs one Redis core carries",
        header=(
            "GPUs",
            "batches/s",
            "commands/s, those of scripts too",
            "Redis' CPU a batch, us",
            "share of a core",
            "GPUs a core",
            "a look of the exporter, ms",
            "AOF, MB/s",
        ),
        rows=[
            (
                f"{item.gpus:,}",
                f"{item.cycles / item.seconds:,.0f}",
                f"{item.calls:,.0f}",
                f"{1e6 * item.cycle_cpu:.0f}",
                f"{item.core_share:.2f}",
                f"{item.gpus_a_core:,}",
                f"{1e3 * item.look_cpu:.0f}",
                f"{item.aof_bytes * item.cycles / item.seconds / 1e6:.1f}",
            )
            for item in found
        ],
        panels=[
            Panel(
                title="Share of one core that Redis uses, at 2 s a batch of 16 images",
                across="GPUs",
                series=[
                    Series(
                        name="Redis' main thread",
                        points=[(0, 0), *((item.gpus, item.core_share) for item in found)],
                        dots=True,
                    )
                ],
                mark=(CORE, "one core"),
            )
        ],
        notes=[
            f"one core carries {1 / most.cycle_cpu:,.0f} claims and as many commits a second, "
            f"with all that goes with them, or {BATCH_IMAGES / most.cycle_cpu:,.0f} images",
            f"forgetting an ended token: {1e6 * expiry:.1f} us of CPU, {100 * rate * expiry:.1f} % "
            f"of a core at {rate:,.0f} batches/s",
            f"ended tokens: {token:.0f} bytes each for ten minutes, "
            f"{rate * 600 * token / 1e6:,.0f} MB at {rate:,.0f} batches/s",
            f"Redis' CPU a call, us: {calls}",
            f"memory of Redis at the end: {most.memory_bytes / 1e6:,.0f} MB with {most.gpus:,} "
            "connections",
        ],
    )


# Who waits how long


def queue_delay(seed: int, scale: float) -> Answer:
    """Sweeps of all sizes from twelve users, on a pool that is nine tenths busy."""
    gpus = max(4, round(40 * scale))
    load = mixed_sweeps(Random(seed), seconds=2 * 3600.0, gpus=0.9 * gpus)
    run = play(load, Fixed(replicas=gpus), seed=seed)
    in_order = _in_order(load, gpus)
    rows: list[Sequence[str]] = []
    series = []
    for size_class in SIZES:
        lives = [x for x in run.pool.lives.values() if x.submission.size_class == size_class]
        if not lives:
            continue
        first = [life.first_seconds for life in lives]
        whole = [life.whole_seconds for life in lives]
        fifo_first = [in_order[life.submission.id][0] for life in lives]
        fifo_whole = [in_order[life.submission.id][1] for life in lives]
        fewest, most, _ = SIZES[size_class]
        rows.append(
            (
                f"{fewest:,} to {most:,}",
                f"{len(lives):,}",
                *(_three(values) for values in (first, whole, fifo_first, fifo_whole)),
            )
        )
        series.append(
            Series(
                name=f"{fewest:,} to {most:,} images",
                points=[
                    (max(0.1, percentile(whole, share / 100)), share) for share in range(1, 101)
                ],
            )
        )
    three = "p50 / p90 / p99, s"
    return Answer(
        title=f"Queue delay of mixed sweeps on {gpus} GPUs",
        header=(
            "images of a sweep",
            "sweeps",
            f"to its first image, {three}",
            f"to its last, {three}",
            "in order of arrival: first",
            "in order of arrival: last",
        ),
        rows=rows,
        panels=[
            Panel(
                title="Sweeps that are through, in per cent, by seconds since their submission",
                across="seconds",
                series=series,
                log_across=True,
            )
        ],
        notes=[_report(run), f"busy: {_busy(run):.0%} of the GPUs' time"],
    )


def _three(values: Sequence[float]) -> str:
    return " / ".join(f"{percentile(values, share):,.0f}" for share in (0.5, 0.9, 0.99))


def _in_order(load: list[Submission], gpus: int) -> dict[str, tuple[float, float]]:
    """First and last image of each sweep, if they were served one after the other by all GPUs."""
    found, free_at = {}, 0.0
    for submission in load:
        start = max(free_at, submission.at)
        shortest = TIMING.call_seconds + TIMING.batch * 2.0 + TIMING.upload_seconds
        free_at = start + work_seconds([submission], TIMING) / gpus
        last = max(free_at, start + shortest)
        found[submission.id] = (start + shortest - submission.at, last - submission.at)
    return found


# Spot machines


def preemption(seed: int, scale: float) -> Answer:
    """A fifth of the workers an hour is taken away."""
    gpus = max(10, round(200 * scale))
    load = big_sweep(round(gpus * 3600 / 2.0 * 0.8))
    cases = [
        ("none", None),
        ("20 % an hour, no warning", Preemption(share_an_hour=0.2)),
        ("35 % an hour, no warning", Preemption(share_an_hour=0.35)),
        ("50 % an hour, no warning", Preemption(share_an_hour=0.5)),
        ("20 % an hour, 30 s of notice", Preemption(share_an_hour=0.2, notice_seconds=30.0)),
    ]
    rows: list[Sequence[str]] = []
    notes: list[str] = []
    wasted: list[tuple[float, float]] = []
    for name, how in cases:
        run = play(load, Fixed(replicas=gpus), seed=seed, preemption=how)
        pool, found = run.pool, run.audit
        cold = math.fsum(
            min(TIMING.cold_seconds, (w.ended_at or pool.loop.now) - w.started_at)
            for w in [*pool.workers, *pool.past]
        )
        rows.append(
            (
                name,
                f"{pool.counts['preempted']:,}",
                f"{found.jobs:,}",
                f"{found.lost}",
                f"{found.dead}",
                f"{found.repeats}",
                f"{pool.wasted_seconds():,.0f}",
                f"{pool.wasted_seconds() / pool.busy_seconds():.2%}",
                f"{cold / pool.gpu_seconds():.1%}",
                f"{pool.loop.now:,.0f}",
            )
        )
        notes.append(f"{name}: {_report(run)}")
        if how is None or how.notice_seconds is None:
            share = 100 * how.share_an_hour if how else 0.0
            wasted.append((share, 100 * pool.wasted_seconds() / pool.busy_seconds()))
    return Answer(
        title=f"Preemption of {gpus} GPUs",
        header=(
            "taken away",
            "workers",
            "jobs",
            "lost",
            "dead",
            "stored twice",
            "wasted GPU seconds",
            "of rendering",
            "cold starts, of all GPU time",
            "the sweep took, s",
        ),
        rows=rows,
        panels=[
            Panel(
                title=f"Rendering that was for nothing, in per cent, of {gpus} GPUs",
                across="workers that are killed in an hour, in per cent",
                series=[Series(name="no warning", points=sorted(wasted), dots=True)],
            )
        ],
        notes=notes,
    )


# What it costs to follow the work


def down(seconds: float) -> Rules:
    """Kubernetes' rules for scaling down, with another window."""
    return replace(SCALE_DOWN, stabilization_seconds=seconds)


MOST_REPLICAS = 500
DEFAULTS = ScaledObject(max_replicas=MOST_REPLICAS)
ADVISED = replace(DEFAULTS, polling_seconds=5.0, cooldown_seconds=120.0, down=down(60.0))


def gpu_hours(seed: int, scale: float) -> Answer:
    """GPU hours of the pool and of an oracle that knows the load."""
    loads: dict[str, list[Submission]] = {
        "one sweep": big_sweep(max(500, round(8000 * scale)), at=60.0),
        "bursts": bursts(
            Random(seed), seconds=4 * 3600.0, every=1800.0, gpu_seconds=max(2000, 10_000 * scale)
        ),
        "mixed sweeps": mixed_sweeps(Random(seed), seconds=3 * 3600.0, gpus=max(3.0, 10 * scale)),
        "a day": day(Random(seed), gpus_at_noon=max(3.0, 10 * scale)),
    }
    cases: list[tuple[str, ScaledObject, float]] = [
        ("Kubernetes' defaults, target 60 s", DEFAULTS, 60.0),
        ("Kubernetes' defaults, target 600 s", DEFAULTS, 600.0),
        ("advised, target 300 s", ADVISED, 300.0),
        ("advised, target 600 s", ADVISED, 600.0),
    ]
    rows: list[Sequence[str]] = []
    panels: list[Panel] = []
    notes: list[str] = []
    for load_name, load in loads.items():
        for case, settings, target in cases:
            scaling = Scaling(target_seconds=target, max_workers=settings.max_replicas)
            run = play(load, Elastic(settings=settings, scaling=scaling), seed=seed)
            ideal = oracle(load, TIMING, target_seconds=target, max_workers=settings.max_replicas)
            lives = run.pool.lives.values()
            used = run.pool.gpu_seconds()
            rows.append(
                (
                    load_name,
                    case,
                    f"{ideal.work_seconds / 3600:,.1f}",
                    f"{ideal.gpu_seconds / 3600:,.1f}",
                    f"{used / 3600:,.1f}",
                    f"{used / ideal.gpu_seconds - 1:+.0%}",
                    f"{used / ideal.work_seconds - 1:+.0%}",
                    f"{max(sample.replicas for sample in run.samples)} / {ideal.most}",
                    f"{run.changes:,}",
                    _three([life.first_seconds for life in lives]),
                    _three([life.whole_seconds for life in lives]),
                )
            )
            notes.append(f"{load_name}, {case}: {_report(run)}")
            if case == cases[-1][0]:
                panels.append(_timeline(f"{load_name}, {case}", run))
    return Answer(
        title="GPU hours beside an oracle that knows the load",
        header=(
            "load",
            "settings",
            "rendering, h",
            "oracle, h",
            "pool, h",
            "pool / oracle",
            "pool / rendering",
            "most GPUs, pool / oracle",
            "scalings",
            "to the first image, p50 / p90 / p99, s",
            "to the last",
        ),
        rows=rows,
        panels=panels,
        notes=notes,
    )


def _timeline(title: str, run: Run) -> Panel:
    samples = run.samples
    return Panel(
        title=title,
        across="hours",
        series=[
            Series(name="replicas", points=[(s.at / 3600, s.replicas) for s in samples], step=True),
            Series(name="wanted", points=[(s.at / 3600, s.wanted) for s in samples], step=True),
            Series(name="rendering", points=[(s.at / 3600, s.busy) for s in samples], step=True),
        ],
    )


# From nothing


def first_image(seed: int, scale: float) -> Answer:
    """From a submit while there are no replicas to the first image, less the cold start."""
    trials = max(5, round(40 * scale))
    rows: list[Sequence[str]] = []
    series = []
    for polling in (5.0, 15.0, 30.0):
        settings = replace(ADVISED, polling_seconds=polling)
        scaling = Scaling(target_seconds=600.0)
        waits = []
        for trial in range(trials):
            load = big_sweep(8, at=100.0 + polling * trial / trials)
            run = play(load, Elastic(settings=settings, scaling=scaling), seed=seed + trial)
            (life,) = run.pool.lives.values()
            waits.append(life.first_seconds - TIMING.cold_seconds)
        rows.append(
            (
                f"{polling:.0f}",
                f"{trials}",
                *(f"{percentile(waits, share):.1f}" for share in (0.5, 0.9, 1.0)),
            )
        )
        series.append(
            Series(
                name=f"polling every {polling:.0f} s",
                points=[(percentile(waits, n / 100), n) for n in range(0, 101, 2)],
            )
        )
    batch = TIMING.call_seconds + TIMING.batch * 2.0 + TIMING.upload_seconds
    return Answer(
        title="From a submit at zero replicas to the first image, less the cold start",
        header=("KEDA's pollingInterval, s", "trials", "p50, s", "p90, s", "most, s"),
        rows=rows,
        panels=[
            Panel(
                title="Trials with their first image, in per cent, by seconds less the cold start",
                across="seconds",
                series=series,
            )
        ],
        notes=[
            f"of these, the batch itself with its upload: {batch:.1f} s; "
            f"the cold start: {TIMING.cold_seconds:g} s",
            f"seeds {seed} to {seed + trials - 1}; every job of every trial done exactly once",
        ],
    )


def _busy(run: Run) -> float:
    return run.pool.busy_seconds() / run.pool.gpu_seconds()


def _report(run: Run) -> str:
    """A run's sums; told at once as well, since the next one takes its time."""
    found = run.audit
    text = (
        f"seed {run.seed}: {found.jobs:,} jobs, {found.done:,} done, {found.lost} lost, "
        f"{found.dead} dead, {found.repeats} stored twice; {run.pool.loop.now:,.0f} virtual "
        f"seconds and {run.pool.loop.events:,} events in {run.wall_seconds:,.0f} s"
    )
    print(text, file=sys.stderr, flush=True)
    return text


QUESTIONS: dict[str, Callable[[int, float], Answer]] = {
    "redis": redis_core,
    "delay": queue_delay,
    "preemption": preemption,
    "hours": gpu_hours,
    "first": first_image,
}
"""Name to what answers it: seed, and 1 for the whole size or less for a quicker look."""
