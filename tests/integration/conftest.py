"""The demo checkpoint, built once, loaded once by the worker and once by diffusers itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from worker.engine import StockEngine
    from worker.loading import LoadedModel


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo checkpoint as a folder: not to be changed."""
    pytest.importorskip("diffusers", reason="needs the worker's dependencies")
    from worker.demo_model import build_demo_model

    return build_demo_model(tmp_path_factory.mktemp("models") / "demo")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny models are quicker on one thread, and shared machines stay usable."""
    torch = pytest.importorskip("torch", reason="needs the worker's dependencies")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def loaded(demo_folder: Path) -> LoadedModel:
    """The demo checkpoint as a worker on a CPU holds it: not to be changed for good."""
    import torch

    from worker.loading import ModelSource, load_pipeline

    return load_pipeline(ModelSource(model=str(demo_folder)), device=torch.device("cpu"))


@pytest.fixture
def engine(loaded: LoadedModel, one_thread: None) -> StockEngine:
    from worker.engine import StockEngine

    return StockEngine(loaded)


@pytest.fixture(scope="session")
def stock(demo_folder: Path) -> Any:
    """The demo checkpoint in diffusers' hands alone."""
    import diffusers

    pipeline = diffusers.DiffusionPipeline.from_pretrained(demo_folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
