"""The pool's exporter on a real Redis, asked over HTTP as Prometheus and KEDA do."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from producer import Client
from producer.exporter import Exporter
from producer.pool_reader import PoolReader
from producer.wishes import Scaling
from shared.backlog import Tally
from shared.metric_table import POOL_METRICS
from shared.metrics_server import MetricsServer
from shared.queue import JobQueue
from shared.settings import Settings
from tests.command_line import Call
from tests.factories import make_pin, make_sweep
from tests.pool import eventually
from tests.producer_pool import MODEL_KEY, HandWorker
from tests.promtool import lint_metrics
from tests.redis_server import RedisServer
from tests.scrape import ask, ask_json, samples_of, scrape, scrape_openmetrics, value

HUB_MODEL = "stabilityai/stable-diffusion-2-1"


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def exporter(client: Client, clock: Clock) -> Iterator[MetricsServer]:
    scaling = Scaling(target_seconds=60, max_workers=10, down_seconds=30)
    reader = PoolReader(client.queue, scaling, clock=clock)
    server = Exporter(reader, scaling).serve("127.0.0.1", 0)
    yield server
    server.close()


def test_jobs_are_told_by_model_and_lane_wherever_they_are(
    client: Client, worker: HandWorker, exporter: MetricsServer
) -> None:
    client.submit(make_sweep(name="small", prompt=["a cat", "a dog"], seed="0..9"))
    client.submit(make_sweep(name="large", seed="0..4", height=128, width=128))
    claim = worker.claim(4)
    assert claim is not None

    samples = scrape(exporter.port)

    pending = {
        dict(labels)["lane"]: count
        for (name, labels), count in samples.items()
        if name == "seedbed_jobs_pending" and dict(labels)["model"] == "demo"
    }
    assert sum(pending.values()) == 21
    assert sorted(pending.values()) in ([1, 20], [5, 16])
    assert value(samples, "seedbed_jobs_leased", model="demo", lane=claim.lane) == 4
    assert value(samples, "seedbed_sweeps") == 2
    assert value(samples, "seedbed_pool_up") == 1
    assert value(samples, "seedbed_oldest_pending_age_seconds", model="demo") > 0
    assert value(samples, "seedbed_redis_memory_used_bytes") > 100_000


def test_every_metric_of_the_table_is_told_and_promtool_finds_no_fault(
    client: Client, worker: HandWorker, exporter: MetricsServer
) -> None:
    client.submit(make_sweep(seed="0..9"))
    worker.claim(4)
    worker.announce()

    text = ask(exporter.port, "/metrics")[1]

    assert {name for name, _ in samples_of(text)} == {spec.name for spec in POOL_METRICS}
    assert lint_metrics(text) == ""
    families = {spec.name.removesuffix("_total") for spec in POOL_METRICS}
    assert scrape_openmetrics(exporter.port) == families


def test_what_is_done_reused_and_dead_is_counted_for_good(
    client: Client, worker: HandWorker, exporter: MetricsServer
) -> None:
    first = make_sweep(name="first", seed="0..4")
    client.submit(first)
    worker.fail(1, "no luck")
    worker.complete(first)
    client.submit(make_sweep(name="wider", seed="0..9"))  # submit counts what storage has
    client.delete(first.id)  # and deleting takes nothing back

    samples = scrape(exporter.port)

    done = value(samples, "seedbed_jobs_done_total", model="demo")
    reused = value(samples, "seedbed_jobs_reused_total", model="demo")
    assert (done - reused, value(samples, "seedbed_jobs_dead_total", model="demo")) == (4, 1)
    assert client.queue.tallies() == {
        MODEL_KEY: Tally(done=int(done), reused=int(reused), dead=1, expired=0)
    }


def test_a_lease_that_ran_out_is_counted_when_it_is_reaped(
    client: Client, exporter: MetricsServer
) -> None:
    client.submit(make_sweep(seed="0..3"))
    client.queue.claim(token="t", model=MODEL_KEY, pin="p", max_jobs=2, lease_seconds=0.05)
    eventually(lambda: client.queue.reap() == 1, seconds=5, what="the lease is over")

    assert value(scrape(exporter.port), "seedbed_lease_expiries_total", model="demo") == 1


@pytest.mark.parametrize("written", [HUB_MODEL, f"{HUB_MODEL}@main", "/srv/models/a b/ü", "demo"])
@pytest.mark.parametrize("slashes", ["", "/"], ids=["encoded", "as they are"])
def test_scale_finds_a_model_whatever_is_in_its_name(
    client: Client, exporter: MetricsServer, written: str, slashes: str
) -> None:
    model, _, revision = written.partition("@")
    client.submit(make_sweep(model=model, revision=revision or None, seed="0..4"))

    answer = ask_json(exporter.port, f"/scale/{quote(written, safe=slashes)}")

    assert (answer["model"], answer["known"], answer["pending"]) == (written, True, 5)
    assert answer["workers_wanted"] == 1


def test_scale_counts_a_checkpoint_s_other_weights_and_no_other_revision(
    client: Client, exporter: MetricsServer
) -> None:
    client.submit(make_sweep(name="plain", model="owner/name", seed="0..4"))
    client.submit(make_sweep(name="vae", model="owner/name", vae="owner/vae", seed="0..2"))
    client.submit(make_sweep(name="old", model="owner/name", revision="v1", seed="0..9"))

    assert ask_json(exporter.port, "/scale/owner%2Fname")["pending"] == 8
    assert ask_json(exporter.port, "/scale/owner%2Fname%40v1")["pending"] == 10


def test_a_model_that_a_stranger_submitted_is_found_by_its_name(
    client: Client, exporter: MetricsServer
) -> None:
    client.submit(make_sweep(model="owner/name", seed="0..4"))
    client.queue.client.delete(client.queue.keys.weights)  # given: nobody noted the name

    answer = ask_json(exporter.port, "/scale/owner%2Fname")

    assert (answer["known"], answer["pending"]) == (True, 5)


def test_a_model_that_nobody_asked_for_wants_no_worker(exporter: MetricsServer) -> None:
    answer = ask_json(exporter.port, "/scale/owner%2Fname")

    assert (answer["known"], answer["workers_wanted"], answer["pending"]) == (False, 0, 0)


def test_wanted_follows_the_measured_seconds_and_what_the_question_says(
    client: Client, worker: HandWorker, exporter: MetricsServer, clock: Clock
) -> None:
    client.submit(make_sweep(seed="0..99"))
    claim = worker.claim(10)
    assert claim is not None
    client.queue.record_rate(MODEL_KEY, claim.lane, claim.recipe, 3.0, 10)

    answer = ask_json(exporter.port, "/scale/demo")

    assert (answer["backlog_seconds"], answer["job_seconds"]) == (300, 3)
    assert answer["workers_wanted"] == 5  # 300 s in 60 s
    for query, wanted in [
        ("target_seconds=100", 3),
        ("target_seconds=1", 10),
        ("max_workers=2", 2),
    ]:
        assert ask_json(exporter.port, f"/scale/demo?{query}")["workers_wanted"] == wanted
    assert value(scrape(exporter.port), "seedbed_workers_wanted", model="demo") == 5
    assert value(scrape(exporter.port), "seedbed_backlog_seconds", model="demo") == 300


def test_fewer_are_wanted_when_the_backlog_has_been_smaller_for_a_while(
    client: Client, worker: HandWorker, exporter: MetricsServer, clock: Clock
) -> None:
    sweep = make_sweep(seed="0..99")
    client.submit(sweep)
    claim = worker.claim(1)
    assert claim is not None
    client.queue.record_rate(MODEL_KEY, claim.lane, claim.recipe, 3.0, 1)
    client.queue.release(claim.token)

    def wanted(seconds: float) -> int:
        clock.now += seconds
        return int(ask_json(exporter.port, "/scale/demo")["workers_wanted"])

    assert wanted(0) == 5
    worker.complete(sweep)
    assert wanted(10) == 5
    assert ask_json(exporter.port, "/scale/demo")["backlog_seconds"] == 0
    assert wanted(21) == 0


def test_one_second_of_questions_is_one_look_at_redis(
    client: Client, exporter: MetricsServer, clock: Clock
) -> None:
    def looks() -> int:
        return int(client.queue.client.info("commandstats")["cmdstat_evalsha"]["calls"])

    scrape(exporter.port)
    before = looks()
    for _ in range(5):
        scrape(exporter.port)
        ask_json(exporter.port, "/scale/demo")
        assert ask(exporter.port, "/readyz") == (200, "ok\n")
    assert looks() == before
    clock.now += 1
    scrape(exporter.port)
    assert looks() == before + 1


def test_a_look_costs_as_much_for_a_million_jobs_as_for_one(
    client: Client, exporter: MetricsServer, clock: Clock
) -> None:
    def commands() -> int:
        stats = client.queue.client.info("commandstats")
        return sum(entry["calls"] for entry in stats.values())

    costs = []
    for name, seeds in [("one", "0..0"), ("million", "0..999999")]:
        client.queue.client.flushall()
        client.submit(make_sweep(name=name, seed=seeds))
        scrape(exporter.port)
        clock.now += 10
        before = commands()
        scrape(exporter.port)
        costs.append(commands() - before)
    assert abs(costs[0] - costs[1]) <= 1
    assert ask_json(exporter.port, "/scale/demo")["pending"] == 1_000_000


def test_jobs_pinned_to_weights_that_the_workers_have_not_are_stranded(
    client: Client, worker: HandWorker, exporter: MetricsServer, clock: Clock
) -> None:
    client.submit(make_sweep(seed="0..9"))
    claim = worker.claim(1)
    assert claim is not None
    client.queue.release(claim.token)
    renewed = HandWorker(client, make_pin(weights="sha256:" + "1" * 64))
    assert not client.queue.look().claimable(MODEL_KEY, pin=renewed.pin.to_text())

    def told() -> tuple[int, int, int]:
        clock.now += 10
        answer = ask_json(exporter.port, "/scale/demo")
        return answer["pending"], answer["stranded"], answer["workers"]

    assert told() == (10, 0, 0)
    renewed.announce()
    assert told() == (0, 10, 1)
    clock.now += 60
    assert ask_json(exporter.port, "/scale/demo")["workers_wanted"] == 0
    client.queue.client.delete(client.queue.keys.worker("hand"))
    assert told() == (0, 10, 0), "it is remembered what they had ..."
    clock.now += 3600
    assert told() == (10, 0, 0), "... for an hour"


def test_a_sweep_whose_index_is_to_be_written_wants_a_worker(
    client: Client, worker: HandWorker, exporter: MetricsServer, clock: Clock
) -> None:
    sweep = make_sweep(seed="0..3")
    client.submit(sweep)
    worker.work(sweep)
    clock.now += 60

    answer = ask_json(exporter.port, "/scale/demo")

    assert (answer["pending"], answer["leased"], answer["finalising"]) == (0, 0, 1)
    assert answer["workers_wanted"] == 1
    assert value(scrape(exporter.port), "seedbed_sweeps_finalising") == 1


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/scale/demo?target_seconds=soon", 400, "target_seconds and max_workers are numbers"),
        ("/scale/demo?target_seconds=0", 400, "target_seconds 0 is not above 0"),
        ("/scale/demo?target_seconds=nan", 400, "target_seconds nan is not above 0"),
        ("/scale/demo?max_workers=-1", 400, "max_workers -1 is not from 0"),
        ("/scale/demo?max=3", 400, "max is not known"),
        ("/scale/", 404, "/scale/MODEL"),
        ("/", 404, "/metrics"),
    ],
)
def test_a_question_that_cannot_be_answered_is_told_why(
    exporter: MetricsServer, path: str, status: int, words: str
) -> None:
    found, text = ask(exporter.port, path)
    assert (found, words in text) == (status, True), text


def test_a_redis_that_goes_away_is_told_and_is_not_no_work(
    settings: Settings, services: tuple[Settings, RedisServer]
) -> None:
    with RedisServer(services[1].binary) as redis:
        queue = JobQueue.connect(redis.url, "default")
        scaling = Scaling()
        server = Exporter(PoolReader(queue, scaling), scaling).serve("127.0.0.1", 0)
        try:
            assert ask(server.port, "/readyz")[0] == 200
            redis.kill()
            eventually(lambda: ask(server.port, "/readyz")[0] == 503, seconds=20, what="unready")
            assert ask(server.port, "/scale/demo")[0] == 503
            assert ask(server.port, "/healthz") == (200, "ok\n")
            samples = scrape(server.port)
            assert value(samples, "seedbed_pool_up") == 0
            assert not any(name == "seedbed_workers_wanted" for name, _ in samples)
        finally:
            server.close()
            queue.client.close()


def test_the_command_serves_until_sigterm(settings: Settings, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "producer.cli.main", "metrics", f"--port={port}"],
            env={
                **settings.to_environ(),
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": ":".join(sys.path),
            },
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        eventually(lambda: "metrics of pool" in log.read_text(), seconds=30, what="it listens")
        assert value(scrape(port), "seedbed_pool_up") == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()


def test_a_redis_that_is_not_there_ends_the_command_in_one_sentence(
    bare: Call, caplog: pytest.LogCaptureFixture
) -> None:
    answer = bare("metrics", "--redis-url", "redis://127.0.0.1:9")
    assert answer.code == 1
    assert answer.is_one_sentence
    assert not caplog.records  # which go to stderr, too
    assert "Redis does not serve" in answer.err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--target-seconds=0", "target_seconds 0 is not above 0"),
        ("--max-workers=-1", "--max-workers '-1' is not a whole number from 0"),
        ("--down-seconds=-1", "--down-seconds '-1' is not a number from 0"),
    ],
)
def test_impossible_scaling_is_refused_in_one_sentence(
    seedbed: Call, option: str, words: str
) -> None:
    answer = seedbed("metrics", option)
    assert (answer.code, answer.is_one_sentence) == (2, True)
    assert words in answer.err


def test_a_port_that_is_taken_is_refused_in_one_sentence(
    seedbed: Call, exporter: MetricsServer
) -> None:
    answer = seedbed("metrics", "--port", str(exporter.port))
    assert (answer.code, answer.is_one_sentence) == (2, True)
    assert f"port {exporter.port}" in answer.err
