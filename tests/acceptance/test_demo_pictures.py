"""The demo model draws what it is told: a sweep through the real queue, and its pictures read.

The checker (tests/adherence.py) shares no code with the model, its renderer or its captions.
"""

from __future__ import annotations

import io
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from producer import Sweep
from shared.addressing import address
from shared.job import Job
from shared.pin import Pin
from tests.adherence import PALETTE, Reading, read
from tests.pool import Pool, running_pool

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart")
SEEDS = range(100, 112)


@dataclass(frozen=True)
class Seen:
    """One picture of a sweep: what was asked for, and what it shows."""

    job: Job
    reading: Reading


@dataclass
class Studio:
    """A pool with one worker of the demo model."""

    pool: Pool
    receipts: list[dict[str, Any]] = field(default_factory=list)
    """Of the last sweep."""

    def render(self, **fields: object) -> list[Seen]:
        """Render a sweep through the queue and read every picture out of the bucket."""
        pool = self.pool
        values = {"num_inference_steps": 20, "guidance_scale": 4}
        sweep = pool.sweep(**(values | {"seed": SEEDS} | fields))
        pool.client.submit(sweep)
        pool.wait_ended(sweep)
        self.receipts = pool.receipts(sweep)
        return list(self._seen(sweep))

    def _seen(self, sweep: Sweep) -> Iterator[Seen]:
        storage = self.pool.storage
        (pin,) = storage.list(f"sweeps/{sweep.id}/pins/")
        pinned = Pin.from_text(storage.get(pin.key).decode())
        for index in range(sweep.layout.total):
            job = sweep.layout.job(index)
            place = address(job, pinned, sweep.manifest.output)
            with Image.open(io.BytesIO(storage.get(place.key))) as picture:
                yield Seen(job, read(picture))


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder: Path = tmp_path_factory.mktemp("studio")
    with running_pool(folder, model="demo") as pool:
        pool.start_workers(1, batch_size=8, lease_seconds=30.0)
        yield Studio(pool)


def share(seen: list[Seen], wanted: dict[str, tuple[str, str, str]]) -> float:
    """How many pictures show all that their prompts ask for."""
    return statistics.mean(one.reading.content == wanted[one.job.prompt] for one in seen)


def prompts() -> dict[str, tuple[str, str, str]]:
    """Each shape twice, in every colour at least once, on backgrounds of other colours."""
    colours = list(PALETTE)
    asked = {}
    for number, shape in enumerate(SHAPES * 2):
        colour = colours[number % len(colours)]
        ground = colours[(number + 1 + number // 2) % len(colours)]
        if ground == colour:
            ground = colours[(number + 2) % len(colours)]
        article = "an" if colour == "orange" else "a"
        other = "an" if ground == "orange" else "a"
        prompt = f"{article} {colour} {shape} on {other} {ground} background"
        asked[prompt] = (shape, colour, ground)
    return asked


def test_a_sweep_gets_the_pictures_its_prompts_ask_for(studio: Studio) -> None:
    asked = prompts()

    seen = studio.render(name="prompts", prompt=list(asked), seed=range(100, 106))

    assert len(seen) == 6 * len(asked) == 84
    wrong = [(one.job.prompt, one.job.seed, one.reading) for one in seen]
    wrong = [line for line in wrong if line[2].content != asked[line[0]]]
    assert share(seen, asked) >= 0.95, wrong


def test_guidance_raises_adherence_until_there_is_too_much(studio: Studio) -> None:
    asked = prompts()

    # those of scale 4 are the first sweep's, where it was rendered
    seen = studio.render(
        name="guidance", prompt=list(asked), seed=range(100, 103), guidance_scale=[1, 4, 7.5]
    )
    by_scale = {
        scale: share([one for one in seen if one.job.guidance_scale == scale], asked)
        for scale in (1, 4, 7.5)
    }

    assert by_scale[1] < by_scale[4], by_scale
    assert by_scale[7.5] > 0.85, by_scale


def test_other_seeds_move_and_resize_the_shape(studio: Studio) -> None:
    seen = studio.render(
        name="seeds", prompt="a red circle on a white background", seed=range(200, 224)
    )
    readings = [one.reading for one in seen]

    assert statistics.stdev(reading.x for reading in readings) > 1.5
    assert statistics.stdev(reading.y for reading in readings) > 1.5
    areas = sorted(reading.area for reading in readings)
    assert areas[-1] > 1.4 * areas[0]


def test_small_and_large_are_what_they_say(studio: Studio) -> None:
    seen = studio.render(
        name="sizes",
        prompt=[
            f"a {size} {colour} {shape} on a white background"
            for size in ("small", "large")
            for colour, shape in (("red", "circle"), ("blue", "square"), ("green", "cross"))
        ],
    )
    areas = defaultdict(list)
    for one in seen:
        areas[tuple(one.job.prompt.split()[1:4])].append(one.reading.area)

    for (size, colour, shape), found in areas.items():
        if size == "small":
            large = areas["large", colour, shape]
            assert statistics.median(large) > 1.5 * statistics.median(found), (colour, shape)


def test_a_negative_prompt_steers_away_from_what_it_names(studio: Studio) -> None:
    asked = {"prompt": "a heart on a black background", "guidance_scale": 2}
    free = studio.render(name="free", seed=range(32), **asked)
    colours = Counter(one.reading.colour for one in free)
    common = next(colour for colour, _ in colours.most_common() if colour in PALETTE)

    steered = studio.render(name="steered", negative_prompt=common, seed=range(32), **asked)

    after = Counter(one.reading.colour for one in steered)
    assert colours[common] >= 5
    assert after[common] <= colours[common] // 4, (common, colours, after)
    shapes = Counter(one.reading.shape for one in steered)
    assert shapes["heart"] >= 28, shapes


def test_words_it_does_not_know_draw_some_scene(studio: Studio) -> None:
    seen = studio.render(
        name="unknown",
        prompt=["eine Kathedrale im Nebel, 4k", "猫", "\N{ROCKET} " * 40, ""],
        seed=range(4),
    )

    assert len(seen) == 16
    assert sum(one.reading.background is not None for one in seen) >= 12
    notes = [note for receipt in studio.receipts for note in receipt["notes"]]
    assert len(notes) == 4
    assert all(note.startswith("prompt cut to 77 tokens, without: ") for note in notes)
    (worker,) = studio.pool.workers
    assert worker.text.count("prompt is too long for the model") == 1
    assert "without" in worker.text
