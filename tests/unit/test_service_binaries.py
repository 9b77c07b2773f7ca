"""Which server programs are taken, and what is said when none will do."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.services import binaries
from producer.services.binaries import find_rclone, find_redis_server
from shared.errors import ServiceError


def make_program(folder: Path, name: str, says: str) -> Path:
    """A script that answers with a version, whatever it is asked."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No wheels, and a PATH of two empty folders."""
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'first'}:{tmp_path / 'second'}")
    monkeypatch.setattr(binaries.sysconfig, "get_path", lambda _: str(tmp_path / "scripts"))
    monkeypatch.setattr(binaries.sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setattr(binaries.importlib.util, "find_spec", lambda _: None)


def test_without_a_program_the_error_says_how_to_get_it() -> None:
    for find, name in ((find_redis_server, "redis-server"), (find_rclone, "rclone")):
        with pytest.raises(ServiceError, match=rf"needs {name} .*pip install 'seedbed\[local\]'"):
            find()


def test_the_wheels_program_comes_before_the_one_on_path(tmp_path: Path) -> None:
    make_program(tmp_path / "first", "rclone", "rclone v1.80.0")
    wheel = make_program(tmp_path / "scripts", "rclone", "rclone v1.75.2")
    assert find_rclone() == wheel


@pytest.mark.parametrize("says", ["rclone v1.75.1", "rclone v1.76.0-beta.1", "rclone v2.0.0"])
def test_an_rclone_that_stores_whole_objects_is_taken(tmp_path: Path, says: str) -> None:
    program = make_program(tmp_path / "first", "rclone", says)
    assert find_rclone() == program


def test_an_rclone_that_shows_half_an_object_is_refused_by_its_version(tmp_path: Path) -> None:
    program = make_program(tmp_path / "first", "rclone", "rclone v1.75.0")
    with pytest.raises(ServiceError, match=rf"1\.75\.1 or later; {program} is 1\.75\.0"):
        find_rclone()


@pytest.mark.parametrize(
    "says",
    [
        "Redis server v=6.2.14 sha=40305114:0 malloc=libc bits=64 build=dff95a8e7a99d269",
        "Redis server v=7.0.15 sha=00000000:0",
        "Valkey server v=8.0.1 sha=00000000:0",
    ],
)
def test_a_recent_redis_or_its_heir_is_taken(tmp_path: Path, says: str) -> None:
    program = make_program(tmp_path / "first", "redis-server", says)
    assert find_redis_server() == program


def test_an_old_redis_is_refused(tmp_path: Path) -> None:
    make_program(tmp_path / "first", "redis-server", "Redis server v=5.0.14 sha=00000000:0")
    with pytest.raises(ServiceError, match=r"6\.2 or later; .*first/redis-server is 5\.0\.14"):
        find_redis_server()


def test_a_program_of_another_platform_is_passed_over(tmp_path: Path) -> None:
    broken = make_program(tmp_path / "scripts", "rclone", "")
    broken.write_bytes(b"\x7fELF not for this machine")
    program = make_program(tmp_path / "first", "rclone", "rclone v1.75.2")
    assert find_rclone() == program
    program.unlink()
    with pytest.raises(ServiceError, match=rf"{broken} does not run"):
        find_rclone()
