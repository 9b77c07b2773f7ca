"""Checkpoints are fetched as a worker fetches them, or it is said why not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.compose_file import stages

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fetch(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """``python -m worker.fetching`` with no way to the hub."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-P", "-m", "worker.fetching", *words],
        env={**kept, "HF_ENDPOINT": "http://127.0.0.1:9", **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_a_volume_holds_is_found_without_the_hub(demo_folder: Path, tmp_path: Path) -> None:
    # given: /models as an earlier fetch left it
    repository = tmp_path / "hub" / "models--owner--shapes"
    shutil.copytree(demo_folder, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)

    done = fetch(
        *("owner/shapes", "--vae", str(demo_folder)), HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path)
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"owner/shapes: {repository / 'snapshots' / COMMIT}",
        f"{demo_folder}: {demo_folder / 'vae'}",
    ]


def test_a_model_that_is_not_there_is_said_in_one_sentence_and_ends_a_build(tmp_path: Path) -> None:
    done = fetch("demo", str(tmp_path / "none"))

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "not a model directory" in done.stderr.splitlines()[-1]


def test_the_image_bakes_in_what_its_argument_names(demo_folder: Path, tmp_path: Path) -> None:
    """The Dockerfile's own script, with the folders of a test."""
    (script,) = (item.value[0] for item in stages()["checkpoints"] if item.cmd == "RUN")
    script = script.replace("/models", str(tmp_path / "models"))
    script = script.replace("chown -R 10001:10001", "ls").replace("python ", f"{sys.executable} ")
    for names, code in ((f"demo {demo_folder}", 0), ("", 0), ("demo nobody/nothing", 2)):
        done = subprocess.run(
            ["sh", "-c", script],
            env={**os.environ, "CHECKPOINTS": names, "VARIANT": "", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert done.stdout.count(str(demo_folder)) == (2 if str(demo_folder) in names else 0)
