"""Every metric that Seedbed tells Prometheus: its name, kind, labels and meaning, said once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["gauge", "counter", "histogram"]

STAGES = ("claim", "load", "embed", "denoise", "decode", "finish", "encode", "upload", "commit")
"""What a worker's time goes into; docs/metrics.md says what each is counted for."""

OUTCOMES = ("rendered", "reused", "failed")
"""What became of a job that a worker had in hand."""

WORKER_STATES = ("serving", "draining")

STAGE_BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
"""Seconds: from a commit to the longest that a batch may take by default."""

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Images in a batch, up to the most that may be claimed at once."""

OTHER = "other"
"""Stands in a label for whatever is beyond its bound."""

MOST_MODELS = 100
"""Values of ``model`` in one scrape: sweeps are written by strangers, who may name any model."""

MOST_LANES = 20
"""Values of ``lane`` for one model in one scrape."""


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: As Prometheus shows it; a histogram's without its suffixes.
        labels: Names of its labels, in order.
        help: One sentence.
        buckets: Upper bounds of a histogram.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _gauge(name: str, help_text: str, *labels: str) -> MetricSpec:
    return MetricSpec(name=name, kind="gauge", help=help_text, labels=labels)


def _counter(name: str, help_text: str, *labels: str) -> MetricSpec:
    return MetricSpec(name=name, kind="counter", help=help_text, labels=labels)


POOL_METRICS: tuple[MetricSpec, ...] = (
    _gauge("seedbed_pool_up", "1 if the pool's Redis answered the last look at it, else 0."),
    _gauge("seedbed_pool_read_seconds", "Time that the last look at the pool took."),
    _gauge(
        "seedbed_jobs_pending", "Jobs of running sweeps that wait for a worker.", "model", "lane"
    ),
    _gauge("seedbed_jobs_leased", "Jobs that workers hold.", "model", "lane"),
    _gauge(
        "seedbed_jobs_stranded",
        "Pending jobs of sweeps that are pinned to weights which no worker has any more.",
        "model",
    ),
    _counter("seedbed_jobs_done_total", "Jobs whose image was committed.", "model"),
    _counter(
        "seedbed_jobs_reused_total", "Of those done, images that storage had already.", "model"
    ),
    _counter("seedbed_jobs_dead_total", "Jobs given up after their attempts.", "model"),
    _counter("seedbed_lease_expiries_total", "Leases that ran out and were reaped.", "model"),
    _gauge(
        "seedbed_job_seconds",
        "Worker seconds that a job of the backlog is thought to take.",
        "model",
    ),
    _gauge(
        "seedbed_backlog_seconds",
        "Worker seconds of work: pending and leased jobs times what each takes.",
        "model",
    ),
    _gauge("seedbed_workers_wanted", "Workers that the backlog asks for.", "model"),
    _gauge("seedbed_workers", "Workers that are there, by what they say.", "model", "state"),
    _gauge(
        "seedbed_oldest_pending_age_seconds",
        "Since the oldest sweep with pending jobs was submitted; 0 without one.",
        "model",
    ),
    _gauge("seedbed_sweeps", "Sweeps in the pool, ended ones included."),
    _gauge("seedbed_sweeps_finalising", "Sweeps whose index is to be written."),
    _gauge(
        "seedbed_oldest_finalising_age_seconds",
        "Since the longest waiting of them was to be written and nobody took it; 0 without one.",
    ),
    _gauge("seedbed_sweeps_unread", "Sweeps with work that were too many for one look."),
    _gauge("seedbed_redis_memory_used_bytes", "Memory that the pool's Redis uses."),
    _gauge("seedbed_redis_memory_limit_bytes", "Redis' maxmemory; 0 is none."),
    _gauge("seedbed_build_info", "Always 1; the version is in its label.", "version"),
)
"""Of the whole pool: what ``seedbed metrics`` serves."""

WORKER_METRICS: tuple[MetricSpec, ...] = (
    _counter(
        "seedbed_worker_images_total",
        "Jobs this worker was through with, by outcome: rendered, reused or failed.",
        "model",
        "outcome",
    ),
    _counter("seedbed_worker_image_bytes_total", "Size of the images it stored.", "model"),
    MetricSpec(
        name="seedbed_worker_batch_size",
        kind="histogram",
        help="Jobs that went to the device together.",
        labels=("model",),
        buckets=BATCH_BUCKETS,
    ),
    _counter(
        "seedbed_worker_batch_slots_total",
        "Jobs that these batches had room for: batch sizes as planned.",
        "model",
    ),
    _gauge("seedbed_worker_batch_planned", "Jobs that it claims at once now.", "model"),
    MetricSpec(
        name="seedbed_worker_stage_seconds",
        kind="histogram",
        help="Time by stage.",
        labels=("model", "stage"),
        buckets=STAGE_BUCKETS,
    ),
    _counter(
        "seedbed_worker_device_busy_seconds_total",
        "Time with a batch on the device, the one that is there now included.",
    ),
    _gauge(
        "seedbed_worker_device_memory_allocated_bytes",
        "Memory that this process' tensors take; on a CPU, the process itself.",
    ),
    _gauge(
        "seedbed_worker_device_memory_reserved_bytes",
        "Memory that torch keeps for this process; on a CPU, the process itself.",
    ),
    _gauge(
        "seedbed_worker_device_memory_free_bytes",
        "Memory of the device that nobody has taken, torch's reserve not counted as free.",
    ),
    _gauge("seedbed_worker_device_memory_limit_bytes", "All memory of the device."),
    _counter(
        "seedbed_worker_out_of_memory_splits_total",
        "Batches that did not fit in memory and were split.",
        "model",
    ),
    _counter("seedbed_worker_leases_lost_total", "Leases that were over before their work was."),
    _gauge("seedbed_worker_batches_uncommitted", "Batches rendered and not committed yet."),
    _counter(
        "seedbed_worker_store_retries_total",
        "Times that storage or the queue did not take something rendered, which was kept.",
    ),
    _gauge("seedbed_worker_ready", "1 while it has a pipeline loaded and takes work, else 0."),
    _gauge("seedbed_worker_draining", "1 from the wish that it ends, else 0."),
    _gauge(
        "seedbed_worker_info",
        "Always 1; worker, device and version are in its labels.",
        "worker",
        "device",
        "version",
    ),
)
"""Of one worker: what ``seedbed worker --metrics-port`` serves, besides ``process_*``."""

METRICS = {spec.name: spec for spec in (*POOL_METRICS, *WORKER_METRICS)}
"""All of them, by name."""
