"""A process's own memory: its peak while something ran, and what it could come to hold."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the worker's dependencies")

import psutil
import torch

import worker.memory
from worker.memory import SampledMemory, memory_of, reachable_bytes

MIB = 1 << 20


def test_a_peak_that_is_over_again_was_seen() -> None:
    held = [1]
    memory = SampledMemory(lambda: held[0], lambda: 100)
    memory.start()
    held[0] = 7
    time.sleep(20 * worker.memory.SAMPLE_SECONDS)
    held[0] = 2

    assert memory.stop() == 7
    assert memory.stop() is None, "nothing was watched since"
    assert memory.available() == 100


def test_each_watch_begins_anew() -> None:
    held = [9]
    memory = SampledMemory(lambda: held[0], lambda: 100)
    memory.start()
    memory.stop()
    held[0] = 3
    memory.start()

    assert memory.stop() == 3


def test_starting_twice_leaves_no_thread_behind() -> None:
    import threading

    before = threading.active_count()
    memory = SampledMemory(lambda: 1, lambda: 100)
    memory.start()
    memory.start()
    memory.stop()

    assert threading.active_count() == before


def test_the_resident_set_of_a_large_tensor_is_seen() -> None:
    memory = memory_of(torch.device("cpu"))
    memory.start()
    before = memory.stop()
    memory.start()
    tensor = torch.ones(64 * MIB)  # float32: 256 MiB
    peak = memory.stop()

    assert before is not None
    assert peak is not None
    assert 200 * MIB < peak - before < 400 * MIB
    del tensor


def test_what_is_reachable_is_what_is_held_and_what_is_left() -> None:
    total = psutil.virtual_memory().total
    assert worker.memory.resident_bytes() < reachable_bytes() < total * 1.05


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr("worker.room.CGROUP", tmp_path)
    (tmp_path / "memory.current").write_text(f"{300 * MIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {100 * MIB}\nslab 7\n")
    return tmp_path


def test_a_containers_limit_is_less_than_the_machines(container: Path) -> None:
    (container / "memory.max").write_text(f"{512 * MIB}\n")

    left = reachable_bytes() - worker.memory.resident_bytes()

    assert 300 * MIB < left < 324 * MIB, "512 - 300, and 100 of file cache"


@pytest.mark.parametrize("limit", ["max\n", "", "nonsense"])
def test_without_a_limit_a_container_has_the_machines_memory(container: Path, limit: str) -> None:
    (container / "memory.max").write_text(limit)

    assert reachable_bytes() > worker.memory.resident_bytes() + 300 * MIB
