"""What a newcomer does: run the demo, run it again, press Ctrl-C, make an image again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from producer.show import read_origin
from tests.pool import eventually

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

DEMO = Path(__file__).parents[2] / "examples" / "demo.yaml"
SEEDBED = (sys.executable, "-P", "-m", "producer.cli.main")


def seedbed(
    folder: Path, *arguments: str, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in ``folder``."""
    return subprocess.run(
        [*SEEDBED, *arguments],
        cwd=folder,
        env=environ(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, as a shell does."""
    return subprocess.Popen(
        [*SEEDBED, *arguments],
        cwd=folder,
        env=environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def environ() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEEDBED_")}
    return {**kept, "OMP_NUM_THREADS": "1"}


def processes_of(folder: Path) -> list[str]:
    """Command lines of the processes that work in ``folder`` or were given it."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            variables = " ".join(process.environ().values())
            if str(folder) in line + variables or process.cwd().startswith(str(folder)):
                found.append(line)
        except psutil.Error:
            continue
    return found


def test_the_demo_makes_its_images_and_a_sheet_and_leaves_no_process(tmp_path: Path) -> None:
    first = seedbed(tmp_path, "run", str(DEMO))

    assert first.returncode == 0, first.stderr
    images = sorted((tmp_path / "demo").glob("0*.png"))
    assert len(images) == 48
    assert images[5].name == (
        "000005_prompt=a-red-circle-on-a-blue-background_seed=1_guidance_scale=7.5.png"
    )
    with Image.open(images[5]) as image:
        assert image.size == (64, 64)
    assert list((tmp_path / "demo").glob("contact-sheet*.png"))
    assert processes_of(tmp_path) == []

    # when: it is run again
    started = time.monotonic()
    second = seedbed(tmp_path, "run", str(DEMO))
    assert second.returncode == 0, second.stderr
    assert "done already" in second.stderr
    assert time.monotonic() - started < 10
    assert processes_of(tmp_path) == []


def test_the_command_that_show_prints_makes_the_same_pixels(tmp_path: Path) -> None:
    made = seedbed(
        *(tmp_path, "run", "-p", "a red circle", "--seed", "5", "--guidance-scale", "3"),
        *("--num-inference-steps", "4", "--scheduler", "EulerAncestralDiscreteScheduler"),
        *("--out", "first"),
    )
    assert made.returncode == 0, made.stderr
    (image,) = (tmp_path / "first").glob("0*.png")

    command = read_origin(image).command
    shown = seedbed(tmp_path, "show", str(image))
    assert command in shown.stdout
    again = subprocess.run(
        command.replace("seedbed", f"{' '.join(SEEDBED)}", 1) + " --out second --data other-data",
        shell=True,
        cwd=tmp_path,
        env=environ(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert again.returncode == 0, again.stderr
    (twin,) = (tmp_path / "second").glob("0*.png")
    with Image.open(image) as one, Image.open(twin) as two:
        assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("moment", ["at once", "while it loads", "while it renders"])
def test_ctrl_c_leaves_no_process_and_the_next_run_goes_on(tmp_path: Path, moment: str) -> None:
    sweep = ("run", "-p", "a cat", "--seed", "0..39", "--num-inference-steps", "20", "--out", "out")
    sweep += ("--batch-size", "4")
    running = start(tmp_path, *sweep)
    stored = tmp_path / "seedbed-data" / "objects" / "seedbed" / "images"
    if moment == "at once":
        eventually((tmp_path / "seedbed-data").exists, seconds=30, what="it has begun")
    if moment == "while it loads":
        logs = tmp_path / "seedbed-data" / "logs"
        eventually(
            lambda: list(logs.glob("worker*.log")), seconds=60, what="the worker has started"
        )
    if moment == "while it renders":
        eventually(lambda: list(stored.glob("*/*.png")), seconds=90, what="an image is stored")

    os.killpg(running.pid, signal.SIGINT)
    output, _ = running.communicate(timeout=60)

    assert running.returncode == 130, output
    assert "Traceback" not in output
    assert moment == "at once" or "run it again and it goes on" in output
    eventually(lambda: not processes_of(tmp_path), seconds=5, what="nothing runs any more")
    before = {path.name: path.stat().st_mtime_ns for path in stored.glob("*/*.png")}
    if moment == "while it renders":
        assert 0 < len(before) < 40

    # when: it is run again
    again = seedbed(tmp_path, *sweep)
    assert again.returncode == 0, again.stderr
    assert len(list((tmp_path / "out").glob("0*.png"))) == 40
    after = {path.name: path.stat().st_mtime_ns for path in stored.glob("*/*.png")}
    assert before.items() <= after.items(), "a stored image was made again"
