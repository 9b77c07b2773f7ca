"""A worker that can't work says why in one sentence, ends, and has touched no job."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

from shared.settings import VARIABLES
from shared.worker_options import VARIABLE, WorkerOptions
from tests.pool import Pool
from tests.scrape import ask
from worker.__main__ import main

CLOSED = "127.0.0.1:9"
"""Nobody listens there: the discard service went out of use long ago."""


@dataclass
class Probe:
    """Asks /readyz and /healthz of a port, again and again, until it is told to stop."""

    port: int
    ready: set[int] = field(default_factory=set)
    healthy: set[int] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._over.wait(0.02):
            for path, seen in (("/readyz", self.ready), ("/healthz", self.healthy)):
                with suppress(OSError):  # not listening yet, or not any more: as good as unready
                    seen.add(ask(self.port, path)[0])

    def __enter__(self) -> Probe:
        self._thread = threading.Thread(target=self.run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@dataclass(frozen=True)
class Start:
    """How one start ended."""

    code: int
    sentence: str
    everything: str
    probe: Probe


@pytest.fixture
def start(
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    one_thread: None,
) -> Callable[..., Start]:
    """Start a worker in this process, with jobs waiting for it; it must end by itself."""
    with pool.redis.client() as client:
        client.flushall()
    for name in [*VARIABLES.values(), *(name for name in os.environ if name.startswith("AWS_"))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))

    def run(
        environ: dict[str, str | None] | None = None, *, model: str | None = None, **options: object
    ) -> Start:
        sweep = pool.sweep(name="waiting", model=model or pool.model)
        pool.client.submit(sweep)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        values = {
            "models": (model or pool.model,),
            "batch_size": 4,
            "device": "cpu",
            "metrics_port": port,
        } | options
        wanted = {**pool.settings.to_environ(), VARIABLE: WorkerOptions(**values).to_json()}
        for name, value in {**wanted, **(environ or {})}.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)
        capfd.readouterr()
        with Probe(port) as probe:
            code = main()
        said = capfd.readouterr().err
        status = pool.client.status(sweep.id)
        assert (status.leased, status.pending) == (0, status.total), "it has touched a job"
        assert pool.client.workers() == [], "it has joined the pool"
        return Start(code, said.splitlines()[-1], said, probe)

    return run


def no_checkpoint(folder: Path) -> Path:
    """A folder that only looks like one."""
    (folder / "broken").mkdir()
    (folder / "broken" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"')
    return folder / "broken"


@pytest.mark.parametrize(
    ("environ", "code", "words"),
    [
        ({"SEEDBED_REDIS_URL": "localhost:6379"}, 2, "SEEDBED_REDIS_URL is 'localhost:6379'"),
        ({"SEEDBED_REDIS_URL": None}, 2, "no pool: set SEEDBED_REDIS_URL"),
        ({"SEEDBED_REDIS_URL": f"redis://{CLOSED}"}, 1, "Redis does not serve"),
        ({"SEEDBED_BROKER_URL": f"redis://:pw@{CLOSED}"}, 1, "mend SEEDBED_BROKER_URL"),
        ({"SEEDBED_BROKER_URL": "pigeon://x"}, 2, "Celery has no transport for"),
        ({"SEEDBED_S3_ENDPOINT_URL": f"http://{CLOSED}"}, 1, CLOSED),
        ({"SEEDBED_S3_ENDPOINT_URL": "s3.example"}, 2, "SEEDBED_S3_ENDPOINT_URL is 's3.example'"),
        ({"SEEDBED_BUCKET": "no-such-bucket"}, 2, "no-such-bucket"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, 2, "credentials"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, 2, "AWS_SECRET_ACCESS_KEY"),
        ({"SEEDBED_POOL": "{x}"}, 2, "SEEDBED_POOL is '{x}'"),
        ({"SEEDBED_LOG_LEVEL": "loud"}, 2, "SEEDBED_LOG_LEVEL is 'loud'"),
        ({VARIABLE: "{"}, 2, f"{VARIABLE} is not what 'seedbed worker' writes"),
        ({VARIABLE: '{"models": ["demo"], "speed": 9}'}, 2, "is not what 'seedbed worker' writes"),
        ({VARIABLE: '{"models": ["demo"], "batch_size": "four"}'}, 2, "is not what 'seedbed"),
        ({VARIABLE: None}, 2, "start it with 'seedbed worker --model MODEL'"),
    ],
)
def test_a_wrong_variable_or_a_service_that_is_away_is_one_sentence(
    start: Callable[..., Start], environ: dict[str, str | None], code: int, words: str
) -> None:
    ended = start(environ)

    assert ended.sentence.startswith("seedbed worker: ")
    assert words in ended.sentence
    assert ended.code == code
    assert "Traceback" not in ended.everything
    assert 200 not in ended.probe.ready
    assert ended.probe.healthy <= {200}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: {"model": str(folder / "nowhere")}, "nowhere"),
        (lambda folder: {"model": str(no_checkpoint(folder))}, "broken"),
        (lambda folder: {"device": "cuda:7"}, "device 'cuda:7' is not here"),
        (lambda folder: {"device": "tpu"}, "device 'tpu' is unknown"),
        (lambda folder: {"xformers": True}, "--xformers needs"),
    ],
)
def test_a_checkpoint_or_device_that_is_not_there_is_one_sentence(
    start: Callable[..., Start],
    tmp_path: Path,
    change: Callable[[Path], dict[str, object]],
    words: str,
) -> None:
    ended = start(**change(tmp_path))

    assert ended.sentence.startswith("seedbed worker: ")
    assert words in ended.sentence
    assert ended.code == 2
    assert "Traceback" not in ended.everything
    assert ended.probe.ready <= {503}, "unready all the while"
    assert ended.probe.healthy <= {200}


def test_a_metrics_port_that_is_taken_is_one_sentence(start: Callable[..., Start]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = start(metrics_port=port)

    assert ended.code == 2
    assert ended.sentence.startswith(
        f"seedbed worker: metrics can't be served on 127.0.0.1 port {port}"
    )
    assert "Traceback" not in ended.everything


def test_the_command_says_it_and_ends_as_the_process_does(pool: Pool, tmp_path: Path) -> None:
    sweep = pool.sweep(name="for-nobody", model=str(tmp_path / "gone"))
    pool.client.submit(sweep)
    shutil.rmtree(tmp_path / "gone", ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "producer.cli.main", "worker", f"--model={tmp_path / 'gone'}"],
        env={
            **pool.settings.to_environ(),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": ":".join(sys.path),
            "SEEDBED_METRICS_PORT": "0",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("seedbed worker: model ")
    assert "Traceback" not in done.stderr
    status = pool.client.status(sweep.id)
    assert (status.leased, status.pending) == (0, status.total)


def test_a_metrics_port_that_is_no_number_is_refused_by_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from click.testing import CliRunner

    from producer.cli.main import cli

    monkeypatch.setenv("SEEDBED_METRICS_PORT", "many")
    result = CliRunner().invoke(cli, ["worker", "--model", "demo"])
    assert result.exit_code == 2
    assert "--metrics-port" in result.output
