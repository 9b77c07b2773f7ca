"""What a newcomer does: run the demo, run it again, press Ctrl-C, make an image again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
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


def worker_logs(folder: Path) -> set[Path]:
    """One for each worker that has been started there."""
    return set((folder / "seedbed-data" / "logs").glob("worker*"))


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

    # when: it is run again, there is nothing to do, and no worker is needed for it
    logs = worker_logs(tmp_path)
    second = seedbed(tmp_path, "run", str(DEMO))
    assert second.returncode == 0, second.stderr
    assert "all of 48 images done already" in second.stderr
    assert worker_logs(tmp_path) == logs
    assert processes_of(tmp_path) == []


SWEEP = (
    *("run", "-p", "a cat", "--seed", "0..23", "--num-inference-steps", "12"),
    *("--guidance-scale", "3", "--scheduler", "EulerAncestralDiscreteScheduler"),
    *("--out", "out", "--batch-size", "4"),
)
IMAGES = 24
MOMENTS = ("at once", "while it loads", "while it renders")


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """A run that was ended by Ctrl-C: what it said, and what it left."""

    code: int
    output: str
    stored: dict[str, int]
    """When each image was made, in nanoseconds, by its name in storage."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """One sweep, run again and again in one folder: interrupted at each moment, then to its end."""

    folder: Path
    interrupted: dict[str, Interrupted]
    last: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    interrupted = {moment: interrupt(folder, moment) for moment in MOMENTS}
    return Story(folder=folder, interrupted=interrupted, last=seedbed(folder, *SWEEP))


def interrupt(folder: Path, moment: str) -> Interrupted:
    """Run the sweep and press Ctrl-C at that moment."""
    logs = worker_logs(folder)
    running = start(folder, *SWEEP)
    try:
        if moment == "at once":
            eventually((folder / "seedbed-data").exists, seconds=60, what="it has begun")
        if moment == "while it loads":
            eventually(
                lambda: worker_logs(folder) - logs, seconds=60, what="the worker has started"
            )
        if moment == "while it renders":
            eventually(lambda: stored(folder), seconds=120, what="an image is stored")
        os.killpg(running.pid, signal.SIGINT)
        output, _ = running.communicate(timeout=60)
    finally:
        running.kill()
    eventually(lambda: not processes_of(folder), seconds=30, what="nothing runs any more")
    return Interrupted(code=running.returncode, output=output, stored=stored(folder))


def stored(folder: Path) -> dict[str, int]:
    """The images in storage."""
    images = folder / "seedbed-data" / "objects" / "seedbed" / "images"
    return {path.name: path.stat().st_mtime_ns for path in images.glob("*/*.png")}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_ends_a_run_in_order_and_leaves_no_process(story: Story, moment: str) -> None:
    found = story.interrupted[moment]

    assert found.code == 130, found.output
    assert "Traceback" not in found.output
    assert moment == "at once" or "run it again and it goes on" in found.output


def test_the_next_run_goes_on_and_makes_no_stored_image_again(story: Story) -> None:
    before = story.interrupted["while it renders"].stored
    assert 0 < len(before) < IMAGES

    assert story.last.returncode == 0, story.last.stderr
    assert len(list((story.folder / "out").glob("0*.png"))) == IMAGES
    assert before.items() <= stored(story.folder).items(), "a stored image was made again"


def test_the_command_that_show_prints_makes_the_same_pixels(story: Story) -> None:
    folder = story.folder
    image = sorted((folder / "out").glob("0*.png"))[5]

    command = read_origin(image).command
    shown = seedbed(folder, "show", str(image))
    assert command in shown.stdout
    again = subprocess.run(
        command.replace("seedbed", f"{' '.join(SEEDBED)}", 1) + " --out second --data other-data",
        shell=True,
        cwd=folder,
        env=environ(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert again.returncode == 0, again.stderr
    (twin,) = (folder / "second").glob("0*.png")
    with Image.open(image) as one, Image.open(twin) as two:
        assert one.tobytes() == two.tobytes()
