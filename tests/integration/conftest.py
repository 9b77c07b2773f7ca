"""The random checkpoint, built once, loaded once by the worker and once by diffusers itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from producer import Client, Sweep
from shared.settings import VARIABLES, Settings
from tests.command_line import Call, caller
from tests.factories import make_sweep
from tests.pool import Pool, running_pool
from tests.producer_pool import HandWorker, producer_services
from tests.redis_server import RedisServer
from tests.s3_server import S3Server, rclone_server

if TYPE_CHECKING:
    from worker.engine import StockEngine
    from worker.loading import LoadedModel


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random checkpoint as a folder: not to be changed."""
    pytest.importorskip("diffusers", reason="needs the worker's dependencies")
    from tests.random_model import save_random_model

    return save_random_model(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny models are quicker on one thread, and shared machines stay usable."""
    torch = pytest.importorskip("torch", reason="needs the worker's dependencies")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def loaded(demo_folder: Path) -> LoadedModel:
    """The random checkpoint as a worker on a CPU holds it: not to be changed for good."""
    import torch

    from worker.loading import ModelSource, load_pipeline

    return load_pipeline(ModelSource(model=str(demo_folder)), device=torch.device("cpu"))


@pytest.fixture
def engine(loaded: LoadedModel, one_thread: None) -> StockEngine:
    from worker.engine import StockEngine

    return StockEngine(loaded)


@pytest.fixture(scope="session")
def stock(demo_folder: Path) -> Any:
    """The random checkpoint in diffusers' hands alone."""
    import diffusers
    import torch

    pipeline = diffusers.DiffusionPipeline.from_pretrained(demo_folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def services() -> Iterator[tuple[Settings, RedisServer]]:
    """Redis and a bucket, shared by the producer's tests."""
    with producer_services() as found:
        yield found


@pytest.fixture
def settings(services: tuple[Settings, RedisServer], request: pytest.FixtureRequest) -> Settings:
    """An empty Redis, and a prefix of the test's own in the bucket."""
    settings, redis = services
    with redis.client() as client:
        client.flushall()
    prefix = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]
    return settings.with_values(prefix=prefix)


@pytest.fixture
def bare(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Call:
    """``seedbed`` in an empty folder, with nothing configured."""
    for name in [*VARIABLES.values(), *(name for name in os.environ if name.startswith("AWS_"))]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)
    return caller(capsys)


@pytest.fixture
def seedbed(bare: Call, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Call:
    """``seedbed`` with a pool in its environment."""
    for name, value in settings.to_environ().items():
        monkeypatch.setenv(name, value)
    return bare


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Redis, a bucket and the random checkpoint, for a module's workers."""
    pytest.importorskip("diffusers", reason="needs the worker's dependencies")
    with running_pool(tmp_path_factory.mktemp("pool")) as running:
        yield running


@pytest.fixture(scope="session")
def server() -> Iterator[S3Server]:
    """A bucket's server alone."""
    with rclone_server() as running:
        yield running


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with Client(settings) as client:
        yield client


@pytest.fixture
def worker(client: Client) -> HandWorker:
    return HandWorker(client)


@pytest.fixture
def study(client: Client, worker: HandWorker) -> Sweep:
    """A finished sweep of six images."""
    sweep = make_sweep(name="study", prompt=["a cat", "a dog"], seed="0..2")
    client.submit(sweep)
    worker.complete(sweep)
    return sweep
