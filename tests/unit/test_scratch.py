"""Scratch folders go when their user does, however it goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from worker.scratch import scratch_folder

ROOT = Path(__file__).parents[2]
DIES = """
import os, signal
from worker.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "records").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_cleared_and_what_is_in_use_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = subprocess.run(
        [sys.executable, "-c", DIES],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    left = Path(killed.stdout.strip())
    assert (left / "records").exists()

    with scratch_folder() as mine:
        assert not left.exists()
        with scratch_folder() as other:
            assert mine.exists()
            assert other != mine
        (mine / "records").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []
