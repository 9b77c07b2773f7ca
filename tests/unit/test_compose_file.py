"""The compose file: every service healthy in order, nothing open to strangers, one .env."""

from __future__ import annotations

import re
import runpy
from typing import Any

import pytest
import yaml

from producer.cli.main import cli
from shared.doorbell import make_app
from shared.settings import VARIABLES
from tests.compose_file import COMPOSE, EXAMPLE, VARIABLE, read_compose, read_image, read_variables

VALUES = read_variables(EXAMPLE)
DOCUMENT = read_compose(VALUES)
SERVICES: dict[str, Any] = DOCUMENT["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def test_it_has_what_a_pool_on_one_machine_needs() -> None:
    assert set(SERVICES) == {
        *("redis", "s3", "metrics", "worker", "worker-cpu", "cli"),
        *("prometheus", "grafana", "flower"),
    }
    assert {name: service.get("profiles") for name, service in SERVICES.items()} == {
        **dict.fromkeys(("redis", "s3", "metrics", "prometheus", "grafana", "flower")),
        "worker": ["gpu"],
        "worker-cpu": ["cpu"],
        "cli": ["cli"],
    }


def test_the_example_has_every_variable_and_no_other() -> None:
    text = COMPOSE.read_text(encoding="utf-8")
    used = {match[2] for match in VARIABLE.finditer(text) if match[2]}
    assert used | {"COMPOSE_PROFILES"} == set(VALUES)
    for match in VARIABLE.finditer(text):
        if match[3] == ":-" and match[2] not in ("HF_TOKEN", "CHECKPOINTS"):
            assert VALUES[match[2]] == match[4], f"{match[2]} has two defaults"


def test_passwords_have_no_default() -> None:
    text = COMPOSE.read_text(encoding="utf-8")
    for name in VALUES:
        if re.search("PASSWORD|SECRET|ACCESS_KEY", name):
            assert f"${{{name}:?" in text
            with pytest.raises(KeyError, match=r"copy \.env\.example"):
                read_compose({**VALUES, name: ""})


def test_redis_loses_nothing_and_evicts_nothing() -> None:
    lines = DOCUMENT["configs"]["redis"]["content"].splitlines()
    assert {"appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"} <= set(lines)
    assert f"requirepass {VALUES['REDIS_PASSWORD']}" in lines


def test_nothing_is_published_to_other_machines() -> None:
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name}: {port}"


def test_every_image_that_is_not_ours_has_a_whole_version() -> None:
    for name, service in SERVICES.items():
        if name not in OURS:
            assert re.search(r":v?\d+\.\d+", service["image"]), service["image"]


def test_every_service_has_a_health_check_that_those_after_it_wait_for() -> None:
    for name, service in SERVICES.items():
        image = service.get("build", {}).get("target")
        check = service.get("healthcheck", {})
        assert check.get("test") or check.get("disable") or read_image(image).healthcheck, name
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert other in SERVICES
    order = {name: set(service.get("depends_on", ())) for name, service in SERVICES.items()}
    while order:
        ready = {name for name, others in order.items() if not others & set(order)}
        assert ready, f"they wait for each other: {order}"
        for name in ready:
            del order[name]


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_containers_write_nowhere_and_may_nothing(name: str) -> None:
    service = OURS[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_commands_parse_and_our_variables_are_read(name: str) -> None:
    service = OURS[name]
    if "command" in service:
        command, *words = service["command"]
        context = cli.commands[command].make_context(command, words)
        if command == "worker":
            stop = service["stop_grace_period"]
            assert stop.endswith("m")
            assert context.params["grace_seconds"] >= context.params["gpu_seconds"]
            assert int(stop[:-1]) * 60 >= context.params["grace_seconds"] + 60
    ours = {name for name in service["environment"] if name.startswith("SEEDBED_")}
    assert ours <= set(VARIABLES.values())
    assert {"SEEDBED_REDIS_URL", "SEEDBED_BUCKET", "SEEDBED_S3_ENDPOINT_URL"} <= ours


def test_flower_looks_where_workers_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    service = SERVICES["flower"]
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, value)
    (volume,) = service["volumes"]
    folder, mounted, _ = volume.split(":")
    assert service["environment"]["PYTHONPATH"] == mounted
    (module,) = (word for word in service["command"] if word.startswith("--config="))
    file = COMPOSE.parent / folder / f"{module.removeprefix('--config=')}.py"
    found = runpy.run_path(str(file))
    assert found["broker_url"] == SERVICES["metrics"]["environment"]["SEEDBED_REDIS_URL"]
    prefix = make_app(found["broker_url"], VALUES["POOL"]).conf.broker_transport_options
    assert found["broker_transport_options"]["global_keyprefix"] == prefix["global_keyprefix"]
    assert "--celery-events" in SERVICES["worker"]["command"]
    assert "--celery-events" in SERVICES["worker-cpu"]["command"]


def test_only_the_gpus_worker_has_the_gpu() -> None:
    (device,) = SERVICES["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}
    assert "--device=cuda" in " ".join(SERVICES["worker"]["command"])
    assert "deploy" not in SERVICES["worker-cpu"]
    assert "--device=cpu" in " ".join(SERVICES["worker-cpu"]["command"])


def test_whatever_is_mounted_is_there() -> None:
    named = set(DOCUMENT["volumes"])
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            assert target.startswith("/")
            assert source in named or (COMPOSE.parent / source).exists(), volume


def test_grafana_finds_its_dashboard_and_prometheus() -> None:
    folder = COMPOSE.parent / "../grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((folder / "dashboards/seedbed.yaml").read_text())["providers"]
    mounts = [volume.split(":")[1] for volume in SERVICES["grafana"]["volumes"]]
    assert f"{provider['options']['path']}/seedbed.json" in mounts
    assert SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] in mounts
