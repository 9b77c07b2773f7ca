"""``capacity``: what the pool's devices can take, as they measured it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from producer.cli.help import SectionCommand, examples
from producer.cli.output import json_option, one_line, plain, print_json, print_table, say
from producer.cli.png_path import PngPath
from producer.cli.settings_options import pool_client
from producer.client import Client
from producer.model_folder import absolute_model

if TYPE_CHECKING:
    from shared.capacity import Capacity


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed capacity", "seedbed capacity --model demo --png capacity.png"),
)
@click.option("--model", help="only of this one, as a worker names it")
@click.option("--png", type=PngPath(), metavar="FILE", help="draw the curves as well")
@pool_client
@json_option
def capacity(model: str | None, png: Path | None, client: Client, as_json: bool) -> None:
    """Show how large a batch each device of the pool can take, and is quick with.

    Workers measure it when they first meet a model at a size, and reuse what another with the
    same GPU, weights, dtype, attention and software has measured. For each: how fast the
    denoising model and the VAE are by rows in the batch. The knee is the fewest rows that are
    nearly as quick as any; the cap is the most that were seen to fit. A guided image takes two
    rows of the denoising model.
    """
    model = None if model is None else absolute_model(model)
    found = [item for item in client.capacities() if model in (None, item.model)]
    drawn = 0
    if png is not None and found:
        from producer.capacity_chart import draw_chart

        drawn = draw_chart(found, png)
    if as_json:
        print_json([_values(item) for item in found])
    else:
        _tell(found)
    if not found:
        of_model = "" if model is None else f" of {model}"
        say(
            one_line(
                f"nothing{of_model} has been measured in this pool yet: a worker does it when it "
                "first serves a model, unless it is told its --batch-size"
            )
        )
    elif png is not None:
        say(f"{png}: {drawn} of {len(found)} measurements drawn")


def _tell(found: list[Capacity]) -> None:
    from producer.capacity_bars import plot_lines, plots

    if not found:
        return
    print_table(
        ("MODEL", "DEVICE", "DTYPE", "SIZE", "BATCH", "UNGUIDED", "ROWS FIT", "IMAGES FIT"),
        [
            (
                one_line(item.model),
                one_line(item.key.device),
                one_line(item.key.dtype),
                f"{item.key.width} x {item.key.height}",
                f"{item.batch_size(2):,}",
                f"{item.batch_size(1):,}",
                f"{item.denoise.cap:,}",
                "-" if item.decode is None else f"{item.decode.cap:,}",
            )
            for item in found
        ],
    )
    for item in found:
        click.echo(f"\n{one_line(_title(item))}")
        for line in _facts(item):
            click.echo(f"  {one_line(line)}")
        for title, curve, rows in plots(item):
            click.echo(f"  {title}:")
            for line in plot_lines(curve, rows):
                click.echo(f"  {line}")


def _values(item: Capacity) -> dict[str, object]:
    sizes = {"batch_size": item.batch_size(2), "batch_size_unguided": item.batch_size(1)}
    return {**plain(item), **sizes}


def _title(item: Capacity) -> str:
    key = item.key
    return f"{item.model}, {key.width} x {key.height}, {key.dtype}, on {key.device}"


def _facts(item: Capacity) -> list[str]:
    key = item.key
    software = ", ".join(f"{name} {version}" for name, version in sorted(key.software.items()))
    when = datetime.fromtimestamp(item.at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    memory = "" if item.memory_bytes is None else f"; {item.memory_bytes / 1e9:,.1f} GB to use"
    return [
        f"weights {key.weights}; attention {key.attention}{memory}",
        f"measured by {item.worker}, {when}; {software}",
    ]
