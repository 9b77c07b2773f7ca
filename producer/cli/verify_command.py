"""``verify``: images of a sweep rendered again, each alone, and compared with what is stored."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from producer.cli.help import SectionCommand, examples
from producer.cli.numbers import Whole
from producer.cli.output import json_option, one_line, plain, print_json, print_table, say
from producer.cli.progress import counting
from producer.cli.settings_options import pool_client
from producer.cli.sweep_argument import sweep_argument
from producer.cli.worker_command import need_worker_packages, worker_environ
from producer.client import Client
from shared.fields import DEMO_MODEL
from shared.verifying import MAX_LEVELS
from shared.worker_options import WorkerOptions

if TYPE_CHECKING:
    from producer.verify import Verified
    from shared.verifying import Compared

SAMPLE = 4
"""Images rendered unless told otherwise."""


@click.command(
    cls=SectionCommand,
    epilog=examples(
        "seedbed verify shapes-study", "seedbed verify shapes-study --sample 16 --seed 7 --json"
    ),
)
@sweep_argument
@click.option(
    "--sample",
    type=Whole(1),
    default=SAMPLE,
    show_default=True,
    metavar="N",
    help="images to render again",
)
@click.option(
    "--seed",
    type=Whole(0),
    default=0,
    show_default=True,
    help="of the sample: the same seed, the same images",
)
@click.option(
    "--max-levels",
    type=Whole(0, 255),
    metavar="N",
    help=f"how far an image may be off, of 255  [default: {MAX_LEVELS}; 0 in a reproducible sweep]",
)
@click.option("--device", help="cuda, mps or cpu; the best there is if not given")
@click.option("--dtype", help="float16, bfloat16 or float32; the images' own if not given")
@pool_client
@json_option
def verify(
    sweep: str,
    sample: int,
    seed: int,
    max_levels: int | None,
    device: str | None,
    dtype: str | None,
    client: Client,
    as_json: bool,
) -> int:
    """Render some of a sweep's images again, each alone, and compare them with what is stored.

    Uses this machine, with the worker's packages and the sweep's own weights; the pool is only
    asked which images there are. Tells the largest difference of a colour of a pixel, of 255, and
    the peak signal to noise ratio. Exits 1 where an image is further off than --max-levels, or
    can't be compared.
    """
    need_worker_packages("verify")
    options = WorkerOptions(models=(DEMO_MODEL,), device=device, dtype=dtype)
    environ = {"SEEDBED_LOG_LEVEL": "WARNING"} | worker_environ(client.settings, options)
    with counting("rendering", quiet=as_json) as move:
        found = client.verify(
            sweep, sample=sample, seed=seed, max_levels=max_levels, environ=environ, progress=move
        )
    if as_json:
        print_json(_values(found))
    else:
        _tell(found)
    return 0 if found.passed else 1


def _tell(found: Verified) -> None:
    if not found.images:
        say(f"{found.sweep_id}: no image is done yet")
        return
    compared = [image for image in found.images if image.fault is None]
    if compared:
        print_table(
            ("INDEX", "LEVELS", "PSNR", "PIXELS OFF", "KEY"),
            [
                (
                    str(image.index),
                    str(image.levels),
                    _decibels(_psnr(image)),
                    f"{image.differing:.2%}",
                    one_line(image.key),
                )
                for image in compared
            ],
        )
    for image in found.images:
        if image.fault is not None:
            say(one_line(f"image {image.index} {image.fault} ({image.key})"))
    apart = (
        f"at most {found.levels} of 255 levels apart, PSNR {_decibels(found.psnr)}, "
        f"{found.identical:,} equal to the bit"
        if found.levels
        else f"{found.identical:,} equal to the bit"
    )
    click.echo(f"{len(found.images):,} of {found.done:,} images: {apart}")
    failed = sum(map(found.failed, found.images))
    if failed:
        say(f"{failed:,} {'is' if failed == 1 else 'are'} off by more than {found.max_levels}")


def _psnr(image: Compared) -> float:
    from producer.verify import psnr

    return psnr(image.square_error)


def _decibels(value: float) -> str:
    return "equal" if math.isinf(value) else f"{value:.1f} dB"


def _values(found: Verified) -> dict[str, object]:
    """JSON has no infinity: the PSNR of equal pictures is null."""

    def finite(value: float) -> float | None:
        return None if math.isinf(value) else round(value, 2)

    return {
        "sweep_id": found.sweep_id,
        "done": found.done,
        "passed": found.passed,
        "levels": found.levels,
        "psnr": finite(found.psnr),
        "identical": found.identical,
        "max_levels": found.max_levels,
        "images": [
            {
                **plain(image),
                "psnr": finite(_psnr(image)) if image.fault is None else None,
                "passed": not found.failed(image),
            }
            for image in found.images
        ],
    }
