"""Every sweep under examples/ runs as it stands, and makes as many images as it says."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

from producer import Client, Sweep, load_sweep
from producer.cli.sweep_options import make_sweep
from producer.grid import DrawnGrid
from producer.like import refine
from producer.show import read_origin
from producer.submission import models_of
from producer.sweep_file import read_values
from producer.sweep_text import starting_values, sweep_text
from shared.worker_options import WorkerOptions
from tests.pool import Pool, running_pool
from tests.random_model import random_pipeline
from worker.process import WorkerProcess

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.slow,
    # diffusers' schedulers hand tensors to numpy in a way that numpy 2 will drop
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml") if path.stem != "demo")
"""All but the demo, which has a test of its own."""
REFINE = "refine"
"""The one that needs an image to start from."""
MOST_IMAGES = 60
ROWS_AND_COLUMNS = {
    "checkpoints": ({"prompt"}, {"model", "seed"}),
    "guidance-steps": ({"guidance_scale"}, {"num_inference_steps"}),
    "schedulers": ({"scheduler", "num_inference_steps"}, {"seed"}),
}
"""Of the examples that compare along two axes: what the sheet has along its side and top."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A pool, a copy of the examples with two checkpoints beside them, and who renders them."""

    folder: Path
    client: Client
    worker: WorkerProcess

    def run(self, sweep: Sweep) -> DrawnGrid:
        """Render a sweep, fetch it into a folder of its name, and draw its sheet."""
        self.client.submit(sweep)
        for model in models_of(sweep.layout):
            self.worker.serve(model)
        status = self.client.status(sweep.id)
        assert self.client.failures(sweep.id) == []
        assert (status.state, status.done, status.dead) == ("done", sweep.layout.total, 0)
        folder = self.folder / sweep.manifest.name
        fetched = self.client.fetch(sweep.id, folder)
        assert (fetched.written + fetched.skipped, fetched.problems) == (sweep.layout.total, ())
        return self.client.grid(sweep.id, folder / "contact-sheet.png")

    def images(self, name: str) -> list[Path]:
        """What was fetched, by index."""
        return sorted((self.folder / name).glob("[0-9]*.png"))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    examples = folder / "examples"
    shutil.copytree(EXAMPLES, examples)
    checkpoints = [examples / "checkpoints" / name for name in ("before", "after")]
    with running_pool(folder) as pool:
        _make_checkpoints(pool, *checkpoints)
        models = ("demo", *map(str, checkpoints))
        options = WorkerOptions(models=models, batch_size=8, device="cpu")
        worker = WorkerProcess(pool.settings, options)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # quicker for a tiny model on a busy machine
        with pool.client as client:
            yield Bench(folder=folder, client=client, worker=worker)
        torch.set_num_threads(threads)
        worker.close()


def _make_checkpoints(pool: Pool, before: Path, after: Path) -> None:
    """One model twice, the second as if it had been trained a little further."""
    shutil.copytree(pool.model, before)
    pipeline = random_pipeline()
    with torch.no_grad():
        for weight in pipeline.unet.parameters():
            weight.mul_(1.05)
    pipeline.save_pretrained(after)


def said_count(path: Path) -> int:
    """The number of images that an example's comment promises."""
    (count,) = re.findall(r"= ([\d,]+) images", path.read_text(encoding="utf-8"))
    return int(count.replace(",", ""))


@pytest.mark.parametrize("name", [name for name in NAMES if name != REFINE])
def test_an_example_makes_what_it_says(bench: Bench, name: str) -> None:
    path = bench.folder / "examples" / f"{name}.yaml"
    sweep = load_sweep(path)
    assert sweep.notes == ()
    assert sweep.layout.total == said_count(path) <= MOST_IMAGES

    drawn = bench.run(sweep)

    assert sum(page.images for page in drawn.pages) == sweep.layout.total
    assert all("--font" in note for note in drawn.notes), "some machines lack Chinese letters"
    for page in drawn.pages:
        with Image.open(page.path) as sheet:
            assert math.prod(sheet.size) >= page.places * 64 * 64
    if name in ROWS_AND_COLUMNS:
        assert (set(drawn.rows), set(drawn.columns)) == ROWS_AND_COLUMNS[name]
    images = bench.images(sweep.manifest.name)
    assert len({image.read_bytes() for image in images}) == sweep.layout.total


def test_a_table_arrives_byte_for_byte(bench: Bench) -> None:
    bench.run(load_sweep(bench.folder / "examples" / "table.yaml"))
    jobs = [read_origin(path).job for path in bench.images("table")]
    assert [job["prompt"] for job in jobs[::2]] == [
        "a circle, white background",
        "a blue ring on a white background",
        'a green cross, "realistic"',
        "a star on a black background",
        "a small heart,\nred background",
        "白い星 ★",
    ]
    assert [job["negative_prompt"] for job in jobs[::2]] == [
        "red, purple", None, None, "yellow", None, None
    ]  # fmt: skip
    assert [job["seed"] for job in jobs[:4]] == [0, 1, 0, 1]


def test_refining_keeps_all_of_an_image_but_what_is_said(bench: Bench) -> None:
    # given: an image that somebody liked
    bench.run(load_sweep(bench.folder / "examples" / "many-seeds.yaml"))
    liked = bench.images("many-seeds")[7]
    origin = read_origin(liked)

    # when: the example is run with it
    path = bench.folder / "examples" / f"{REFINE}.yaml"
    values = refine(starting_values(origin, name="it"), read_values(path))
    sweep = make_sweep(values)
    drawn = bench.run(sweep)

    # then
    assert sweep.layout.total == said_count(path)
    assert sum(page.images for page in drawn.pages) == sweep.layout.total
    for image in bench.images("refined"):
        job = dict(read_origin(image).job)
        changed = {"prompt", "guidance_scale"}
        assert {name: job[name] for name in job if name not in changed} == {
            name: origin.job[name] for name in job if name not in changed
        }

    # and: the sweep file of an image makes that image, bit for bit, and finds it stored
    file = bench.folder / "again.yaml"
    file.write_text(sweep_text(origin, name=liked.name), encoding="utf-8")
    again = load_sweep(file, {"name": "again"})
    bench.run(again)
    assert bench.client.status(again.id).reused == 1
    (image,) = bench.images("again")
    assert image.read_bytes() == liked.read_bytes()


def test_two_checkpoints_have_two_fingerprints(bench: Bench) -> None:
    bench.run(load_sweep(bench.folder / "examples" / "checkpoints.yaml"))
    weights = {str(read_origin(path).pin["weights"]) for path in bench.images("checkpoints")}
    assert len(weights) == 2
    bench.client.queue.announce("w", bench.worker.describe(), ttl_seconds=60)
    served = {item.model: item.weights for item in bench.client.models()}
    folder = bench.folder / "examples" / "checkpoints"
    assert {served[str(folder / name)] for name in ("before", "after")} == weights
