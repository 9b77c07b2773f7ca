"""Measure how often the demo model draws what it is told, scheduler by scheduler.

python -m tests.demo_accuracy --model FOLDER [--schedulers DDIM,Euler] [--guidance 4]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from tests.adherence import Reading, read
from worker.demo import scenes

SCHEDULERS = {
    "DDIM": ("DDIMScheduler", {}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "EulerA": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "LMS": ("LMSDiscreteScheduler", {}),
    "PNDM": ("PNDMScheduler", {}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "DPM++2M": ("DPMSolverMultistepScheduler", {}),
    "DPM++2S": ("DPMSolverSinglestepScheduler", {}),
    "DEIS": ("DEISMultistepScheduler", {}),
    "KDPM2": ("KDPM2DiscreteScheduler", {}),
    "KDPM2A": ("KDPM2AncestralDiscreteScheduler", {}),
}
"""Short names of the schedulers that the model card's table has."""


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--schedulers", default=",".join(SCHEDULERS))
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--held-out", action="store_true", help="every combination held out")
    parser.add_argument("--every", type=int, default=1, help="only each n-th prompt")
    parser.add_argument("--sheet", type=Path, help="save the last scheduler's pictures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    asked = scenes.exam()
    if options.held_out:
        asked = [scene for scene in scenes.COMBINATIONS if scenes.held_out(*scene)]
    asked = asked[:: options.every]
    pipeline = load(options.model)
    print("| scheduler | all | shape | colour | background | stray | ms an image |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.schedulers.split(","):
        started = time.process_time()
        pictures = list(
            drawn(pipeline, name, asked, guidance=options.guidance, steps=options.steps)
        )
        seconds = (time.process_time() - started) / len(asked)
        readings = [read(picture) for picture in pictures]
        print(row(name, asked, readings, seconds), flush=True)
        if options.sheet:
            contact_sheet(pictures).save(options.sheet)
        for wanted, reading in zip(asked, readings, strict=True):
            if reading.content != wanted and len(asked) * 0.9 < count(asked, readings):
                print("   ", wanted, reading)


def load(folder: Path) -> Any:
    """The checkpoint in diffusers' hands alone, in float32."""
    import diffusers
    import torch

    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def prompt_for(scene: tuple[str, str, str]) -> str:
    """The plain sentence that asks for a shape, its colour and its background."""
    shape, colour, background = (
        f"an {word}" if word == "orange" else f"a {word}" if place else word
        for place, word in enumerate(scene)
    )
    return f"{colour} {shape} on {background} background"


def drawn(
    pipeline: Any,
    scheduler: str,
    asked: Sequence[tuple[str, str, str]],
    *,
    guidance: float,
    steps: int,
    batch: int = 16,
) -> Iterator[Image.Image]:
    """One picture for each scene, seeded by its place."""
    import diffusers
    import torch

    name, more = SCHEDULERS[scheduler]
    pipeline.scheduler = getattr(diffusers, name).from_config(pipeline.scheduler.config, **more)
    for start in range(0, len(asked), batch):
        scenes_here = asked[start : start + batch]
        yield from pipeline(
            [prompt_for(scene) for scene in scenes_here],
            guidance_scale=guidance,
            num_inference_steps=steps,
            generator=[
                torch.Generator().manual_seed(start + place) for place in range(len(scenes_here))
            ],
        ).images


def count(asked: Sequence[tuple[str, str, str]], readings: Sequence[Reading]) -> int:
    """How many pictures are right in everything."""
    return sum(reading.content == wanted for wanted, reading in zip(asked, readings, strict=True))


def row(
    name: str,
    asked: Sequence[tuple[str, str, str]],
    readings: Sequence[Reading],
    seconds: float,
) -> str:
    """A line of the table."""
    rights = [
        sum(
            reading.content[k] == wanted[k] for wanted, reading in zip(asked, readings, strict=True)
        )
        / len(asked)
        for k in range(3)
    ]
    cells = [name, f"{count(asked, readings)}/{len(asked)}", *(f"{right:.3f}" for right in rights)]
    stray = sum(reading.stray for reading in readings) / len(readings)
    return "| " + " | ".join([*cells, f"{stray:.4f}", f"{seconds * 1000:.0f}"]) + " |"


def contact_sheet(pictures: Sequence[Image.Image], columns: int = 20) -> Image.Image:
    """Pictures side by side."""
    size = pictures[0].width + 2
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * size, rows * size))
    for place, picture in enumerate(pictures):
        sheet.paste(picture, (place % columns * size, place // columns * size))
    return sheet


if __name__ == "__main__":
    main()
