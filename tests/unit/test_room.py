"""What memory is free, and what a model takes of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="needs the worker's dependencies")

import psutil
import torch

from worker.room import (
    PeakMemory,
    container_free_bytes,
    file_bytes,
    free_bytes,
    weights_bytes,
)

CPU = torch.device("cpu")


def test_a_cpus_free_memory_is_the_machines_or_less() -> None:
    assert 0 < free_bytes(CPU) <= psutil.virtual_memory().total
    assert PeakMemory(CPU).bytes() == 0, "not counted there"


def test_a_containers_limit_counts_and_cached_files_do_not(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    (tmp_path / "memory.max").write_text("1000\n")
    assert container_free_bytes(tmp_path, 9999) == 450

    (tmp_path / "memory.max").write_text("max\n")
    assert container_free_bytes(tmp_path, 9999) == 9999
    assert container_free_bytes(tmp_path / "nowhere", 9999) == 9999


def test_weights_that_components_share_count_once() -> None:
    one, two = torch.nn.Linear(10, 10), torch.nn.Linear(10, 10)
    two.weight = one.weight
    pipeline = SimpleNamespace(components={"one": one, "two": two, "other": object()})
    assert weights_bytes(pipeline) == 4 * (100 + 10 + 10)


def test_a_checkpoint_on_disk_is_as_large_as_its_weight_files(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.safetensors").write_bytes(b"x" * 100)
    (tmp_path / "model_index.json").write_text("{}")
    assert file_bytes(tmp_path) == 100
    assert file_bytes(tmp_path / "unet" / "model.safetensors") == 100
