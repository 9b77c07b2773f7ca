"""``models``: what the pool serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from producer.cli.help import SectionCommand, examples
from producer.cli.output import json_option, one_line, print_json, say
from producer.cli.settings_options import pool_client
from producer.client import Client

if TYPE_CHECKING:
    from producer.served import ServedModel


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed models", "seedbed models --json | jq '.[].schedulers'"),
)
@pool_client
@json_option
def models(client: Client, as_json: bool) -> None:
    """List the models that the pool's workers serve.

    For each: the weights' fingerprint, the checkpoint's own size and scheduler, the schedulers
    that suit it, the fields of a job that can act on it, and who serves it.
    """
    from producer.served import mixed_weights

    found = client.models()
    if as_json:
        print_json(found)
        return
    if not found:
        say("no worker is in the pool: start one with 'seedbed worker --model MODEL'")
    for number, item in enumerate(found):
        click.echo(f"{'' if number == 0 else chr(10)}{one_line(_title(item))}")
        for name, text in _facts(item):
            click.echo(f"  {name:<11}{one_line(text)}")
    for option, count in mixed_weights(found):
        say(
            f"warning: workers have {count} different weights or dtypes of {one_line(option)}: "
            f"a sweep keeps to those of the first worker that claims from it"
        )


def _title(item: ServedModel) -> str:
    parts = [] if item.variant is None else [f"variant {item.variant}"]
    parts += [] if item.vae is None else [f"vae {item.vae}"]
    parts += [f"lora {name}" for name in item.loras]
    return f"{item.option} ({', '.join(parts)})" if parts else item.option


def _facts(item: ServedModel) -> list[tuple[str, str]]:
    """Name and text of each line."""
    sizes = ", ".join(str(size) for size in item.batch_sizes)
    batches = f", batches of {sizes}" if sizes else ""
    workers = ("workers", f"{item.workers:,}, {item.loaded:,} with it loaded{batches}")
    if item.weights is None:
        why = "no worker has loaded it yet" if item.pin is None else "another version serves it"
        return [("weights", f"not known: {why}"), workers]
    others = [name for name in item.schedulers if name != item.scheduler]
    return [
        ("weights", f"{item.weights} ({item.dtype})"),
        ("size", f"{item.width} x {item.height}"),
        ("schedulers", ", ".join([f"{item.scheduler} (its own)", *others])),
        ("fields", ", ".join(item.fields)),
        workers,
    ]
