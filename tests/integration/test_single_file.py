"""A checkpoint in one file gives the images of its folder; its configuration is elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")

import torch

from shared.errors import ModelError
from tests.original_layout import save_original
from tests.pictures import all_rendered, mixed_jobs
from worker.engine import StockEngine
from worker.loading import LoadedModel, ModelSource, load_pipeline

CPU = torch.device("cpu")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def file(stock: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("single") / "model.safetensors"
    save_original(stock, path)
    return path


def configuration(folder: Path, to: Path) -> Path:
    """The folder without its weights."""
    return Path(shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.safetensors")))


def load(file: Path, config: Path | None) -> LoadedModel:
    source = ModelSource(model=str(file), config=None if config is None else str(config))
    return load_pipeline(source, device=CPU)


def test_a_file_renders_what_its_folder_does(
    engine: StockEngine, file: Path, demo_folder: Path, tmp_path: Path
) -> None:
    loaded = load(file, configuration(demo_folder, tmp_path / "config"))
    jobs = mixed_jobs()

    mine = all_rendered(StockEngine(loaded).render(jobs))
    other = all_rendered(engine.render(jobs))

    assert loaded.native_scheduler == engine.loaded.native_scheduler
    for one, two in zip(mine, other, strict=True):
        assert one.image.tobytes() == two.image.tobytes()


def test_its_fingerprint_is_of_the_file_and_of_the_configuration(
    file: Path, demo_folder: Path, tmp_path: Path
) -> None:
    config = configuration(demo_folder, tmp_path / "config")
    first = load(file, config).fingerprint

    assert first.startswith("sha256:")
    assert load(file, demo_folder).fingerprint == first, "weights in the folder are not used"
    moved = Path(shutil.copy(file, tmp_path / "moved.safetensors"))
    assert load(moved, config).fingerprint == first
    scheduler = config / "scheduler" / "scheduler_config.json"
    scheduler.write_text(scheduler.read_text().replace('"beta_end": ', '"beta_end": 1e-1, "x": '))
    assert load(file, config).fingerprint != first


@pytest.mark.parametrize("whole", [True, False])
def test_what_cannot_be_loaded_says_why(file: Path, tmp_path: Path, whole: bool) -> None:
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError) as caught:
        load(file, tmp_path) if whole else load(torn, None)
    message = str(caught.value)
    assert "\n" not in message
    assert ("is not a model directory" if whole else "can't be read as a checkpoint") in message


def elsewhere(file: Path, home: Path) -> str:
    """Fingerprint or refusal, in a process of its own with a hub's cache of its own, offline."""
    code = (
        "import sys, torch\n"
        "from shared.errors import ModelError\n"
        "from worker.loading import ModelSource, load_pipeline\n"
        "try:\n"
        "    source = ModelSource(model=sys.argv[1])\n"
        "    print(load_pipeline(source, device=torch.device('cpu')).fingerprint)\n"
        "except ModelError as error:\n"
        "    print(error)\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        env=clean | {"OMP_NUM_THREADS": "1", "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_a_folder_the_hubs_cache_has_the_configuration_or_a_sentence_says_so(
    file: Path, demo_folder: Path, tmp_path: Path
) -> None:
    name = "models--stable-diffusion-v1-5--stable-diffusion-v1-5"
    missing = elsewhere(file, tmp_path)
    repository = tmp_path / "hub" / name
    config = configuration(demo_folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)

    assert missing.startswith(f"model '{file}' is a single file without configuration, and that of")
    assert "'stable-diffusion-v1-5/stable-diffusion-v1-5' is not in the local cache" in missing
    assert "--single-file-config" in missing
    assert elsewhere(file, tmp_path) == load(file, config).fingerprint
