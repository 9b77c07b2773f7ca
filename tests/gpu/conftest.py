"""Everything here needs a CUDA device, and the random checkpoint on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from worker.loading import LoadedModel


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.random_model import save_random_model

    return save_random_model(tmp_path_factory.mktemp("models") / "random")


@pytest.fixture(scope="session")
def on_gpu(demo_folder: Path) -> LoadedModel:
    """The random checkpoint as a worker on a GPU holds it: float16."""
    import torch

    from worker.loading import ModelSource, load_pipeline

    return load_pipeline(ModelSource(model=str(demo_folder)), device=torch.device("cuda"))
