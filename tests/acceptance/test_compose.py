"""The compose file's services, as real processes without Docker, render a sweep and count it."""

from __future__ import annotations

import json
import runpy
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from shared.settings import Settings
from shared.storage import Storage
from tests.compose_file import DEPLOY, EXAMPLE, read_variables
from tests.dashboard import expressions
from tests.pool import eventually
from tests.scrape import scrape
from tests.without_docker import (
    WithoutDocker,
    has_prometheus,
    need_prometheus,
    without_docker,
)

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

NOT_HERE = {"grafana", "flower"}
"""Neither is to be had as a package here: that they start is unproven."""

SWEEP = """
name: compose
model: demo
prompt: [a red circle on a blue background, a green star on a yellow background]
seed: 0..2
num_inference_steps: 4
"""
IMAGES = 6

NOT_HAPPENED = ("pending", "leased", "== 0", "failed", "out_of_memory")
"""What a pool that is done, with one ready worker, has nothing to show of."""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[WithoutDocker]:
    variables = read_variables(EXAMPLE)
    assert variables["COMPOSE_PROFILES"] == "cpu"
    with without_docker(tmp_path, variables) as running:
        yield running


def ask(stack: WithoutDocker, path: str, **query: str) -> Any:
    """An answer of Prometheus' HTTP API."""
    url = f"http://127.0.0.1:{stack.ports['prometheus:9090']}/api/v1/{path}"
    with urllib.request.urlopen(f"{url}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
        found = json.load(answer)
    assert found["status"] == "success"
    return found["data"]


def number(stack: WithoutDocker, query: str) -> float | None:
    """A query's only value; None while there is none."""
    result = ask(stack, "query", query=query)["result"]
    assert len(result) <= 1, result
    return float(result[0]["value"][1]) if result else None


def puts(stack: WithoutDocker) -> float:
    """How many objects SeaweedFS was asked to store."""
    samples = scrape(stack.ports["s3:metrics"])
    return sum(
        count
        for (name, labels), count in samples.items()
        if name == "SeaweedFS_s3_request_total" and ("type", "PUT") in labels
    )


def receipt_files(stack: WithoutDocker) -> int:
    """How many objects hold the sweep's receipts: one a batch."""
    environ = stack.environ("cli")
    settings = Settings.resolve({}, environ).with_values(
        access_key=environ["AWS_ACCESS_KEY_ID"], secret_key=environ["AWS_SECRET_ACCESS_KEY"]
    )
    storage = Storage.connect(settings)
    try:
        return sum("/receipts/" in found.key for found in storage.list("sweeps/"))
    finally:
        storage.close()


def beating(stack: WithoutDocker) -> str:
    """The first event that Flower's configuration hears."""
    given = stack.services["flower"]["environment"]
    environ = {name: stack.here("flower", value) for name, value in given.items()}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        settings = runpy.run_path(str(DEPLOY / "flower" / "seedbed_flower.py"))
    app = Celery(set_as_current=False)
    app.conf.update({name: settings[name] for name in ("broker_url", "broker_transport_options")})
    heard: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        heard.append(event["type"])
        receiver.should_stop = True

    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": hear})
        receiver.capture(timeout=60)
    return heard[0]


def test_the_services_of_the_compose_file_render_a_sweep_and_prometheus_counts_it(
    stack: WithoutDocker,
) -> None:
    # given: every service of the profile that this machine has the program of
    started = ["redis", "s3", "metrics", "prometheus", "worker-cpu"]
    for name in started:
        if name != "prometheus" or has_prometheus():
            stack.start(name)
    usual = {name for name, service in stack.services.items() if "profiles" not in service}
    assert usual | {"worker-cpu"} == {*started} | NOT_HERE

    rendered = 'sum(seedbed_worker_images_total{outcome="rendered"})'
    if has_prometheus():  # a rate is of what it saw grow, so it has to have seen none
        eventually(lambda: number(stack, rendered) == 0, seconds=60, what="the worker is scraped")
    before = puts(stack)

    # when a sweep goes in as the file's first lines say
    stack.cli("submit", "-", given=SWEEP)
    stack.cli("watch", "compose", "--timeout", "200")

    # then its images are in SeaweedFS, and the exporter's and the worker's counts in Prometheus
    (sweep,) = json.loads(stack.cli("ls", "--json"))
    assert (sweep["state"], sweep["done"]) == ("done", IMAGES)
    fetched = stack.folder / "cli" / "images"
    stack.cli("fetch", "compose", "--out", str(fetched))
    assert len(list(fetched.rglob("*.png"))) == IMAGES

    # and cost the requests that docs/deploy.md says: images and receipts, and five for the sweep
    receipts = receipt_files(stack)
    assert puts(stack) - before == IMAGES + receipts + 5

    # and the worker beats where Flower is told to listen
    assert beating(stack) == "worker-heartbeat"

    need_prometheus()
    done = "sum(max by (model) (seedbed_jobs_done_total))"
    eventually(lambda: number(stack, done) == IMAGES, seconds=60, what="its images are counted")
    eventually(lambda: number(stack, rendered) == IMAGES, seconds=60, what="the worker's as well")
    up = {sample["metric"]["job"] for sample in ask(stack, "query", query="up == 1")["result"]}
    assert up == {"seedbed-metrics", "seedbed-worker"}
    assert number(stack, "count(up)") == 2

    rules = [rule for group in ask(stack, "rules")["groups"] for rule in group["rules"]]
    assert len(rules) > 10
    eventually(
        lambda: all(
            rule["health"] == "ok"
            for group in ask(stack, "rules")["groups"]
            for rule in group["rules"]
        ),
        seconds=60,
        what="every alert is evaluated",
    )
    firing = [alert for alert in ask(stack, "alerts")["alerts"] if alert["state"] == "firing"]
    assert firing == []

    def silent() -> set[str]:
        """Queries of the dashboard that have nothing to show."""
        return {query for query in expressions() if not ask(stack, "query", query=query)["result"]}

    eventually(
        lambda: all(any(word in query for word in NOT_HAPPENED) for query in silent()),
        seconds=60,
        what=f"every panel shows something: {silent()}",
    )

    assert stack.stop("worker-cpu") == 0
    assert stack.stop("metrics") == 0


def test_a_password_that_is_not_set_is_said() -> None:
    variables = {**read_variables(EXAMPLE), "REDIS_PASSWORD": ""}
    with pytest.raises(KeyError, match=r"REDIS_PASSWORD: copy \.env\.example to \.env"):
        WithoutDocker(folder=Path(), variables=variables)
