"""One worker in this process, on a real Redis and S3: what it counts of what it does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from shared.lanes import model_key
from shared.metric_families import new_registry
from shared.metric_table import OUTCOMES, STAGES, WORKER_METRICS
from shared.metrics_server import MetricsServer
from shared.worker_options import WorkerOptions
from tests.pool import Pool, eventually
from tests.promtool import lint_metrics
from tests.scrape import Samples, ask, scrape, scrape_openmetrics, value
from worker.health import Health
from worker.metrics import WorkerMetrics
from worker.process import WorkerProcess


class Watched:
    """A worker and what it tells over HTTP."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.health = Health()
        metrics = WorkerMetrics(self.health)
        self.server = MetricsServer(
            host="127.0.0.1",
            port=0,
            registry=metrics.registry,
            healthy=self.health.alive_fault,
            ready=self.health.ready_fault,
        )
        options = WorkerOptions(models=(pool.model,), batch_size=4, device="cpu")
        self.process = WorkerProcess(pool.settings, options, health=self.health, metrics=metrics)

    def serve(self) -> int:
        return self.process.serve(model_key(self.pool.model, None, None))

    def samples(self) -> Samples:
        return scrape(self.server.port)

    def value(self, name: str, **labels: str) -> float:
        return value(self.samples(), f"seedbed_worker_{name}", **labels)

    def of_model(self, name: str, **labels: str) -> float:
        return self.value(name, model=self.pool.model, **labels)


@pytest.fixture
def worker(pool: Pool, one_thread: None) -> Iterator[Watched]:
    with pool.redis.client() as client:
        client.flushall()
    watched = Watched(pool)
    yield watched
    watched.process.close()
    watched.server.close()


def test_every_metric_of_the_table_is_told_and_nothing_else(worker: Watched) -> None:
    told = {name for name, _ in worker.samples() if not name.startswith("process_")}
    suffixes = ("_bucket", "_sum", "_count")
    expected = {
        name
        for spec in WORKER_METRICS
        for name in (
            [spec.name + suffix for suffix in suffixes] if spec.kind == "histogram" else [spec.name]
        )
    }
    assert told == expected
    assert value(worker.samples(), "process_resident_memory_bytes") > 0


def test_promtool_finds_no_fault_in_a_worker_s_metrics(pool: Pool, worker: Watched) -> None:
    pool.client.submit(pool.sweep(name="linted", prompt="a cup", guidance_scale=4, seed=[0]))
    worker.serve()
    assert lint_metrics(ask(worker.server.port, "/metrics")[1]) == ""
    families = {spec.name.removesuffix("_total") for spec in WORKER_METRICS}
    assert scrape_openmetrics(worker.server.port) >= families


def test_images_batches_and_stages_are_counted(pool: Pool, worker: Watched) -> None:
    sweep = pool.sweep(name="counted", prompt="a cat", guidance_scale=4, seed="0..9")
    pool.client.submit(sweep)

    assert worker.serve() == 10

    assert worker.of_model("images_total", outcome="rendered") == 10
    assert worker.of_model("batch_size_count") == 3  # 4 + 4 + 2
    assert worker.of_model("batch_size_sum") == 10
    assert worker.of_model("batch_slots_total") == 12
    assert worker.of_model("batch_planned") == 4
    counts = {stage: worker.of_model("stage_seconds_count", stage=stage) for stage in STAGES}
    assert counts == {
        "claim": 3,
        "load": 1,
        "embed": 3,
        "denoise": 3,
        "decode": 3,
        "finish": 3,
        "encode": 10,
        "upload": 10,
        "commit": 3,
    }
    stages = ("embed", "denoise", "decode", "finish")
    in_calls = sum(worker.of_model("stage_seconds_sum", stage=stage) for stage in stages)
    busy = worker.value("device_busy_seconds_total")
    assert 0 < in_calls <= busy < in_calls + 1
    assert worker.value("batches_uncommitted") == 0
    stored = sum(int(str(receipt["bytes"])) for receipt in pool.receipts(sweep))
    assert worker.of_model("image_bytes_total") == stored


def test_reused_and_failed_jobs_are_told_apart(pool: Pool, worker: Watched) -> None:
    fields = {"prompt": "a dog", "guidance_scale": 4}
    pool.client.submit(pool.sweep(name="first", seed="0..3", **fields))
    worker.serve()
    pool.client.submit(
        pool.sweep(
            name="wider",
            seed="2..5",
            scheduler=["DDIMScheduler", "FlowMatchEulerDiscreteScheduler"],
            **fields,
        )
    )
    worker.serve()

    counts = {outcome: worker.of_model("images_total", outcome=outcome) for outcome in OUTCOMES}
    assert counts == {"rendered": 6, "reused": 2, "failed": 4}


def test_a_batch_that_does_not_fit_is_counted_as_split(
    pool: Pool, worker: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = worker.process._serving
    assert serving is not None
    unet = serving.loaded.pipeline.unet
    forward = unet.forward

    def small_device(sample: torch.Tensor, *args: object, **named: object) -> object:
        if len(sample) > 4:  # two rows a guided image
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return forward(sample, *args, **named)

    monkeypatch.setattr(unet, "forward", small_device)
    pool.client.submit(pool.sweep(name="large", prompt="a hat", guidance_scale=4, seed="0..3"))
    assert worker.serve() == 4

    assert worker.of_model("out_of_memory_splits_total") == 1
    assert worker.of_model("images_total", outcome="rendered") == 4


def test_a_storage_outage_shows_as_retries_and_uncommitted_batches(
    pool: Pool, worker: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, outage = worker.process._storage, threading.Event()
    put = storage.put
    away = type(storage).connect(pool.settings.with_values(s3_endpoint_url="http://127.0.0.1:9"))
    outage.set()
    monkeypatch.setattr(
        storage,
        "put",
        lambda *args, **named: (away.put if outage.is_set() else put)(*args, **named),
    )
    pool.client.submit(pool.sweep(name="outage", prompt="a bus", guidance_scale=4, seed="0..3"))
    thread = threading.Thread(target=worker.serve)
    thread.start()
    try:
        eventually(lambda: worker.value("store_retries_total") >= 4, seconds=60, what="retries")
        assert worker.value("batches_uncommitted") == 1
        assert worker.of_model("images_total", outcome="rendered") == 0
    finally:
        outage.clear()
        thread.join(timeout=60)
    assert worker.value("batches_uncommitted") == 0
    assert worker.of_model("images_total", outcome="rendered") == 4


def test_a_lease_that_was_lost_is_counted(pool: Pool, worker: Watched) -> None:
    pool.client.submit(pool.sweep(name="lost", prompt="a pen", guidance_scale=4, seed="0..3"))
    queue = worker.process._queue
    claim = queue.claim(
        token="t",
        model=model_key(pool.model, None, None),
        pin=str(worker.process.describe()["pin"]),
        max_jobs=4,
        lease_seconds=60,
    )
    assert claim is not None
    lease = worker.process._keeper.hold(claim)
    queue.release("t")
    lease.renew_at = 0.0
    worker.process._keeper._renew_due()
    worker.process._keeper._renew_due()

    assert worker.value("leases_lost_total") == 1


def test_readiness_follows_the_worker_s_life(worker: Watched) -> None:
    assert ask(worker.server.port, "/readyz") == (503, "not listening yet\n")
    worker.process.start_threads()
    worker.process._listening(lambda model: None)
    assert ask(worker.server.port, "/readyz") == (200, "ok\n")
    assert ask(worker.server.port, "/healthz") == (200, "ok\n")
    assert worker.value("ready") == 1

    worker.process.drain()

    assert ask(worker.server.port, "/readyz") == (503, "draining\n")
    assert ask(worker.server.port, "/healthz") == (200, "ok\n"), "a drain is no reason to kill"
    assert (worker.value("ready"), worker.value("draining")) == (0, 1)


def test_the_memory_of_a_cpu_is_that_of_the_process(worker: Watched) -> None:
    allocated = worker.value("device_memory_allocated_bytes")
    resident = value(worker.samples(), "process_resident_memory_bytes")
    assert allocated == pytest.approx(resident, rel=0.2)
    assert worker.value("device_memory_free_bytes") > 0
    assert worker.value("device_memory_limit_bytes") > allocated


def test_two_registries_do_not_share_a_thing(tmp_path: Path) -> None:
    first, second = WorkerMetrics(Health()), WorkerMetrics(Health())
    first.of("m").through("rendered", 3)
    labels = {"model": "m", "outcome": "rendered"}
    assert first.registry.get_sample_value("seedbed_worker_images_total", labels) == 3
    assert second.registry.get_sample_value("seedbed_worker_images_total", labels) is None
    assert list(new_registry().collect()) == []
