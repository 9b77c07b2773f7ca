"""How often the demo model draws what it is told, and how fast: the figures of its model card.

    python -m tests.benchmarks.bench_demo [PART ...] [--model FOLDER]

Parts: samplers, held-out, guidance, formats, image-to-image, inpainting, negatives, seeds, speed.
All but the speed are read from the pictures by tests/adherence.py, which shares no code with the
model. The stock diffusers pipelines render them, seeded by their place in the list.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from tests.adherence import Reading, read
from worker.demo import scenes
from worker.locating import DEMO_FOLDER

STEPS = 20
GUIDANCE = 4.0
BATCH = 16

SCHEDULERS = {
    "DDIM": "DDIMScheduler",
    "Euler": "EulerDiscreteScheduler",
    "Euler ancestral": "EulerAncestralDiscreteScheduler",
    "Heun": "HeunDiscreteScheduler",
    "LMS": "LMSDiscreteScheduler",
    "PNDM": "PNDMScheduler",
    "UniPC": "UniPCMultistepScheduler",
    "DPM++ multistep": "DPMSolverMultistepScheduler",
    "DPM++ singlestep": "DPMSolverSinglestepScheduler",
    "DEIS": "DEISMultistepScheduler",
    "KDPM2": "KDPM2DiscreteScheduler",
    "KDPM2 ancestral": "KDPM2AncestralDiscreteScheduler",
}
"""Names in the model card's table, and diffusers' classes."""

Content = tuple[str, str, str]
"""Shape, colour, background."""


class Studio:
    """The checkpoint in diffusers' hands alone."""

    def __init__(self, folder: Path, sheets: Path | None) -> None:
        import diffusers

        self.pipeline: Any = diffusers.DiffusionPipeline.from_pretrained(
            folder, dtype=torch.float32
        )
        self.pipeline.set_progress_bar_config(disable=True)
        self.sheets = sheets
        self.own_config = self.pipeline.scheduler.config
        self.use("DDIM")

    def use(self, scheduler: str, **config: Any) -> None:
        """Sample with this one from here on, with its configuration so changed."""
        import diffusers

        cls = getattr(diffusers, SCHEDULERS[scheduler])
        self.pipeline.scheduler = cls.from_config(self.own_config, **config)

    def sibling(self, name: str, *, copied: bool = False) -> Any:
        """Another pipeline of the same parts, or of copies of them."""
        import diffusers

        parts = self.pipeline.components
        pipeline = getattr(diffusers, name)(**(copy.deepcopy(parts) if copied else parts))
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def draw(
        self,
        prompts: Sequence[str],
        *,
        seeds: Sequence[int] | None = None,
        negative: str | None = None,
        pipeline: Any = None,
        more: Callable[[slice], dict[str, Any]] = lambda rows: {},
        **fixed: Any,
    ) -> list[Image.Image]:
        """One picture for each prompt; ``more`` gives the arguments that differ by row."""
        seeds = range(len(prompts)) if seeds is None else seeds
        pictures: list[Image.Image] = []
        for start in range(0, len(prompts), BATCH):
            rows = slice(start, start + BATCH)
            if negative is not None:
                fixed["negative_prompt"] = [negative] * len(prompts[rows])
            pictures += (pipeline or self.pipeline)(
                list(prompts[rows]),
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[rows]],
                **{"guidance_scale": GUIDANCE, "num_inference_steps": STEPS} | fixed | more(rows),
            ).images
        return pictures

    def report(self, name: str, asked: Sequence[Content], pictures: list[Image.Image]) -> None:
        """A line of a table: how many pictures are right, and in what."""
        readings = [read(picture) for picture in pictures]
        rights = [
            statistics.mean(
                reading.content[part] == wanted[part]
                for reading, wanted in zip(readings, asked, strict=True)
            )
            for part in range(3)
        ]
        cells = [name, f"{count(asked, readings)}/{len(asked)}"]
        print("| " + " | ".join(cells + [f"{right:.3f}" for right in rights]) + " |", flush=True)
        self.keep(name, pictures)

    def keep(self, name: str, pictures: list[Image.Image]) -> None:
        """Save the pictures as one sheet, to be looked at."""
        if self.sheets is not None:
            self.sheets.mkdir(parents=True, exist_ok=True)
            sheet(pictures).save(self.sheets / f"{name.replace(', ', '-').replace(' ', '-')}.png")


def samplers(studio: Studio) -> None:
    """Every scheduler over the 280 prompts; those of fourth order in 50 steps as well."""
    table("scheduler, steps")
    asked = scenes.exam()
    for name, steps in [*((name, STEPS) for name in SCHEDULERS), ("LMS", 50), ("PNDM", 50)]:
        studio.use(name)
        pictures = studio.draw(list(map(prompt_for, asked)), num_inference_steps=steps)
        studio.report(f"{name}, {steps}", asked, pictures)
    studio.use("LMS", use_karras_sigmas=True)
    pictures = studio.draw(list(map(prompt_for, asked)))
    studio.report(f"LMS with Karras sigmas, {STEPS}", asked, pictures)
    studio.use("DDIM")


def held_out(studio: Studio) -> None:
    """The combinations that training never showed."""
    table("combinations")
    held = [scene for scene in scenes.COMBINATIONS if scenes.held_out(*scene)]
    studio.report("never shown", held, studio.draw(list(map(prompt_for, held))))


def guidance(studio: Studio) -> None:
    """Scales from none to much."""
    table("guidance")
    asked = scenes.exam()
    for scale in (1.0, 2.0, 4.0, 7.5, 12.0):
        pictures = studio.draw(list(map(prompt_for, asked)), guidance_scale=scale)
        studio.report(f"{scale:g}", asked, pictures)


def formats(studio: Studio) -> None:
    """Half precision on this CPU, and how far its pictures are from float32's."""
    table("number format")
    asked = scenes.exam()
    prompts = list(map(prompt_for, asked))
    exact = studio.draw(prompts)
    for name, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        studio.pipeline.to(dtype)
        started = time.perf_counter()
        pictures = studio.draw(prompts)
        seconds = (time.perf_counter() - started) / len(prompts)
        studio.report(name, asked, pictures)
        levels = [
            np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean()
            for one, other in zip(exact, pictures, strict=True)
        ]
        print(
            f"{name}: median distance from float32 {statistics.median(levels):.2f} of 255 levels, "
            f"{1000 * seconds:.0f} ms an image"
        )
    studio.pipeline.to(torch.float32)


def image_to_image(studio: Studio) -> None:
    """Another colour for a shape that is there: does it change, and stay where it was?"""
    table("strength")
    asked = scenes.exam()[::4]
    start = studio.draw(list(map(prompt_for, asked)))
    colours = list(scenes.COLOURS)
    repainted = []
    for shape, colour, ground in asked:
        others = [other for other in colours if other not in (colour, ground)]
        repainted.append((shape, others[colours.index(colour) % len(others)], ground))
    pipeline = studio.sibling("StableDiffusionImg2ImgPipeline")
    for strength in (0.4, 0.6, 0.8, 1.0):
        pictures = studio.draw(
            list(map(prompt_for, repainted)),
            pipeline=pipeline,
            more=lambda rows: {"image": start[rows]},
            strength=strength,
        )
        studio.report(f"{strength:g}", repainted, pictures)
        print(f"strength {strength:g}: {moved(start, pictures)}")


def inpainting(studio: Studio) -> None:
    """Another shape under a mask: is it the right one, and is the rest left alone?"""
    table("inpainting")
    asked = scenes.exam()[::4]
    start = studio.draw(list(map(prompt_for, asked)))
    shapes = list(scenes.SHAPES)
    wanted = [
        (shapes[(shapes.index(shape) + 3) % len(shapes)], colour, ground)
        for shape, colour, ground in asked
    ]
    mask = Image.new("L", (scenes.SIZE, scenes.SIZE))
    ImageDraw.Draw(mask).rectangle((4, 4, 59, 59), fill=255)
    pictures = studio.draw(
        list(map(prompt_for, wanted)),
        pipeline=studio.sibling("StableDiffusionInpaintPipeline"),
        more=lambda rows: {"image": start[rows], "mask_image": [mask] * len(start[rows])},
        strength=1.0,
    )
    studio.report("under the mask", wanted, pictures)
    outside = np.asarray(mask) == 0
    change = [
        np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float))[outside].mean()
        for one, other in zip(start, pictures, strict=True)
    ]
    print(f"outside the mask: median change {statistics.median(change):.2f} of 255 levels")


def negatives(studio: Studio) -> None:
    """Colours of 64 hearts on black at guidance 3, with and without one as a negative."""
    prompts = ["a heart on a black background"] * 64
    free = [read(picture).colour for picture in studio.draw(prompts, guidance_scale=3)]
    print("| negative prompt | red | orange | yellow | green | blue | purple | white |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    colours = [colour for colour in scenes.COLOURS if colour != "black"]
    print("| none | " + " | ".join(str(free.count(colour)) for colour in colours) + " |")
    for named in colours:
        pictures = studio.draw(prompts, guidance_scale=3, negative=named)
        seen = [read(picture).colour for picture in pictures]
        counts = " | ".join(str(seen.count(colour)) for colour in colours)
        print(f"| {named} | {counts} |", flush=True)


def seeds(studio: Studio) -> None:
    """Does a seed decide where a shape is, whatever the prompt says?"""
    wordings = [
        f"a {colour} {shape} on a {ground} background"
        for shape in ("circle", "square", "cross", "heart")
        for colour, ground in (("red", "white"), ("blue", "yellow"))
    ]
    chosen = range(24)
    prompts = [wording for wording in wordings for _ in chosen]
    readings = [read(one) for one in studio.draw(prompts, seeds=[*chosen] * len(wordings))]
    places = np.array([(one.x, one.y) for one in readings]).reshape(len(wordings), len(chosen), 2)
    areas = np.array([one.area for one in readings]).reshape(len(wordings), len(chosen))
    print(
        f"over seeds: centres spread {places.std(1).mean():.1f} px, "
        f"areas {np.median(areas.max(1) / areas.min(1)):.1f} times from smallest to largest"
    )
    alike = [
        np.corrcoef(places[one, :, axis], places[other, :, axis])[0, 1]
        for one, other in combinations(range(len(wordings)), 2)
        for axis in (0, 1)
    ]
    print(f"one seed, two prompts: centres correlate by {statistics.median(alike):.2f} (median)")


def speed(studio: Studio) -> None:
    """Milliseconds an image at batch 8: formats and one thread or two, in turn; medians of five."""
    threads = torch.get_num_threads()
    half = studio.sibling("StableDiffusionPipeline", copied=True).to(torch.bfloat16)
    ways = {"float32": studio.pipeline, "bfloat16": half}
    took: dict[tuple[str, int], list[float]] = {(way, n): [] for way in ways for n in (1, 2)}
    for _ in range(6):
        for (way, count_), values in took.items():
            torch.set_num_threads(count_)
            started = time.perf_counter()
            ways[way](
                ["a red circle on a blue background"] * 8,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=[torch.Generator().manual_seed(seed) for seed in range(8)],
            )
            values.append((time.perf_counter() - started) / 8)
    torch.set_num_threads(threads)
    for (way, count_), values in took.items():
        print(f"{way}, {count_} threads: {1000 * statistics.median(values[1:]):.0f} ms an image")


PARTS: dict[str, Callable[[Studio], None]] = {
    "samplers": samplers,
    "held-out": held_out,
    "guidance": guidance,
    "formats": formats,
    "image-to-image": image_to_image,
    "inpainting": inpainting,
    "negatives": negatives,
    "seeds": seeds,
    "speed": speed,
}


def main() -> None:
    """Run the parts that were named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--model", type=Path, default=DEMO_FOLDER)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sheets", type=Path, help="folder for the pictures, as contact sheets")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"{min(unknown)!r} is no part: it can be {', '.join(PARTS)}")
    torch.set_num_threads(options.threads)
    studio = Studio(options.model, options.sheets)
    for name in options.parts or PARTS:
        print(f"\n{name}: {str(PARTS[name].__doc__).splitlines()[0]}", flush=True)
        PARTS[name](studio)


def prompt_for(content: Content) -> str:
    """The plain sentence that asks for a shape, its colour and its background."""
    shape, colour, ground = content
    articles = ["an" if word == "orange" else "a" for word in (colour, ground)]
    return f"{articles[0]} {colour} {shape} on {articles[1]} {ground} background"


def count(asked: Sequence[Content], readings: Sequence[Reading]) -> int:
    """How many pictures are right in everything."""
    return sum(reading.content == wanted for wanted, reading in zip(asked, readings, strict=True))


def moved(before: list[Image.Image], after: list[Image.Image]) -> str:
    """How far the shapes' centres went."""
    pairs = [(read(one), read(other)) for one, other in zip(before, after, strict=True)]
    far = [((a.x - b.x) ** 2 + (a.y - b.y) ** 2) ** 0.5 for a, b in pairs]
    return f"the shape's centre moved {statistics.median(far):.1f} px (median)"


def table(first: str) -> None:
    """The head of a table whose lines `Studio.report` prints."""
    print(f"| {first} | all right | shape | colour | background |")
    print("| --- | --- | --- | --- | --- |")


def sheet(pictures: Sequence[Image.Image], columns: int = 20) -> Image.Image:
    """Pictures side by side."""
    size = pictures[0].width + 2
    rows = -(-len(pictures) // columns)
    drawn = Image.new("RGB", (columns * size, rows * size))
    for place, picture in enumerate(pictures):
        drawn.paste(picture, (place % columns * size, place // columns * size))
    return drawn


if __name__ == "__main__":
    main()
