"""Devices by name, and the best there is without one."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the worker's dependencies")

import torch

from shared.errors import InvalidSettings
from worker.attention import parse_slicing
from worker.device import dtype_for, hardware_name, pick_device


def test_a_cpu_is_always_there_and_computes_in_float32() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert dtype_for(torch.device("cpu")) == torch.float32
    assert dtype_for(torch.device("cuda")) == torch.float16
    assert dtype_for(torch.device("mps")) == torch.float16


def test_a_cpu_is_known_by_its_model_threads_and_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("worker.device.CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t:  Fine  CPU @ 3GHz\n")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    cpu = torch.device("cpu")

    assert hardware_name(cpu).startswith("Fine CPU @ 3GHz, threads: 3")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    assert "threads: 5" in hardware_name(cpu)
    (tmp_path / "cpuinfo").unlink()
    assert (platform.processor() or platform.machine()) in hardware_name(cpu)


def test_without_a_name_a_device_that_exists_is_picked() -> None:
    torch.empty(1, device=pick_device())


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "xla", "cuda:99"])
def test_a_device_that_is_not_here_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidSettings, match=f"device {name!r}"):
        pick_device(name)


@pytest.mark.parametrize(
    ("text", "value"),
    [("adaptive", "adaptive"), ("auto", "auto"), ("max", "max"), ("off", "off"), ("4", 4)],
)
def test_slicing_is_a_word_or_a_number(text: str, value: str | int) -> None:
    assert parse_slicing(text) == value


@pytest.mark.parametrize("text", ["", "on", "0", "-1", "1.5", "adaptiv"])
def test_other_slicing_is_refused(text: str) -> None:
    with pytest.raises(InvalidSettings, match="use adaptive, auto, max, off or a whole number"):
        parse_slicing(text)
