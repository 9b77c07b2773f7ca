"""``schema``: the manifest's JSON Schema, for producers in other languages."""

from __future__ import annotations

import json

import click

from producer.cli.help import SectionCommand, examples
from shared.schema import manifest_schema


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed schema", "seedbed schema > manifest.schema.json"),
)
def schema() -> None:
    """Print the JSON Schema of the manifest."""
    click.echo(json.dumps(manifest_schema(), indent=2))
