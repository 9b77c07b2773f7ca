"""``doctor``: is the pool as it should be?"""

from __future__ import annotations

import click

from producer.cli.help import SectionCommand, examples
from producer.cli.output import json_option, one_line, print_json
from producer.cli.settings_options import pool_client
from producer.client import Client
from producer.model_folder import absolute_model

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed doctor", "seedbed doctor --model ./my-checkpoint --json"),
)
@click.option("--model", help="also look whether this one is, or could be, served")
@pool_client
@json_option
def doctor(model: str | None, client: Client, as_json: bool) -> int:
    """Check Redis, the bucket, the workers and the model, a line each.

    Stores a small object, reads it back and deletes it. Exits 1 if anything keeps the pool from
    working. With --json, prints a line of JSON for each finding.
    """
    from producer.doctor import examine

    failed = False
    for finding in examine(client, model=None if model is None else absolute_model(model)):
        failed = failed or finding.level == "fail"
        if as_json:
            print_json(finding)
        else:
            level = click.style(f"{finding.level:<4}", fg=COLOURS[finding.level])
            click.echo(f"{level}  {finding.check:<18} {one_line(finding.text)}")
    return 1 if failed else 0
