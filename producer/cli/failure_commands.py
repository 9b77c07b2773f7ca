"""``failures`` and ``retry``: jobs that were given up, and another chance for them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from producer.cli.help import SectionCommand, examples
from producer.cli.index_option import index_option
from producer.cli.output import json_option, limit_option, one_line, plain, print_json, say
from producer.cli.settings_options import pool_client
from producer.cli.sweep_argument import sweep_argument
from producer.client import Client

if TYPE_CHECKING:
    from producer.failures import DeadJob

SHOWN = 20
"""Jobs printed unless told otherwise."""


@click.command(
    cls=SectionCommand,
    epilog=examples(
        "seedbed failures shapes-study", "seedbed failures shapes-study --limit 0 --json"
    ),
)
@sweep_argument
@limit_option(SHOWN)
@pool_client
@json_option
def failures(sweep: str, limit: int, client: Client, as_json: bool) -> None:
    """List jobs that were given up: why, after how many tries, and whose they were.

    Each comes with the command that renders it alone. In a shell that names a pool, put
    SEEDBED_REDIS_URL= in front of it to have it rendered on this machine.
    """
    sweep_id = client.find(sweep)
    dead = client.dead_jobs(sweep_id)
    shown = dead[: limit or None]
    if as_json:
        print_json({"sweep_id": sweep_id, "dead": len(dead), "jobs": plain(shown)})
        return
    for job in shown:
        for line in _lines(job):
            click.echo(line)
    if not dead:
        say(f"{sweep_id}: no job was given up")
        return
    more = "" if len(shown) == len(dead) else f", {len(shown):,} shown; --limit 0 shows all"
    say(f"{_jobs(len(dead))} given up{more}; 'seedbed retry {sweep_id}' gives them another chance")


@click.command(
    cls=SectionCommand,
    epilog=examples("seedbed retry shapes-study", "seedbed retry shapes-study --index 3,17..19"),
)
@sweep_argument
@index_option("only these jobs")
@pool_client
@json_option
def retry(sweep: str, indices: list[range] | None, client: Client, as_json: bool) -> None:
    """Revive jobs that were given up, as if they had never been tried."""
    sweep_id = client.find(sweep)
    chosen = None if indices is None else itertools.chain.from_iterable(indices)
    revived = client.retry(sweep_id, indices=chosen)
    if as_json:
        print_json({"sweep_id": sweep_id, "revived": revived})
    else:
        say(f"{sweep_id}: {_jobs(revived)} revived")


def _lines(job: DeadJob) -> list[str]:
    when = datetime.fromtimestamp(job.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    tries = f"{job.attempts} {'try' if job.attempts == 1 else 'tries'}"
    where = f" on {job.worker}" if job.worker else ""
    return [
        one_line(job.title),
        f"  {one_line(job.reason)}",
        f"  {one_line(f'{tries}, the last{where}, {when}')}",
        f"  {job.command}",
    ]


def _jobs(count: int) -> str:
    return f"{count:,} {'job' if count == 1 else 'jobs'}"
